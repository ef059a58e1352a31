"""A model's answers to many rows at once: what the endpoint would answer to each of them alone.

Columns take the way that rows take in `endpoint.py`: fields are checked, features are computed of them, views are joined as they were known at each
row's moment, the matrix is filled, the model answers. `agree` sends some rows both ways and compares.

A network may answer a row otherwise by the last bits among many rows than alone, because it adds up in another order. Where the first rows show that,
an ONNX model is asked a row at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import polars as pl

from treadle.core.declare.data import View
from treadle.core.declare.features import Derived
from treadle.core.errors import Corrupt, DataError
from treadle.features import derived
from treadle.features.history import join_all
from treadle.features.parity import request_of
from treadle.ports.model_format import Scorer
from treadle.ports.online import Key, OnlineStore, Value
from treadle.serving.columns import MOMENT, columns_of
from treadle.serving.columns_as_is import ROWS, ColumnsAsIs, encoder_of
from treadle.serving.loaded import Loaded
from treadle.serving.requests import Parser, micros

ONNX, COMPARED = ("onnx", "onnx-file"), 32  # asked a row at a time where so many rows are answered otherwise alone
CLOSE = 1e-5  # as in packaging
CHUNK = 16_384  # rows of one matrix: more gains nothing, and takes memory
_AT = "__moment__"


@dataclass(frozen=True)
class Answered:
    """Answers to rows, in their order: `answers` has a row for each, null where `refused` says why."""

    answers: pl.DataFrame
    refused: pl.Series
    typed: pl.DataFrame  # the fields of the rows
    features: pl.DataFrame  # of the rows that were not refused
    outputs: np.ndarray


class Batch:
    """One loaded version, answering frames.

    Args:
        histories: the histories of the version's views, for rows whose views are looked up.
        now: the moment of rows that do not say their own.
        sent: view features are taken from columns of the rows, as fields of a request, where there are such columns; the rest is looked up.
        quick: another way to the same answers. Both are asked about the first rows; one that answers otherwise by a bit is not asked again.
    """

    def __init__(
        self, loaded: Loaded, histories: Sequence[tuple[View, pl.DataFrame]] = (), *, now: datetime, sent: Sequence[str] = (),
        quick: Scorer | None = None,
    ) -> None:  # fmt: skip
        self.loaded = loaded
        self.quick, self._proved = quick, False
        self._encoder = encoder_of(loaded.encoder)
        self._as_is = isinstance(self._encoder, ColumnsAsIs)
        self._alone: bool | None = None if loaded.manifest["model"]["format"] in ONNX and quick is None else False
        self._now = now
        views = {f.name for f in loaded.features if f.source == "view"}
        self._sent = [f for f in loaded.features if f.name in set(sent) & views]
        needed = {f.view for f in loaded.features if f.source == "view" and f not in self._sent}
        self._histories = [(view, values) for view, values in histories if view.name in needed]
        lacking = needed - {view.name for view, _ in self._histories}
        if lacking:
            raise DataError(f"The version needs view {sorted(lacking)[0]!r}, whose history is not there.", hint="Is the view still declared?")
        self._from_views = views
        self._derived = [Derived(f.name, f.rule) for f in loaded.features if f.source == "derived"]
        self._fields = [*loaded.request, *self._sent]
        names = {f.name for f in loaded.request}
        self._parser = Parser(self._fields, [f for f in loaded.features if f.name not in names])

    @property
    def fields(self) -> list[str]:
        """The columns that are read, where they are there."""
        return [f.name for f in self._fields]

    def answer(self, frame: pl.DataFrame, *, text: bool = False) -> Answered:
        """Answers to the rows of a frame. Raises DataError for columns the model cannot take, Corrupt when the model answers nonsense."""
        typed, refused = columns_of(frame, self._fields, self._parser, text=text)
        good = refused.is_null()
        features = self.features(typed if good.all() else typed.filter(good))
        outputs = np.empty((features.height, max(1, len(self.loaded.labels))))
        rows = ROWS if self._as_is else CHUNK
        for start in range(0, features.height, rows):
            part = features[start : start + rows]
            outputs[start : start + part.height] = self._scored(self._encoder.matrix(part))
        if self.loaded.recalibration is not None:
            outputs = self.loaded.recalibration.answers(outputs)
        answers = answers_of(self.loaded, outputs)
        if not good.all():
            place = pl.when(good).then(good.cast(pl.Int64).cum_sum() - 1).alias("place")
            answers = answers.select(pl.all().gather(pl.select(place).to_series()))
        return Answered(answers, refused, typed, features, outputs)

    def features(self, typed: pl.DataFrame) -> pl.DataFrame:
        """The model's features of typed rows, by name, in the order of its signature."""
        if self._as_is:  # a model made elsewhere: its features are the fields
            return typed
        field = self.loaded.moment_field
        moments = pl.repeat(self._now, typed.height, dtype=MOMENT, eager=True) if not field else typed[field].fill_null(self._now)
        rows = typed.with_columns(moments.alias(field)) if field else typed
        known = rows.drop(self._from_views - {f.name for f in self._sent}, strict=False)
        if self._histories:
            entities = {c: values.schema[c] for view, values in self._histories for c in view.entity}
            asked = rows.select(pl.col(c).cast(dtype, strict=False) for c, dtype in entities.items()).with_columns(moments.alias(_AT))
            joined = join_all(asked, _AT, self._histories)
            known = known.hstack([c for c in joined.get_columns() if c.name not in known.columns])
        columns = {c.name: c for c in known.get_columns()}
        for item in self._derived:
            columns[item.name] = _computed(item, known)
        return pl.DataFrame([_as_feature(columns[f.name]).alias(f.name) for f in self.loaded.features])

    def _scored(self, matrix: np.ndarray) -> np.ndarray:
        quick = self.quick
        if self._alone:
            return self._one_by_one(matrix)
        outputs = quick.score(matrix) if quick is not None and self._proved else self.loaded._scorer.score(matrix)
        if self._alone is None and len(matrix) > 1:  # a network adds up in another order among many rows
            first = self._one_by_one(matrix[:COMPARED])
            self._alone = not np.array_equal(first, outputs[: len(first)])
            if self._alone:
                return self._one_by_one(matrix)
        if quick is not None and not self._proved:
            self._proved = bool(np.array_equal(quick.score(matrix), outputs))
            self.quick = quick if self._proved else None
        if outputs.shape != (len(matrix), max(1, len(self.loaded.labels))) or not np.isfinite(outputs).all():
            raise Corrupt(f"Version {self.loaded.number} answered with shape {outputs.shape} or values that are not finite.")
        return outputs

    def _same(self, alone: np.ndarray, among: np.ndarray) -> bool:
        """Whether two answers to one row are one: to the last bit; of a library that adds up in another order among many rows, but cannot be asked a
        row at a time in any reasonable time, as closely as a package answers like its model, with the same label."""
        if np.array_equal(alone, among):
            return True
        close = self.loaded.manifest["model"]["format"] not in ONNX and bool(np.allclose(alone, among, rtol=CLOSE, atol=CLOSE))
        return close and (len(alone) == 1 or int(alone.argmax()) == int(among.argmax()))

    def _one_by_one(self, matrix: np.ndarray) -> np.ndarray:
        answers = np.concatenate([self.loaded._scorer.score(matrix[i : i + 1]) for i in range(len(matrix))])
        if answers.shape != (len(matrix), max(1, len(self.loaded.labels))) or not np.isfinite(answers).all():
            raise Corrupt(f"Version {self.loaded.number} answered with shape {answers.shape} or values that are not finite.")
        return answers

    def agree(self, answered: Answered, most: int = 50) -> int:
        """Send rows the endpoint's way, one by one, and compare what is answered; returns how many. Raises Corrupt where they differ."""
        if answered.refused.is_not_null().all():
            return 0
        places = answered.refused.is_null().arg_true()[:most].to_list()
        fields = [f.name for f in self.loaded.request]
        looked_up = [f.name for f in self.loaded.features if f.source == "view"]
        for number, row in enumerate(places):
            request: dict[str, Any] = request_of(answered.typed.row(row, named=True), fields)
            values = self.loaded.parser.parse(request)
            moment = self.loaded.moment_field
            at = values.get(moment) if moment else None
            at = micros(self._now) if at is None else int(at)
            if moment:
                values[moment] = at
            of_views = {name: answered.features[number, name] for name in looked_up}
            features, _ = self.loaded.feature_values({**values, **of_views}, at, cast(OnlineStore, _Empty()))
            alone = self.loaded.outputs([features])[0]
            if self.loaded.recalibration is not None:
                alone = np.array(self.loaded.recalibration.lists([alone.tolist()])[0])
            if not self._same(alone, answered.outputs[number]):
                raise Corrupt(
                    f"Row {row} is answered {answered.outputs[number].tolist()} among others and {alone.tolist()} alone.",
                    hint="Please report this; nothing of this part is kept.",
                )
        return len(places)


