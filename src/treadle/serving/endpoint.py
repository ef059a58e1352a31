"""The endpoint: rows in, answers out, whoever carries the bytes. Which version answers is the traffic's say; every answer is logged."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from treadle.core.declare.features import Derived
from treadle.core.errors import Corrupt, InvalidRequest, StorageError, Unavailable
from treadle.core.ids import new_id
from treadle.core.schema import Field
from treadle.features import derived, online
from treadle.ports.model_format import ModelFormat, Scorer
from treadle.ports.online import Key, OnlineStore, Value
from treadle.ports.predictions import Prediction
from treadle.serving.encode import Encoder
from treadle.serving.lookup import Lookup
from treadle.serving.requests import Parser, fields_of
from treadle.serving.service import Service

_json = msgspec.json.Encoder()
MISSING = "__missing__"  # in the logged inputs: why views had nothing to say
KEY = "__key__"  # in the logged inputs: a hash of the caller's header that decided the side of a split


class Loaded:
    """One model version, ready to answer."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any], formats: Mapping[str, Callable[[], ModelFormat]], number: int = 0) -> None:
        self.number = number or int(manifest.get("number", 0))
        self.manifest = manifest
        self.task: str = manifest["task"]
        self.labels: list[Any] = list(manifest["labels"])
        self.request, self.features = fields_of(manifest["signature"])
        info = {**manifest["model"], "files": [*manifest["files"], "manifest.json"]}
        if info["format"] not in formats:
            raise Corrupt(f"The package is of format {info['format']!r}, which this server does not open.", where=str(folder))
        self._scorer: Scorer = formats[info["format"]]().load(folder, info)
        self._encoder = Encoder(info["encoder"], [f.name for f in self.features])
        self.parser = Parser(self.request, self.features)
        self._plan = _plan(self.features, manifest["views"])
        self.moment_field: str | None = manifest.get("moment")
        self.service = Service()

    def feature_values(self, values: Mapping[str, Any], moment: int, store: OnlineStore) -> tuple[list[Any], dict[str, str]]:
        """The model's features for one parsed row, and why views had nothing valid at `moment`, by their names."""
        return self.feature_rows([values], [moment], store.get_many)[0]

    def feature_rows(
        self, rows: Sequence[Mapping[str, Any]], moments: Sequence[int], get_many: Callable[[Sequence[Key]], list[Value | None] | None]
    ) -> list[tuple[list[Any], dict[str, str]]]:
        """The same for many rows, for which the online store is asked once. `get_many` returns None when it does not answer."""
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

    def matrix(self, rows: Sequence[Sequence[Any]]) -> np.ndarray:
        """Rows of feature values as the model's float32 matrix."""
        return self._encoder.matrix(rows)

    def outputs(self, rows: Sequence[Sequence[Any]]) -> np.ndarray:
        """Probabilities (n, classes) or numbers (n, 1) for rows of feature values. Raises Corrupt when the model answers nonsense."""
        begun = time.perf_counter_ns()
        try:
            outputs = self._scorer.score(self._encoder.matrix(rows))
            if outputs.shape != (len(rows), max(1, len(self.labels))) or not np.isfinite(outputs).all():
                raise Corrupt(f"Version {self.number} answered with shape {outputs.shape} or values that are not finite.")
        except Exception:
            self.service.broke()
            raise
        self.service.done(len(rows), time.perf_counter_ns() - begun)
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


@dataclass(frozen=True)
class Traffic:
    """Who answers: immutable, so that a swap is one assignment and no request sees half of it.

    Args:
        stage: 'none', 'shadow' or 'trial' (the other version is asked and not heard), 'canary' (it answers its share), 'stopped'.
        key: what keeps a caller on one side: 'field:NAME', 'header:NAME', or '' (the prediction's id).
    """

    champion: Loaded | None
    challenger: Loaded | None = None
    stage: str = "none"
    share: float = 0.0
    key: str = ""


@dataclass(frozen=True)
class Answer:
    """What a caller gets for one row, and what is logged of it."""

    body: dict[str, Any]
    entry: Prediction


