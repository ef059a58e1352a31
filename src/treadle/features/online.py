"""Feature values that are ready now: packed for the online store, and read back for one request."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import msgspec

from treadle.core.declare.data import View
from treadle.ports.online import Key, OnlineStore, Value

if TYPE_CHECKING:
    import polars as pl

# A stored value is a msgpack array: the end of the value, then its features. Where all of them are numbers, it is a byte that begins no msgpack,
# eight bytes a feature, and the end.
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_NUMBERS = 0xC1
_NEVER = 2**63 - 1
_unpack_numbers: dict[int, Callable[[bytes], tuple[Any, ...]]] = {}  # by the length of the bytes
SEPARATOR = "\x1f"
CHUNK = 4096
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def entity_key(values: Iterable[Any]) -> str:
    """The values of the entity columns as one text. A whole number is written without a point: requests carry every number as a float."""
    return SEPARATOR.join(str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values)


def packed(view: View, values: pl.DataFrame, *, expire: bool = False) -> Iterator[tuple[Key, Value]]:
    """The rows of a view's history as entries of the online store.

    Args:
        expire: tell the store when a value ends, so that it may drop it then; only right where the present is the wall clock's.
    """
    import polars as pl

    from treadle.features.history import AT, EVENT, UNTIL

    features = list(view.feature_names())
    numbers = [pl.col(f).cast(pl.Float64) if values.schema[f].is_numeric() or values.schema[f] == pl.Boolean else pl.col(f) for f in features]
    event = pl.coalesce(EVENT, AT) if EVENT in values.columns else pl.col(AT)
    times = values.select(
        pl.concat_str([_text(c, values.schema[c]) for c in view.entity], separator=SEPARATOR).alias("entity"),
        pl.col(AT).cast(pl.Int64), pl.col(UNTIL).cast(pl.Int64), event.cast(pl.Int64).alias("event"),
    )  # fmt: skip
    name, shaped = view.name, values.select(numbers)
    only_numbers = all(dtype == pl.Float64 for dtype in shaped.dtypes)
    as_numbers = struct.Struct(f"<B{len(features)}dq").pack
    for (entity, at, until, about), row in zip(times.iter_rows(), shaped.iter_rows(), strict=True):
        if entity is not None:
            whole = only_numbers and None not in row
            stored = as_numbers(_NUMBERS, *row, _NEVER if until is None else until) if whole else _pack((until, *row))
            yield Key(name, entity), Value(at, stored, about, until if expire else None)


def _numbers(stored: bytes) -> tuple[Any, ...]:
    """The features and the end of a stored value of numbers."""
    unpack = _unpack_numbers.get(len(stored))
    if unpack is None:
        unpack = _unpack_numbers[len(stored)] = struct.Struct(f"<x{(len(stored) - 9) // 8}dq").unpack
    return unpack(stored)


def _text(column: str, dtype: pl.DataType) -> pl.Expr:
    """One entity column as `entity_key` spells it for a request."""
    import polars as pl

    value = pl.col(column)
    if dtype == pl.Boolean:
        return value.cast(pl.Int8).cast(pl.String)
    if dtype.is_float():
        return pl.when(value == value.floor()).then(value.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(value.cast(pl.String))
    return value.cast(pl.String)


# Why a view has nothing to say of an entity at a moment.
NO_ENTITY, UNKNOWN, NOT_YET, TOO_OLD, UNREACHABLE = "no entity", "unknown", "not yet", "too old", "unreachable"


def read(stored: Value | None, moment: int) -> list[Any] | None:
    """A view's features at `moment` (microseconds since 1970 UTC); None when nothing known then is still valid."""
    if stored is None or stored[0] > moment:
        return None
    if stored[1][0] == _NUMBERS:
        numbers = _numbers(stored[1])
        return list(numbers[:-1]) if moment < numbers[-1] else None
    features: list[Any] = _unpack(stored[1])
    until = features[0]
    if until is not None and moment >= until:
        return None
    del features[0]
    return features


def why_missing(stored: Value | None, moment: int) -> str:
    """Why `read` found nothing."""
    return UNKNOWN if stored is None else NOT_YET if stored.time > moment else TOO_OLD


class Found(msgspec.Struct, gc=False):  # a dataclass would take three times as long to make
    """What a view said of an entity: its features by name (None for each if it had nothing), how old they are in seconds, or why there is nothing."""

    values: dict[str, Any]
    age: float | None = None
    missing: str = ""


def look_up(store: OnlineStore, views: Sequence[View], entities: Sequence[Mapping[str, Any]], moment: datetime) -> list[dict[str, Found]]:
    """What each view says of each entity at `moment`, ttl applied: one answer an entity, by view.

    Args:
        entities: column to value; a view whose entity columns are not all there has nothing to say.
    """
    at = _micros(moment)
    named = [(view.name, view.entity, view.entity[0] if len(view.entity) == 1 else "", view.feature_names()) for view in views]
    keys = []
    for entity in entities:
        for name, columns, only, _ in named:
            value = entity.get(only) if only else None
            keys.append((name, value if value.__class__ is str else str(value) if value.__class__ is int else key_of(entity, columns)))
    found = iter(store.get_many(cast("list[Key]", keys)))  # plain pairs: making a Key of each would be a tenth of the whole
    unpack, numbers, answers = _unpack, _unpack_numbers, []
    for entity in entities:
        answer = {}
        for name, columns, _, features in named:
            held = next(found)
            if held is not None and (time := held[0]) <= at:
                stored = held[1]
                if stored[0] == _NUMBERS:
                    values = (numbers.get(len(stored)) or _numbers)(stored)
                    until = values[-1]
                else:
                    values = unpack(stored)
                    until = values[0]
                    del values[0]
                if until is None or at < until:
                    answer[name] = Found(dict(zip(features, values)), (at - time) / 1e6)
                    continue
            complete = all(entity.get(c) is not None for c in columns)
            answer[name] = Found(dict.fromkeys(features), None, why_missing(held, at) if complete else NO_ENTITY)
        answers.append(answer)
    return answers


def key_of(values: Mapping[str, Any], columns: Sequence[str]) -> str:
    """The key of the entity that some values name; that of no entity if one is missing."""
    if len(columns) == 1:
        value = values.get(columns[0])
        return value if value.__class__ is str else "" if value is None else entity_key((value,))
    entity = [values.get(c) for c in columns]
    return "" if None in entity else entity_key(entity)


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
