"""Feature values that are ready now: packed for the online store, and read back for one request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.core.declare.data import View
from treadle.ports.online import Key, OnlineStore, Value

if TYPE_CHECKING:
    import polars as pl

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
SEPARATOR = "\x1f"
CHUNK = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def entity_key(values: Iterable[Any]) -> str:
    """The values of the entity columns as one text. A whole number is written without a point: requests carry every number as a float."""
    return SEPARATOR.join(str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values)


def packed(view: View, values: pl.DataFrame) -> Iterator[tuple[Key, Value]]:
    """The rows of a view's history as entries of the online store."""
    import polars as pl

    from treadle.features.history import AT, UNTIL

    features = list(view.feature_names())
    numbers = [pl.col(f).cast(pl.Float64) if values.schema[f].is_numeric() or values.schema[f] == pl.Boolean else pl.col(f) for f in features]
    times = values.select(pl.col(AT).cast(pl.Int64).alias("at"), pl.col(UNTIL).cast(pl.Int64).alias("until"))
    entities = values.select(pl.concat_str([_text(c, values.schema[c]) for c in view.entity], separator=SEPARATOR).alias("e"))["e"].to_list()
    for entity, at, until, row in zip(entities, times["at"].to_list(), times["until"].to_list(), values.select(numbers).iter_rows(), strict=True):
        if entity is not None:
            yield Key(view.name, entity), Value(at, _pack([until, *row]))


def _text(column: str, dtype: pl.DataType) -> pl.Expr:
    """One entity column as `entity_key` spells it for a request."""
    import polars as pl

    value = pl.col(column)
    if dtype == pl.Boolean:
        return value.cast(pl.Int8).cast(pl.String)
    if dtype.is_float():
        return pl.when(value == value.floor()).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
    return value.cast(pl.String)


def read(stored: Value | None, moment: int) -> list[Any] | None:
    """A view's features at `moment` (microseconds since 1970 UTC); None when nothing known then is still valid."""
    if stored is None or stored.time > moment:
        return None
    until, *features = _unpack(stored.packed)
    return None if until is not None and moment >= until else features


class Materialiser:
    """Brings the online store from one moment to the next along the histories of some views.

    Each step writes the values that became known since the last, so that the store never holds a value from after `moment`.
    """

    def __init__(self, store: OnlineStore, histories: Sequence[tuple[View, pl.DataFrame]]) -> None:
        from treadle.features.history import AT

        self._store = store
        self._views = []
        for view, values in histories:
            ordered = values.sort(AT, maintain_order=True)
            self._views.append((view, ordered, ordered[AT].cast(_int64()).to_numpy()))
        self._positions = [0] * len(self._views)
        self._ready: list[list[tuple[Key, Value]]] = [[] for _ in self._views]  # packed and waiting for their moment, latest first

    def fill(self, moment: datetime) -> int:
        """Write for each entity the one value known at `moment` (the first step of a fresh store); returns how many were written."""
        from treadle.features.history import known_at

        written = 0
        for i, (view, values, times) in enumerate(self._views):
            self._positions[i] = _upto(times, moment)
            self._ready[i].clear()
            written += self._store.put_many(packed(view, known_at(view, values, moment)))
        return written

    def advance(self, moment: datetime) -> int:
        """Write every value that became known since the last step, up to `moment`; returns how many were newer."""
        limit = _micros(moment)
        entries: list[tuple[Key, Value]] = []
        for i in range(len(self._views)):
            ready = self._ready[i]
            while True:
                while ready and ready[-1][1].time <= limit:
                    entries.append(ready.pop())
                if ready or not self._pack_next(i):
                    break
        return self._store.put_many(entries) if entries else 0

    def _pack_next(self, i: int) -> bool:
        """Pack the next chunk of a view's history; packing row by row as time goes on would cost far more than the values themselves."""
        view, values, times = self._views[i]
        start = self._positions[i]
        if start >= len(times):
            return False
        self._positions[i] = start + CHUNK
        self._ready[i].extend(reversed(list(packed(view, values[start : start + CHUNK]))))
        return True


def _upto(times: Any, moment: datetime) -> int:
    import numpy as np

    return int(np.searchsorted(times, _micros(moment), side="right"))


def _micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exactly: a float of seconds would round, and a value known at that very moment be late."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _int64() -> Any:
    import polars as pl

    return pl.Int64
