"""Parsing: the text of a file becomes typed columns by one set of rules, for `treadle init` and for every later read.

>>> import polars as pl
>>> from treadle.core.schema import Column
>>> rows, unparsed = parse_columns(pl.DataFrame({"paid": ["yes", "N", "maybe"]}), {"paid": Column("boolean")})
>>> rows["paid"].to_list(), unparsed[0].text
([True, False, None], 'maybe')
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import polars as pl

from treadle.core.schema import Column, Kind
from treadle.ports.source import Unparsed as Unparsed

TRUE = ("true", "t", "yes", "y", "1", "1.0")
FALSE = ("false", "f", "no", "n", "0", "0.0")
MOMENT = pl.Datetime("us", "UTC")
_CALENDAR = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))

# [0-9] and not \d, which would also match the digits of other scripts.
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_WHOLE = r"^[+-]?[0-9]+(\.0*)?$"
_GROUPED_DOT = r"^[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?$"
_GROUPED_COMMA = r"^[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]+)?$"
_CLOCK = r"(?:[T ,]+(?P<h>[0-9]{1,2}):(?P<m>[0-9]{2})(?::(?P<s>[0-5][0-9])(?:[.,](?P<f>[0-9]{1,9}))?)?(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?"
# No clock on earth is further from UTC than 14 hours.
_ZONE = r"(?: ?(?P<zone>Z|z|UTC|GMT|(?P<sign>[+-])(?P<zh>0[0-9]|1[0-4]):?(?P<zm>[0-5][0-9])?))?)?$"
_YEAR_FIRST = r"^(?P<a>[0-9]{4})(?P<mark>[-/.])(?P<b>[0-9]{1,2})[-/.](?P<c>[0-9]{1,2})" + _CLOCK + _ZONE
# What programs write: read by Polars itself, without taking it apart.
_MACHINE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,6})?Z?)?$"
_YEAR_LAST = r"^(?P<a>[0-9]{1,2})(?P<mark>[-/.])(?P<b>[0-9]{1,2})[-/.](?P<c>[0-9]{4})" + _CLOCK + _ZONE


def parse_columns(
    frame: pl.DataFrame, columns: Mapping[str, Column], *, decimal_comma: bool = False, tz: str = "UTC"
) -> tuple[pl.DataFrame, list[Unparsed]]:
    """The frame with its declared columns in their declared kinds; other columns stay as they are, absent ones are not an error.

    Text is parsed; a column that already has a type (Parquet) is converted where nothing is lost. Cells that are null, NaN, or (but for text
    and category) blank are missing. Moments that name no zone are of `tz`.

    Returns: Float64, Int64, String, Boolean and Datetime[us, UTC] columns, and the cells that could not be read (null in the frame).
    """
    parsed, unparsed = [], []
    for name, column in columns.items():
        if name not in frame.columns:
            continue
        before = frame[name]
        after = parse(before, column.kind, decimal_comma=decimal_comma, tz=tz)
        parsed.append(after)
        lost = (before.is_not_null() & after.is_null() & ~_missing(before)).arg_true()
        unparsed += [Unparsed(row, name, str(before[row]), column.kind) for row in lost.to_list()]
    return frame.with_columns(parsed), unparsed


def parse(values: pl.Series, kind: Kind, *, decimal_comma: bool = False, tz: str = "UTC") -> pl.Series:
    """One column in its kind; what does not read as it is null."""
    if kind == "text":
        return _text(values)
    if kind == "category":
        return _text(values).str.strip_chars()
    if kind == "timestamp":
        return _of_the_calendar(_moments(values, tz))
    if values.dtype.is_numeric() or values.dtype == pl.Boolean:
        return _from_numbers(values, kind)
    text = _text(values).str.strip_chars()
    if kind == "boolean":
        lower = text.str.to_lowercase()
        return pl.select(pl.when(lower.is_in(TRUE)).then(True).when(lower.is_in(FALSE)).then(False).alias(values.name)).to_series()
    if not decimal_comma or kind == "integer":
        # What Polars reads by itself reads alike by the rules below, which take a text apart: five times the work.
        at_once = text.cast(pl.Int64 if kind == "integer" else pl.Float64, strict=False)
        if at_once.null_count() == text.null_count() and (kind == "integer" or at_once.is_finite().all()):
            return at_once
    plain = plain_numbers(text, decimal_comma=decimal_comma)
    if kind == "integer":
        whole = _keep(plain, plain.str.contains(_WHOLE)).str.replace(r"\.0*$", "").str.strip_prefix("+")
        return whole.cast(pl.Int64, strict=False)
    number = plain.cast(pl.Float64, strict=False)
    return _keep(number, number.is_finite())


def plain_numbers(text: pl.Series, *, decimal_comma: bool = False) -> pl.Series:
    """Number texts as a machine writes them ('1.234,5' or '1,234.5' -> '1234.5'); null for what is not a number."""
    group, mark = (".", ",") if decimal_comma else (",", ".")
    grouped = text.str.contains(_GROUPED_COMMA if decimal_comma else _GROUPED_DOT)
    ungrouped = pl.select(pl.when(grouped).then(text.str.replace_all(group, "", literal=True)).otherwise(text).alias(text.name)).to_series()
    if decimal_comma:  # '1.5' is no number here: it would be a date, a version, or fifteen with a slip of the pen
        ungrouped = _keep(ungrouped, ~ungrouped.str.contains(group, literal=True)).str.replace(mark, ".", literal=True)
    return _keep(ungrouped, ungrouped.str.contains(_NUMBER)).str.strip_prefix("+")


def day_first(text: pl.Series) -> bool | None:
    """Whether dates like 03/04/2013 name the day first: decided by values above 12; None when none or as many say either."""
    groups = text.drop_nulls().str.strip_chars().str.extract_groups(_YEAR_LAST).struct.unnest()
    marked = groups.filter(pl.col("mark") != ".")  # 03.04.2013 is always day first
    first, second = ((marked[c].cast(pl.Int32) > 12).sum() for c in ("a", "b"))
    return None if first == second else first > second


def ambiguous_dates(text: pl.Series) -> bool:
    """Whether all values are dates that name the year last, and which part is the day cannot be told."""
    dates = text.drop_nulls().str.strip_chars().str.extract_groups(_YEAR_LAST).struct.unnest()
    marks = dates["mark"]
    return len(marks) > 0 and marks.null_count() == 0 and bool((marks != ".").any()) and day_first(text) is None


def _missing(values: pl.Series) -> pl.Series:
    if values.dtype.is_float():
        return values.is_nan().fill_null(True)
    if values.dtype == pl.String:
        return values.str.strip_chars().eq("").fill_null(True)
    return values.is_null()


def _keep(values: pl.Series, where: pl.Series) -> pl.Series:
    return pl.select(pl.when(where).then(values).alias(values.name)).to_series()


def _text(values: pl.Series) -> pl.Series:
    return values if values.dtype == pl.String else values.cast(pl.String, strict=False)


def _from_numbers(values: pl.Series, kind: Kind) -> pl.Series:
    if kind == "number":
        number = values.cast(pl.Float64, strict=False)
        return _keep(number, number.is_finite())
    if kind == "boolean" and values.dtype == pl.Boolean:
        return values
    if kind == "boolean":
        return _keep(values == 1, (values == 0) | (values == 1))
    if not values.dtype.is_integer() and values.dtype != pl.Boolean:
        values = _keep(values, values.cast(pl.Float64) == values.cast(pl.Float64).round())
    return values.cast(pl.Int64, strict=False)


def _moments(values: pl.Series, tz: str) -> pl.Series:
    if isinstance(values.dtype, pl.Datetime):
        zoned = in_zone(values, tz) if values.dtype.time_zone is None else values.dt.convert_time_zone("UTC")
        return zoned.cast(MOMENT)
    if values.dtype == pl.Date:
        return in_zone(values.cast(pl.Datetime("us")), tz)
    text = _text(values).str.strip_chars()
    machine = text.str.contains(_MACHINE).fill_null(True)
    if machine.all():
        return _from_machine(text, tz)
    if not machine.any():
        return _from_people(text, tz)
    rows = pl.select(pl.when(machine).then(None).otherwise(text).alias(values.name)).to_series()
    return pl.select(pl.when(machine).then(_from_machine(_keep(text, machine), tz)).otherwise(_from_people(rows, tz)).alias(values.name)).to_series()


def _of_the_calendar(moments: pl.Series) -> pl.Series:
    """Null for what has no date in every time zone, such as a moment in the year 0: nothing after this could print it."""
    return _keep(moments, moments.is_between(*_CALENDAR)) if len(moments) else moments


def _from_machine(text: pl.Series, tz: str) -> pl.Series:
    """Moments of texts that all look as `_MACHINE` says: the same as `_from_people` gives, in a fifth of the time."""
    zoned = text.str.ends_with("Z")
    plain = text.str.strip_suffix("Z")
    days = plain.str.len_bytes() == 10
    marks = [] if days.all() else [mark for mark in " T" if plain.str.contains(mark, literal=True).any()]
    parts = "%.f" if plain.str.contains(".", literal=True).any() else ""  # formats without it are read several times faster
    found = [plain.str.to_datetime(f"%Y-%m-%d{mark}%H:%M:%S{parts}", time_unit="us", strict=False) for mark in marks]
    if days.any() or not found:
        found.append(plain.str.to_datetime("%Y-%m-%d", time_unit="us", strict=False))
    local = pl.select(pl.coalesce(*(pl.lit(s) for s in found)).alias(text.name)).to_series()
    if tz == "UTC" or zoned.fill_null(True).all():
        return local.dt.replace_time_zone("UTC").cast(MOMENT)
    return pl.select(pl.when(zoned).then(local.dt.replace_time_zone("UTC")).otherwise(in_zone(local, tz)).cast(MOMENT).alias(text.name)).to_series()


def _from_people(text: pl.Series, tz: str) -> pl.Series:
    """Moments of texts as people write them."""
    year_first = _assemble(text.str.extract_groups(_YEAR_FIRST).struct.unnest(), ("a", "b", "c"), tz)
    groups = text.str.extract_groups(_YEAR_LAST).struct.unnest()
    dotted = groups["mark"] == "."
    german = _assemble(groups, ("c", "b", "a"), tz)
    order = day_first(text)
    slashed = german if order else _assemble(groups, ("c", "a", "b"), tz)
    if order is None:
        slashed = slashed.clear(len(slashed))
    chosen = pl.when(dotted).then(german).otherwise(slashed)
    return pl.select(pl.coalesce(pl.lit(year_first), chosen).alias(text.name)).to_series()


def in_zone(values: pl.Series, tz: str) -> pl.Series:
    """Moments without a zone as UTC, by the clocks of `tz`: of an hour that comes twice the first, null in an hour that is left out."""
    values = values.cast(pl.Datetime("us"))
    if tz == "UTC":
        return values.dt.replace_time_zone("UTC")
    return values.dt.replace_time_zone(tz, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _assemble(groups: pl.DataFrame, order: Sequence[str], tz: str) -> pl.Series:
    """Moments from the parts of a date (year, month, day in `order`), a clock and a zone; null where they are none, such as 30 February."""
    year, month, day = (pl.col(c) for c in order)
    half = pl.col("half").str.to_lowercase()
    hour = pl.col("h").cast(pl.Int32, strict=False)
    hour = pl.when(half.is_null()).then(hour.fill_null(0)).when(hour.is_between(1, 12)).then(hour % 12 + pl.when(half == "p").then(12).otherwise(0))
    written = pl.format(
        "{}-{}-{} {}:{}:{}.{}",
        year, month.str.zfill(2), day.str.zfill(2), hour.cast(pl.String).str.zfill(2),
        pl.col("m").fill_null("00"), pl.col("s").fill_null("00"), pl.col("f").fill_null("0").str.pad_end(6, "0").str.head(6),
    )  # fmt: skip
    offset = pl.col("zh").cast(pl.Int32).fill_null(0) * 60 + pl.col("zm").cast(pl.Int32).fill_null(0)
    local = written.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    moment = local - pl.duration(minutes=offset * pl.when(pl.col("sign") == "-").then(-1).otherwise(1))
    zoned = groups.select(moment.dt.replace_time_zone("UTC").cast(MOMENT).alias("moment")).to_series()
    if tz == "UTC" or not (without := groups["zone"].is_null()).any():
        return zoned
    return pl.select(pl.when(without).then(in_zone(zoned.dt.replace_time_zone(None), tz)).otherwise(zoned).alias("moment")).to_series()
