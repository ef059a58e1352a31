"""Features computed from the request: each rule as a Polars expression (training) and as a plain function (serving), tested to be equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from treadle.core.errors import ProjectError
from treadle.features import formula

if TYPE_CHECKING:
    import polars as pl

    from treadle.core.declare.features import Derived


def expression(rule: tuple[str, ...]) -> pl.Expr:
    """The rule over columns; numbers come out as Float64, missing as null."""
    import polars as pl

    name, *args = rule
    if name == "formula":
        from treadle.features import formula_columns

        read = formula.parsed(args[0])
        return pl.struct(list(read.names)).map_batches(
            lambda columns: formula_columns.column(read, columns.struct.unnest()), return_dtype=pl.String if read.kind == "text" else pl.Float64
        )
    if name in ("hour", "minute_of_day", "weekday", "month"):
        local = pl.col(args[0]).dt.convert_time_zone(args[1]).dt
        parts = {
            "hour": lambda: local.hour(),
            "minute_of_day": lambda: local.hour().cast(pl.Int32) * 60 + local.minute(),
            "weekday": lambda: local.weekday(),
            "month": lambda: local.month(),
        }
        return parts[name]().cast(pl.Float64)
    if name == "difference":
        return pl.col(args[0]).cast(pl.Float64) - pl.col(args[1]).cast(pl.Float64)
    if name == "ratio":
        left, right = pl.col(args[0]).cast(pl.Float64), pl.col(args[1]).cast(pl.Float64)
        return pl.when(right != 0).then(left / right)
    if name == "length":
        return pl.col(args[0]).str.len_chars().cast(pl.Float64)
    raise ProjectError(f"There is no derived feature {name!r}.")


def column(derived: Derived, frame: pl.DataFrame, where: str | None = None) -> pl.Series:
    """The feature over the columns of a frame. Raises DataError where a formula's columns are not of the kinds it takes."""
    if derived.rule[0] == "formula":
        from treadle.features import formula_columns

        return formula_columns.column(formula.parsed(derived.rule[1]), frame, name=derived.name, where=where).rename(derived.name)
    return frame.select(expression(derived.rule).alias(derived.name)).to_series()


def function(rule: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Any]:
    """The rule over one request, a mapping of column to value; moments are microseconds since 1970 UTC. Missing gives None."""
    name, *args = rule
    if name == "formula":
        return formula.function(formula.parsed(args[0]))
    if name in ("hour", "minute_of_day", "weekday", "month"):
        return _calendar(name, args[0], _zone(args[1]))
    if name == "difference":
        return lambda row: None if row.get(args[0]) is None or row.get(args[1]) is None else float(row[args[0]]) - float(row[args[1]])
    if name == "ratio":
        return lambda row: float(row[args[0]]) / float(row[args[1]]) if row.get(args[0]) is not None and row.get(args[1]) else None
    if name == "length":
        return lambda row: None if row.get(args[0]) is None else float(len(row[args[0]]))
    raise ProjectError(f"There is no derived feature {name!r}.")


def _calendar(name: str, column: str, zone: ZoneInfo) -> Callable[[Mapping[str, Any]], float | None]:
    parts: dict[str, Callable[[datetime], float]] = {
        "hour": lambda t: float(t.hour),
        "minute_of_day": lambda t: float(t.hour * 60 + t.minute),
        "weekday": lambda t: float(t.isoweekday()),
        "month": lambda t: float(t.month),
    }
    part = parts[name]

    def compute(row: Mapping[str, Any]) -> float | None:
        micros = row.get(column)
        # Whole seconds decide every part; floor division keeps moments before 1970 right.
        return None if micros is None else part(datetime.fromtimestamp(micros // 1_000_000, UTC).astimezone(zone))

    return compute


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ProjectError(f"{name!r} is not a time zone.", hint="Use a name like 'Europe/Berlin' or 'UTC'.") from None
