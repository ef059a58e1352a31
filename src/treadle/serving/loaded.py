"""One model version, opened and ready to answer: from typed rows to features, from features to the model's outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from treadle.core.declare.features import Derived
from treadle.core.errors import Corrupt
from treadle.core.schema import Field
from treadle.features import derived, online
from treadle.ports.model_format import ModelFormat, Scorer
from treadle.ports.online import Key, OnlineStore, Value
from treadle.serving.as_is import encoder_of
from treadle.serving.bulk import Bulk
from treadle.serving.contributions import Contributions
from treadle.serving.encode import FEW, Encoder
from treadle.serving.recalibration import Recalibration
from treadle.serving.requests import fields_of
from treadle.serving.rows import Reader, Row
from treadle.serving.service import Service
from treadle.serving.timing import Timing

Features = Sequence[Any]  # the values of one row's features, None for missing
Outputs = list[list[float]] | np.ndarray  # (n, classes) or (n, 1)
GetMany = Callable[[Sequence[Key]], list[Value | None] | None]


class Loaded:
    """One version.

    Args:
        folder: its opened package.
        manifest: what the package says of itself.
        formats: format name to a function that opens it.
        number: its number, if the manifest does not say.
        quick: opens what answers many rows quicker, bit for bit the same; None where nothing does.
    """

    def __init__(
        self, folder: Path, manifest: Mapping[str, Any], formats: Mapping[str, Callable[[], ModelFormat]], number: int = 0,
        quick: Callable[[], Scorer | None] | None = None,
    ) -> None:  # fmt: skip
        self.number = number or int(manifest.get("number", 0))
        self.folder = folder
        self.manifest = manifest
        self.task: str = manifest["task"]
        self.labels: list[Any] = list(manifest["labels"])
        self.request, self.features = fields_of(manifest["signature"])
        info = {**manifest["model"], "files": [*manifest["files"], "manifest.json"]}
        if info["format"] not in formats:
            raise Corrupt(f"The package is of format {info['format']!r}, which this server does not open.", where=str(folder))
        self._scorer: Scorer = formats[info["format"]]().load(folder, info)
        self._bulk = None if quick is None else Bulk(self._scorer, quick)
        self._encoder = encoder_of(info["encoder"], [f.name for f in self.features])
        self.moment_field: str | None = manifest.get("moment")
        self.reader = Reader(self.request, self.features, self.moment_field)
        self.parser = self.reader.parser
        self._plan = _plan(self.features, manifest["views"])
        self._sent = self.reader.columns([f.name for f in self.features]) if self._plan.only_sent else None
        self._may_lack = any(f.nullable for f in self.request)
        # Of which fields the features are, where they are nothing else.
        self.sent_names = tuple(f.name for f in self.features) if self._sent is not None else ()
        self.label_texts = [label if isinstance(label, str) else msgspec.json.encode(label).decode() for label in self.labels]
        self.promises: Sequence[Mapping[str, Any]] = ()  # calibrated intervals, from the version's evaluation (see training.conformal)
        self.recalibration: Recalibration | None = None  # through which it is answered now; set anew while it serves
        self.contributions: Contributions | None = None  # opened when an explanation is first asked for
        self.timing = Timing()
        self.service = Service()

    def feature_values(self, values: Mapping[str, Any], moment: int, store: OnlineStore) -> tuple[list[Any], dict[str, str]]:
        """The model's features for one parsed row, and why views had nothing valid at `moment`, by their names."""
        return self.look_up([values], [moment], store.get_many)[0]

    def feature_rows(self, rows: Sequence[Row], moments: Sequence[int], get_many: GetMany) -> tuple[list[Features], list[Mapping[str, str]] | None]:
        """The features of typed rows, for which the online store is asked once, and what is missing of each and why (None if of none).

        Args:
            get_many: returns None when the store does not answer.
        """
        if self._sent is not None:
            sent = self._sent
            found: list[Features] = [sent(row) for row in rows]
            if self._may_lack:
                return [tuple([None if v is UNSET else v for v in line]) if UNSET in line else line for line in found], None
            return found, None
        looked_up = self.look_up([self.reader.values(row) for row in rows], moments, get_many)
        missing: list[Mapping[str, str]] = [m for _, m in looked_up]
        return [f for f, _ in looked_up], missing if any(missing) else None

    def look_up(self, rows: Sequence[Mapping[str, Any]], moments: Sequence[int], get_many: GetMany) -> list[tuple[list[Any], dict[str, str]]]:
        """The same of rows that are mappings: (features, what is missing and why) of each."""
        views = self._plan.views
        stored: list[Value | None] | None = None
        if views:
            stored = get_many([Key(view.name, online.key_of(values, view.entity)) for values in rows for view in views])
        return [
            self._features(values, moment, stored if stored is None else stored[i * len(views) : (i + 1) * len(views)])
            for i, (values, moment) in enumerate(zip(rows, moments))
        ]

    def _features(self, values: Mapping[str, Any], moment: int, stored: Sequence[Value | None] | None) -> tuple[list[Any], dict[str, str]]:
        found: list[Any] = [None] * len(self.features)
        missing: dict[str, str] = {}
        for position, name in self._plan.sent:
            found[position] = values.get(name)
        for position, compute in self._plan.derived:
            found[position] = compute(values)
        for i, view in enumerate(self._plan.views):
            held = None if stored is None else stored[i]
            ready = online.read(held, moment)
            if ready is None:
                if any(values.get(c) is None for c in view.entity):
                    missing[view.name] = online.NO_ENTITY
                else:
                    missing[view.name] = online.UNREACHABLE if stored is None else online.why_missing(held, moment)
            for position, name, index in view.features:
                found[position] = values[name] if name in values else None if ready is None else ready[index]
        if self._plan.views and self._plan.after:
            known = {**values, **{name: found[position] for view in self._plan.views for position, name, _ in view.features}}
            for position, compute in self._plan.after:
                found[position] = compute(known)
        return found, missing

    @property
    def encoder(self) -> list[Mapping[str, Any]]:
        """How features fill the matrix: the package's encoder."""
        return list(self.manifest["model"]["encoder"])

    @property
    def width(self) -> int:
        """Columns of the matrix."""
        return self._encoder.width

    def matrix(self, rows: Sequence[Features]) -> np.ndarray:
        """Rows of feature values as the model's float32 matrix."""
        return self._encoder.matrix(rows)

    @property
    def takes_columns(self) -> bool:
        """Whether every feature is a field of the request and is encoded here, and nothing is said of a row alone: else rows are the way."""
        return bool(self.sent_names) and isinstance(self._encoder, Encoder) and self.recalibration is None

    def column_matrix(self, columns: Sequence[Sequence[Any] | np.ndarray], count: int) -> np.ndarray:
        """The matrix of `count` rows from the values of each feature."""
        assert isinstance(self._encoder, Encoder)
        return self._encoder.columns(columns, count)

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Probabilities (n, classes) or numbers (n, 1) for an encoded matrix, as the model gives them."""
        return self._scorer.score(matrix)

    def warm(self) -> None:
        """Score a row of missing values a few times, so that the first request does not pay for it and what a call costs is known."""
        row = self.matrix([[None] * len(self.features)])
        for rows in (1, 1, 1, 32, 32):
            begun = time.perf_counter()
            try:
                self.score(np.repeat(row, rows, axis=0))
            except Exception:  # a model that takes no missing values is measured by its first requests
                return
            self.timing.note(rows, time.perf_counter() - begun)

    def checked(self, outputs: Any, count: int) -> Outputs:
        """The outputs of `count` rows: as lists if they are few. Raises Corrupt when the model answered nonsense."""
        shape = getattr(outputs, "shape", None)
        if shape == (count, max(1, len(self.labels))):
            if count < FEW:  # the sums are quicker than a call of NumPy; a sum of finite numbers may be infinite
                answers: list[list[float]] = outputs.tolist()
                if all(map(isfinite, map(sum, answers))):
                    return answers
            if np.isfinite(outputs).all():
                return outputs  # type: ignore[no-any-return]
        raise Corrupt(f"Version {self.number} answered with shape {shape} or values that are not finite.")

    def call(self, matrix: np.ndarray) -> Outputs:
        """The checked outputs of an encoded matrix, counted and timed. Raises what the model raises, and Corrupt when it answers nonsense."""
        begun = time.perf_counter_ns()
        try:
            outputs = self.checked((self._bulk or self._scorer).score(matrix), len(matrix))
        except Exception:
            self.service.broke()
            raise
        nanos = time.perf_counter_ns() - begun
        self.service.done(len(matrix), nanos)
        self.timing.note(len(matrix), nanos / 1e9)
        return outputs

    def outputs(self, rows: Sequence[Features]) -> np.ndarray:
        """Probabilities (n, classes) or numbers (n, 1) for rows of feature values. Raises Corrupt when the model answers nonsense."""
        outputs = self._scorer.score(self._encoder.matrix(rows))
        self.checked(outputs, len(rows))
        return outputs


@dataclass(frozen=True)
class _View:
    name: str
    entity: tuple[str, ...]
    features: tuple[tuple[int, str, int], ...]  # (position in the model's features, name, position in the stored value)


@dataclass(frozen=True)
class _Plan:
    sent: list[tuple[int, str]]
    derived: list[tuple[int, Callable[[Mapping[str, Any]], Any]]]
    views: list[_View]
    after: list[tuple[int, Callable[[Mapping[str, Any]], Any]]]  # computed from what the views said, too

    @property
    def only_sent(self) -> bool:
        """Whether every feature is a field of the request."""
        return not (self.derived or self.views or self.after)


def _plan(features: Sequence[Field], views: Mapping[str, Mapping[str, Any]]) -> _Plan:
    position = {f.name: i for i, f in enumerate(features)}
    from_views = {f.name for f in features if f.source == "view"}
    late = {f.name for f in features if f.source == "derived" and not from_views.isdisjoint(Derived(f.name, f.rule).columns)}
    computed = {f.name: (i, derived.function(f.rule)) for i, f in enumerate(features) if f.source == "derived"}
    return _Plan(
        [(i, f.name) for i, f in enumerate(features) if f.source == "request"],
        [entry for name, entry in computed.items() if name not in late],
        [
            _View(name, tuple(v["entity"]), tuple((position[f], f, i) for i, f in enumerate(v["features"]) if f in position))
            for name, v in views.items()
        ],
        [entry for name, entry in computed.items() if name in late],
    )  # fmt: skip