class Endpoint:
    """Answers rows of one model.

    Args:
        now: the present in microseconds since 1970 UTC, for rows that do not say their own moment.
        when_down: what is done while the online store does not answer: 'refuse' requests, or 'answer' them without its features.
    """

    def __init__(
        self, model: str, store: OnlineStore, now: Callable[[], int] = lambda: time.time_ns() // 1000,
        when_down: Literal["refuse", "answer"] = "refuse",
    ) -> None:  # fmt: skip
        self.model = model
        self.traffic = Traffic(None)
        self.lookup = Lookup(store, when_down)
        self.challenger_failures = 0
        self.prepared = 0.0  # seconds the last request took before the model was asked
        self._now = now

    def predict(self, rows: Sequence[Any], ids: Sequence[str] | None = None, caller: str = "") -> list[Answer]:
        """Answer rows. All are checked before any is answered.

        Args:
            caller: the value of the header that keeps a caller on one side of a split, if the traffic asks for one.

        Raises: InvalidRequest naming the row and its fields; Unavailable when nothing is deployed or the model was stopped.
        """
        begun = time.perf_counter_ns()
        traffic = self.traffic
        champion = traffic.champion
        if champion is None or traffic.stage == "stopped":
            raise Unavailable(f"Model {self.model!r} does not answer: {'it was stopped' if champion else 'no version is loaded'}.")
        if not rows:
            raise InvalidRequest("There are no rows.", hint="Send one object of fields, or {'rows': [{...}, ...]}.")
        parsed = [champion.parser.parse(row, f"row {i}" if len(rows) > 1 else "") for i, row in enumerate(rows)]
        now = self._now()
        field = champion.moment_field
        moments = [now if field is None or values.get(field) is None else int(values[field]) for values in parsed]
        for values, moment in zip(parsed, moments):
            if field is not None:
                values[field] = moment
        looked_up = champion.feature_rows(parsed, moments, self.lookup.get_many)
        self.prepared = (time.perf_counter_ns() - begun) / 1e9
        outputs = champion.outputs([features for features, _ in looked_up])
        other: np.ndarray | None = None
        challenger = traffic.challenger
        if challenger is not None:
            try:
                same = challenger.features == champion.features
                other = challenger.outputs(
                    [f for f, _ in (looked_up if same else challenger.feature_rows(parsed, moments, self.lookup.get_many))]
                )
                challenger.service.beside(champion.service)
                champion.service.beside(challenger.service)
            except Exception:  # whatever a challenger does, the caller gets the champion's answer; the failure counts against it
                self.challenger_failures += len(rows)
        micros = (time.perf_counter_ns() - begun) // 1000 // len(rows)
        answers = []
        for i, values in enumerate(parsed):
            id = ids[i] if ids else new_id("p")
            canary = challenger is not None and traffic.stage == "canary" and share_of(side(traffic.key, caller, values) or id) < traffic.share
            version, output, unheard = champion, outputs[i], other[i] if other is not None else None
            if canary and challenger is not None and other is not None:
                version, output, unheard = challenger, other[i], outputs[i]
            silent = champion if version is challenger else challenger if other is not None else None
            features, missing = looked_up[i]
            logged = {**values, MISSING: missing} if missing else values
            if caller and traffic.key.startswith("header:"):
                logged = {**logged, KEY: hashlib.blake2b(f"{self.model}:{caller}".encode(), digest_size=8).hexdigest()}
            entry = Prediction(
                id, self.model, moments[i], now, version.number, "champion" if version is champion else "canary", tuple(output.tolist()),
                silent.number if silent is not None else 0, tuple(unheard.tolist()) if unheard is not None else (),
                _json.encode(logged), _json.encode(features), micros,
            )  # fmt: skip
            answers.append(Answer(_body(entry, version, missing), entry))
        return answers


    def ages(self) -> dict[str, float]:
        """Seconds since the newest value of each view became known; nothing of a view that has none, or while the store does not answer."""
        champion = self.traffic.champion
        try:
            newest = {} if champion is None else {view: self.lookup.store.newest(view) for view in champion.manifest["views"]}
        except (Unavailable, StorageError):
            return {}
        return {view: (self._now() - time) / 1e6 for view, time in newest.items() if time is not None}


def _body(entry: Prediction, version: Loaded, missing: Mapping[str, str]) -> dict[str, Any]:
    body: dict[str, Any] = {"id": entry.id, "model": entry.model, "version": version.number}
    if version.task == "regression":
        body["prediction"] = entry.output[0]
    else:
        best = max(range(len(entry.output)), key=entry.output.__getitem__)
        body["prediction"] = version.labels[best]
        if version.task == "binary":
            body["probability"] = entry.output[1]
        body["probabilities"] = {_label(label): p for label, p in zip(version.labels, entry.output)}
    if missing:
        body["missing"] = list(missing)
        body["missing_because"] = dict(missing)
    return body


def _label(label: Any) -> str:
    return label if isinstance(label, str) else _json.encode(label).decode()


def side(key: str, caller: str, values: Mapping[str, Any]) -> str:
    """What decides a request's side of a split: the caller's sticky key, '' when there is none."""
    if not key:
        return ""
    value = caller if key.startswith("header:") else values.get(key[6:])
    return "" if value is None or value == "" else f"{key}={value}"


def share_of(id: str) -> float:
    """A number in [0, 1) that depends on nothing but the id: the same request is always on the same side of a split."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=7).digest(), "big") / 2**56
