"""A request that came as columns, answered as columns: no row is ever looked at alone.

Columns are taken where they plainly fit a model whose features are all fields of the request. Anything else (a value that does not fit, features that
are looked up or computed, texts that say times) goes the way of rows, which knows every reason and every case.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.core.schema import Field
from treadle.ports.prediction_blocks import Block
from treadle.serving.entries import CHAMPION, outputs
from treadle.serving.loaded import Loaded
from treadle.serving.requests import FIRST, LAST, LONGEST_TEXT

if TYPE_CHECKING:
    import polars as pl

_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Columns:
    """The rows of a request that all fit.

    Args:
        loaded: the version they were read for. frame: what came. now: when.
        sent: the fields that were sent, as the log keeps them (moments and truth as numbers).
        features: the values of each feature: numbers with NaN for missing, texts with None.
        moments: of the rows; None where they did not say.
    """

    loaded: Loaded
    frame: pl.DataFrame
    now: int
    sent: pl.DataFrame
    features: Sequence[Sequence[Any] | np.ndarray]
    moments: np.ndarray | None

    def __len__(self) -> int:
        return self.frame.height


@dataclass(slots=True, eq=False)
class AnsweredColumns:
    """The rows of one request with their answers, as `answers.Answered` is of rows.

    Args:
        outputs, other: float64 of shape (n, classes) or (n, 1).
    """

    model: str
    base: str
    ids: Sequence[str]
    asked: Columns
    champion: Loaded
    outputs: np.ndarray
    challenger: Loaded | None = None
    other: np.ndarray | None = None
    micros: int = 0
    prepared: float = 0.0
    canary: None = None
    missing: None = None
    own: None = None

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> list[tuple[int, str, int]]:
        """How many rows each version answered."""
        return [(self.champion.number, CHAMPION, len(self.ids))]

    def predictions(self) -> list[Block]:
        """The entry of the prediction log."""
        moments = self.asked.moments
        out = io.BytesIO()
        self.asked.sent.write_ipc_stream(out)
        return [
            Block(
                base=self.base, model=self.model, count=len(self), moments=self.asked.now if moments is None else moments.astype("<i8").tobytes(),
                answered=self.asked.now, inputs=out.getvalue(), names=self.champion.sent_names, arrow=True, micros=self.micros, **outputs(self),
            )
        ]  # fmt: skip


def read_columns(frame: pl.DataFrame, loaded: Loaded, now: int) -> Columns | None:
    """The columns of a request, or None where rows are the way.

    Args:
        now: the moment of rows that do not say theirs.
    """
    import polars as pl

    if not loaded.takes_columns or not {f.name for f in loaded.request} >= set(frame.columns) or not frame.height:
        return None
    count = frame.height
    values: dict[str, Sequence[Any] | np.ndarray] = {}
    kept: list[pl.Series] = []
    for field in loaded.request:
        name = field.name
        if name not in frame.columns:
            if not field.nullable:
                return None
            continue
        found = _taken(frame[name], field)
        if found is None:
            return None
        values[name], column = found
        kept.append(column)
    moments: np.ndarray | None = None
    if loaded.moment_field is not None:
        if loaded.moment_field not in values:
            kept.append(pl.Series(loaded.moment_field, np.full(count, now)))
        else:
            said = next(column for column in kept if column.name == loaded.moment_field)
            if said.null_count():
                return None
            moments = said.to_numpy()
            if moments.min() // _DAY != moments.max() // _DAY:  # a block of the log is of one day
                return None
    absent = [None] * count
    for name in loaded.sent_names:
        if name not in values:
            values[name] = absent
            kept.append(pl.Series(name, absent, dtype=pl.Null))
    return Columns(loaded, frame, now, pl.DataFrame(kept), [values[name] for name in loaded.sent_names], moments)


def _taken(column: pl.Series, field: Field) -> tuple[Sequence[Any] | np.ndarray, pl.Series] | None:
    """The values as the encoder takes them, and as the log keeps them; None where a row has to say why it does not fit."""
    import polars as pl

    kind, dtype = field.kind, column.dtype
    if column.null_count() and not field.nullable:
        return None
    if kind in ("category", "text"):
        if dtype != pl.String:
            return None
        texts = column.to_list()
        if column.estimated_size() > LONGEST_TEXT and max(map(len, filter(None, texts)), default=0) > LONGEST_TEXT:
            return None
        return texts, column
    if kind == "boolean":
        if dtype != pl.Boolean:
            return None
        column = column.cast(pl.Float64)
    elif kind == "timestamp":
        if dtype.base_type() != pl.Datetime:
            return None
        column = column.dt.cast_time_unit("us").cast(pl.Int64)
        least, most = column.min(), column.max()
        if least is not None and not FIRST <= least <= most <= LAST:  # type: ignore[operator]
            return None
        return column.cast(pl.Float64).fill_null(float("nan")).to_numpy(), column
    elif kind in ("number", "integer"):
        if not (dtype.is_float() or dtype.is_integer()):
            return None
        column = column if dtype == pl.Float64 else column.cast(pl.Float64)
    else:
        return None
    numbers = (column.fill_null(float("nan")) if column.null_count() else column).to_numpy()
    return (numbers, column) if _fit(numbers, field) else None


def _fit(numbers: np.ndarray, field: Field) -> bool:
    """Whether all fit that are there: NaN is a missing value only where the column says so."""
    known = numbers
    if not np.isfinite(numbers).all():
        known = numbers[~np.isnan(numbers)]
        if not field.nullable or np.isinf(known).any():
            return False
    if field.kind == "integer" and (known != np.floor(known)).any():
        return False
    return not ((field.ge is not None and (known < field.ge).any()) or (field.le is not None and (known > field.le).any()))
