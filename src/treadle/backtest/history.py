"""The recorded history a backtest lives through: a model's rows in order of time, with what was known when, cut into blocks.

Feature histories are those of a real turn (point-in-time correct on known time), computed once; nothing here looks past a moment by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from treadle.assemble import Workspace
from treadle.backtest.faults import Fault, broken
from treadle.core.canonical import digest
from treadle.core.clock import iso, parse_time
from treadle.core.declare.model import Model
from treadle.core.errors import DataError, UsageError
from treadle.core.schema import Field
from treadle.features.rows import KEY, KNOWN, MOMENT, TARGET
from treadle.monitoring.sketches import Sketch, sketch_column
from treadle.serving.requests import fields_of
from treadle.training.target import Target, target_of
from treadle.wheel.packaging import feature_columns
from treadle.wheel.turn import turn

NEVER = 2**62


@dataclass
class History:
    """Rows in order of their moments; all times are microseconds since 1970 UTC.

    Args:
        known: when a row's truth became known; NEVER where it did not.
        truth: class codes (-1 unknown) or numbers (NaN unknown).
        begin, end: the stretch that is lived through, begin <= moment < end; before it there is only learning.
        address: what the rows came from and were changed by, to recognise results.
    """

    rows: pl.DataFrame
    moments: np.ndarray
    known: np.ndarray
    truth: np.ndarray
    target: Target
    features: list[Field]
    begin: int
    end: int
    every: int
    address: str
    faults: tuple[Fault, ...] = ()
    _sketched: dict[int, dict[str, Sketch]] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sketched": {}}

    def between(self, start: int, end: int) -> slice:
        """The rows with start <= moment < end."""
        low, high = np.searchsorted(self.moments, [start, end])
        return slice(int(low), int(high))

    def blocks(self) -> range:
        """Where the blocks start. The first is the one `begin` lies in: a clock's day, not a day after begin."""
        return range(self.begin // self.every * self.every, self.end, self.every)

    def known_by(self, moment: int) -> np.ndarray:
        """Positions of the rows whose truth was known by then."""
        upto = int(np.searchsorted(self.moments, moment, side="right"))
        return np.flatnonzero(self.known[:upto] <= moment)

    def sketches(self, start: int) -> dict[str, Sketch]:
        """The features of a block, which are the same whoever answers."""
        if start not in self._sketched:
            part = self.rows[self.between(start, start + self.every)]
            self._sketched[start] = {f.name: sketch_column(_values(part[f.name]), f.kind) for f in self.features}
        return self._sketched[start]


def history_of(
    ws: Workspace, model: Model, *, begin: datetime | None = None, end: datetime | None = None, faults: Sequence[Fault] = ()
) -> History:  # fmt: skip
    """Compute the model's rows (or find them) and cut out what is to be lived through.

    Args:
        begin: the first moment; after the first quarter of the rows if not given.
        end: stop before this moment; after the last row if not given.
    Raises: UsageError without event times or a watch; DataError when nothing lies between.
    """
    if not model.rows.event_time:
        raise UsageError(f"Data set {model.rows.name!r} declares no event_time, so there is no order to live through.", where=model.rows.place)
    if model.kind is not None:
        raise UsageError(f"A backtest of a {model.kind.name} task is not offered.", where=model.place, hint="Backtest classes or numbers.")
    watch = ws.watch_of(model)
    if watch is None:
        raise UsageError(f"The project does not watch model {model.name!r}.", where=model.place, hint="Add: project.watch(model)")
    outcome = turn(ws, model, cause={"kind": "backtest", "id": "", "text": "rows to live through"}, until="signature", also=("rows",))
    rows: pl.DataFrame = outcome["rows"]
    rows = rows.filter(pl.col(MOMENT).is_not_null()).sort(MOMENT, KEY)
    if not rows.height:
        raise DataError("There are no rows.", where=f"data set {model.rows.name!r}")
    target = target_of(model, rows)
    features = fields_of(outcome["signature"])[1]
    rows = broken(rows, faults, [f.name for f in features], target)
    moments = rows[MOMENT].cast(pl.Int64).to_numpy()
    truth, known = _truth(rows, target)
    first = _micros(begin) if begin else int(moments[len(moments) // 4])
    last = min(_micros(end), int(moments[-1]) + 1) if end else int(moments[-1]) + 1
    if not np.any((moments >= first) & (moments < last)):
        raise DataError(
            f"There are no rows between {_day(first)} and {_day(last)}.", where=f"data set {model.rows.name!r}",
            hint=f"It has rows from {_day(int(moments[0]))} to {_day(int(moments[-1]))}.",
        )  # fmt: skip
    name = digest([outcome.address("rows"), [f.said() for f in faults]])[:24]
    return History(rows, moments, known, truth, target, features, first, last, _length(watch.every), name, tuple(faults))


def numbers_and_categories(history: History) -> tuple[list[str], list[str]]:
    """The names of the features that are numbers, and of those that are categories."""
    return feature_columns(history.rows)


def _truth(rows: pl.DataFrame, target: Target) -> tuple[np.ndarray, np.ndarray]:
    there = rows[TARGET].is_not_null().to_numpy()
    known = rows[KNOWN].cast(pl.Int64).fill_null(NEVER).to_numpy().copy()
    known[~there] = NEVER
    if target.task == "regression":
        return rows[TARGET].cast(pl.Float64).fill_null(float("nan")).to_numpy(), known
    truth = np.full(rows.height, -1, dtype=np.int64)
    truth[there] = target.codes(rows[TARGET].filter(pl.Series(there)))
    return truth, known


def _values(column: pl.Series) -> Any:
    return column.to_numpy() if column.dtype.is_numeric() else column.to_list()


def _micros(moment: datetime) -> int:
    return round((moment - parse_time("1970-01-01")).total_seconds() * 1_000_000)


def _length(span: timedelta) -> int:
    return round(span.total_seconds() * 1_000_000)


def _day(micros: int) -> str:
    return iso(moment_of(micros))[:10]


def moment_of(micros: int) -> datetime:
    """Microseconds since 1970 UTC as a moment."""
    return parse_time("1970-01-01") + timedelta(microseconds=int(micros))
