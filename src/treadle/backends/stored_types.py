"""How column types are stored: as the plain types of Delta Lake, which every reader of it knows, and back.

Delta Lake has no unsigned numbers, enumerations, durations, times of day or other time zones than UTC. Such a column is stored as the nearest type
that loses nothing (UInt32 as long, Enum as string, Duration as long, ...), and its own type is noted beside it.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from treadle.core.errors import DataError

_PLAIN: dict[Any, str] = {
    pl.Int8: "byte", pl.Int16: "short", pl.Int32: "integer", pl.Int64: "long", pl.Float32: "float", pl.Float64: "double", pl.Boolean: "boolean",
    pl.String: "string", pl.Binary: "binary", pl.Date: "date",
}  # fmt: skip
_NAMES: dict[str, Any] = {
    str(t): t for t in (
        *_PLAIN, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Categorical, pl.Null, pl.Time,
    )
}  # fmt: skip
_STORED: dict[Any, Any] = {
    pl.UInt8: pl.Int16(), pl.UInt16: pl.Int32(), pl.UInt32: pl.Int64(), pl.UInt64: pl.Decimal(20, 0), pl.Time: pl.Int64(), pl.Duration: pl.Int64(),
    pl.Enum: pl.String(), pl.Categorical: pl.String(), pl.Null: pl.Boolean(),
}  # fmt: skip


def stored(dtype: pl.DataType) -> pl.DataType:
    """The type a column of `dtype` is stored as. Raises DataError for types that cannot be stored."""
    if type(dtype) in _STORED:
        return _STORED[type(dtype)]  # type: ignore[no-any-return]
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", "UTC") if dtype.time_unit != "ns" else pl.Int64()
    if isinstance(dtype, pl.Decimal):
        return dtype
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(stored(_of(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(f.name, stored(_of(f.dtype))) for f in dtype.fields])
    if type(dtype) in _PLAIN:
        return dtype
    raise DataError(f"A column of type {dtype} cannot be stored.", hint="Cast it to a plain type.")


def as_stored(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with the types it is stored in."""
    return frame.with_columns(_down(pl.col(name), dtype).alias(name) for name, dtype in frame.schema.items() if stored(dtype) != dtype)


def as_given(frame: pl.LazyFrame, schema: pl.Schema) -> pl.LazyFrame:
    """The rows with the types they were given in."""
    odd = [_up(pl.col(name), dtype).alias(name) for name, dtype in schema.items() if stored(dtype) != dtype]
    return frame.with_columns(odd) if odd else frame


def delta_schema(schema: pl.Schema) -> dict[str, Any]:
    """The stored types as Delta Lake's schema. Raises DataError for two names that differ in case only, which it cannot tell apart."""
    seen: dict[str, str] = {}
    for name in schema:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise DataError(f"Columns {other!r} and {name!r} differ only in case.", hint="Rename one of them.")
    return {"type": "struct", "fields": [_field(name, _delta(stored(dtype))) for name, dtype in schema.items()]}


def spelled(dtype: pl.DataType) -> Any:
    """A type as JSON, to be read by `read_type`."""
    if isinstance(dtype, pl.Enum):
        return ["Enum", dtype.categories.to_list()]
    if isinstance(dtype, pl.Datetime):
        return ["Datetime", dtype.time_unit, dtype.time_zone]
    if isinstance(dtype, pl.Duration):
        return ["Duration", dtype.time_unit]
    if isinstance(dtype, pl.Decimal):
        return ["Decimal", dtype.precision, dtype.scale]
    if isinstance(dtype, pl.Array):
        return ["Array", spelled(_of(dtype.inner)), dtype.size]
    if isinstance(dtype, pl.List):
        return ["List", spelled(_of(dtype.inner))]
    if isinstance(dtype, pl.Struct):
        return ["Struct", [[f.name, spelled(_of(f.dtype))] for f in dtype.fields]]
    return "Categorical" if isinstance(dtype, pl.Categorical) else str(dtype)


def read_type(text: Any) -> pl.DataType:
    """The type that `spelled` wrote."""
    if isinstance(text, str):
        return _NAMES[text]()  # type: ignore[no-any-return]
    kind, *says = text
    if kind == "Array":
        return pl.Array(read_type(says[0]), says[1])
    if kind == "List":
        return pl.List(read_type(says[0]))
    if kind == "Struct":
        return pl.Struct([pl.Field(name, read_type(inner)) for name, inner in says[0]])
    return getattr(pl, kind)(*says)  # type: ignore[no-any-return]


def _down(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Datetime):
        if dtype.time_unit == "ns":
            return value.to_physical()
        plain = value.dt.cast_time_unit("us")
        return plain.dt.replace_time_zone("UTC") if dtype.time_zone is None else plain.dt.convert_time_zone("UTC")
    if isinstance(dtype, pl.Duration | pl.Time):
        return value.to_physical()
    return value.cast(stored(dtype))


def _up(value: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Datetime):
        if dtype.time_unit == "ns":
            return value.cast(dtype)
        zoned = value.dt.replace_time_zone(None) if dtype.time_zone is None else value.dt.convert_time_zone(dtype.time_zone)
        return zoned.dt.cast_time_unit(dtype.time_unit)
    return value.cast(dtype)


def _field(name: str, of: Any) -> dict[str, Any]:
    return {"name": name, "type": of, "nullable": True, "metadata": {}}


def _delta(dtype: pl.DataType) -> Any:
    if isinstance(dtype, pl.Datetime):
        return "timestamp"
    if isinstance(dtype, pl.Decimal):
        return f"decimal({dtype.precision or 38},{dtype.scale})"
    if isinstance(dtype, pl.List):
        return {"type": "array", "elementType": _delta(_of(dtype.inner)), "containsNull": True}
    if isinstance(dtype, pl.Struct):
        return {"type": "struct", "fields": [_field(f.name, _delta(_of(f.dtype))) for f in dtype.fields]}
    return _PLAIN[type(dtype)]


def _of(dtype: Any) -> pl.DataType:
    """An instance, where Polars gives the class."""
    return dtype() if isinstance(dtype, type) else dtype  # type: ignore[no-any-return]