class _Empty:
    """An online store in which nothing is, for rows whose view features are sent."""

    def get_many(self, keys: Sequence[Key]) -> list[Value | None]:
        return [None] * len(keys)


_CALENDAR = ("hour", "minute_of_day", "weekday", "month")
_NEAR = (datetime(1901, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC))  # between them Polars and Python agree on every time zone


def _computed(item: Derived, known: pl.DataFrame) -> pl.Series:
    """A computed feature; of moments far off as the endpoint computes it, since Polars' tables of time zones end."""
    made = derived.column(item, known)
    if item.rule[0] in _CALENDAR:
        moments = known[item.rule[1]]
        far = ~moments.is_between(*_NEAR).fill_null(True)
        if far.any():
            alone, places = derived.function(item.rule), far.arg_true()
            times = moments.cast(MOMENT).cast(pl.Int64)[places].to_list()
            return made.cast(pl.Float64).scatter(places, [alone({item.rule[1]: time}) for time in times])
    return made


def _as_feature(values: pl.Series) -> pl.Series:
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        return values if values.dtype == pl.Float64 else values.cast(pl.Float64)
    if values.dtype.base_type() == pl.Datetime:
        return values.cast(pl.Int64).cast(pl.Float64)
    return values.cast(pl.String).fill_null("")


def answers_of(loaded: Loaded, outputs: np.ndarray) -> pl.DataFrame:
    """Model outputs as columns: `prediction`; of two classes the `probability` of the second; of more classes one `probability_LABEL` each."""
    if loaded.task == "regression":
        return pl.DataFrame({"prediction": outputs[:, 0]})
    labels = pl.Series("prediction", loaded.labels)
    chosen = labels[pl.Series(outputs.argmax(axis=1), dtype=pl.UInt32)] if len(outputs) else labels.clear()
    if loaded.task == "binary":
        return pl.DataFrame([chosen, pl.Series("probability", outputs[:, 1].copy())])
    return pl.DataFrame([chosen, *(pl.Series(f"probability_{label}", outputs[:, i].copy()) for i, label in enumerate(loaded.labels))])
