"""The fields of many rows at once, as typed columns. A row is taken or refused exactly where `requests.Parser` takes or refuses it.

The columns decide which rows do not fit; of those few the parser itself is asked why, so that its rules have one home for people and one for speed,
and a row on which the two differ is never answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from treadle.core.errors import Corrupt, DataError, InvalidRequest
from treadle.core.schema import Field
from treadle.data.parsing import parse
from treadle.features.parity import request_of
from treadle.serving.requests import Parser, micros, moment

MOMENT = pl.Datetime("us", "UTC")
LONGEST_TEXT = 10_000  # characters, as in the parser
_FIRST, _LAST = micros(datetime(1, 1, 2, tzinfo=UTC)), micros(datetime(9999, 12, 30, tzinfo=UTC))
_TAKES = {"number": "numbers", "integer": "numbers", "boolean": "true or false", "timestamp": "moments", "text": "text", "category": "text",
          "vector": "lists of numbers"}  # fmt: skip


def columns_of(frame: pl.DataFrame, fields: Sequence[Field], parser: Parser, *, text: bool = False) -> tuple[pl.DataFrame, pl.Series]:
    """The fields in their types: Float64, Int64 (whole numbers), Boolean, String, Datetime[us, UTC], List[Float64]; null where missing or refused.

    Args:
        frame: the rows; a column that is not there is missing in every row.
        parser: of the same fields; says why a row does not fit.
        text: the columns are texts to be read (of a CSV file), not values of their type.
    Returns: the typed columns, and for each row why it is refused, null if it is not.
    Raises: DataError for a column whose type no value of it could fit, Corrupt when parser and columns do not agree.
    """
    typed: list[pl.Series] = []
    asked: dict[str, pl.Series] = {}
    bad = pl.repeat(False, frame.height, eager=True)
    for field in fields:
        if field.name not in frame.columns:
            if not field.nullable:
                raise DataError(f"Column {field.name!r} is missing.", hint=f"The model needs it. There are: {', '.join(frame.columns[:30])}.")
            typed.append(pl.Series(field.name, [None] * frame.height, dtype=_DTYPE[field.kind]))
            continue
        given = asked[field.name] = frame[field.name]
        if text and field.kind == "vector":
            raise DataError(f"Column {field.name!r} would be lists of numbers, which CSV has no way to write.", hint="Give Parquet or JSON lines.")
        read = parse(given, field.kind) if text else given
        values, wrong = _READ[field.kind](read, field)
        if text:
            asked[field.name] = read
            unread = read.is_null() & (given.str.strip_chars() != "").fill_null(False)
            if unread.any():
                asked[field.name] = pl.Series([g if u else r for g, r, u in zip(given, read, unread)], dtype=pl.Object)
                wrong = wrong | unread
        bad |= wrong if field.nullable else wrong | values.is_null()
        typed.append(values.alias(field.name))
    return pl.DataFrame(typed), _reasons(asked, parser, bad)


def _reasons(asked: dict[str, pl.Series], parser: Parser, bad: pl.Series) -> pl.Series:
    said: list[str | None] = [None] * len(bad)
    for row in bad.arg_true().to_list():
        try:
            found = {name: values[row] for name, values in asked.items()}
            parser.parse(request_of({n: v.to_list() if isinstance(v, pl.Series) else v for n, v in found.items()}, list(asked)))
        except InvalidRequest as error:
            said[row] = "; ".join(f"{name} {why}" for name, why in error.fields.items()) or error.what
        else:
            raise Corrupt(f"Row {row} is refused as columns and taken as a request.", hint="Please report this; nothing of this part is kept.")
    return pl.Series("refused", said, dtype=pl.String)


def _number(given: pl.Series, field: Field) -> tuple[pl.Series, pl.Series]:
    if not given.dtype.is_numeric() and given.dtype != pl.Null:
        raise _wrong(given, field)
    number = given if given.dtype == pl.Float64 else given.cast(pl.Float64)
    number = number.fill_nan(None)
    wrong = number.is_infinite()
    if field.kind == "integer":
        wrong |= number != number.floor()
    if field.ge is not None:
        wrong |= number < field.ge
    if field.le is not None:
        wrong |= number > field.le
    wrong = wrong.fill_null(False)
    number = _without(number, wrong)
    # Whole numbers beyond 64 bits stay floats; nothing that is computed of them differs.
    exact = field.kind == "integer" and given.dtype.is_integer() and given.dtype not in (pl.UInt64, pl.Int128)
    return (_without(given.cast(pl.Int64), wrong) if exact else number), wrong


def _boolean(given: pl.Series, field: Field) -> tuple[pl.Series, pl.Series]:
    if given.dtype not in (pl.Boolean, pl.Null):
        raise _wrong(given, field)
    return given.cast(pl.Boolean), pl.repeat(False, len(given), eager=True)


def _text(given: pl.Series, field: Field) -> tuple[pl.Series, pl.Series]:
    if given.dtype.base_type() in (pl.Categorical, pl.Enum):
        given = given.cast(pl.String)
    if given.dtype not in (pl.String, pl.Null):
        raise _wrong(given, field)
    values = given.cast(pl.String)
    longest = values.str.len_bytes().max()
    if isinstance(longest, int) and longest > LONGEST_TEXT:
        wrong = (values.str.len_chars() > LONGEST_TEXT).fill_null(False)
        return _without(values, wrong), wrong
    return values, pl.repeat(False, len(given), eager=True)


def _timestamp(given: pl.Series, field: Field) -> tuple[pl.Series, pl.Series]:
    if given.dtype == pl.Date:
        micros = given.cast(pl.Datetime("us")).cast(pl.Int64)
    elif given.dtype.base_type() == pl.Datetime:
        zone = getattr(given.dtype, "time_zone", None)
        micros = (given if zone is None else given.dt.convert_time_zone("UTC").dt.replace_time_zone(None)).cast(pl.Datetime("us")).cast(pl.Int64)
    elif given.dtype == pl.String or given.dtype.is_numeric() or given.dtype == pl.Null:
        # Few distinct ones of many rows; each is read as the endpoint reads it.
        distinct = given.fill_nan(None).drop_nulls().unique() if given.dtype.is_float() else given.drop_nulls().unique()
        read = {value: _micros(value) for value in distinct.to_list()}
        micros = pl.Series(given.name, [None if v is None or v != v else read[v] for v in given.to_list()], dtype=pl.Int64)
        there = given.is_not_null() & (given.is_not_nan() if given.dtype.is_float() else True)
        return micros.cast(MOMENT), there & micros.is_null()
    else:
        raise _wrong(given, field)
    wrong = ((micros < _FIRST) | (micros > _LAST)).fill_null(False)
    return _without(micros, wrong).cast(MOMENT), wrong


def _vector(given: pl.Series, field: Field) -> tuple[pl.Series, pl.Series]:
    kind = given.dtype.base_type()
    if kind not in (pl.List, pl.Array) and given.dtype != pl.Null:
        raise _wrong(given, field)
    inner = getattr(given.dtype, "inner", pl.Float64)
    if given.dtype != pl.Null and not (inner.is_numeric() or inner == pl.Null):
        raise _wrong(given, field)
    values = given.cast(pl.List(pl.Float64))
    parts = pl.element()
    bad = parts.is_null() | ~parts.is_finite()
    if field.ge is not None:
        bad = bad | (parts < field.ge)
    if field.le is not None:
        bad = bad | (parts > field.le)
    name = given.name
    asked = pl.DataFrame([values]).select(
        (pl.col(name).list.len() != field.length).alias("length"), pl.col(name).list.eval(bad.fill_null(True)).list.any().alias("part")
    )
    wrong = (asked["length"] | asked["part"]).fill_null(False)
    return _without_lists(values, wrong), wrong


def _without_lists(values: pl.Series, wrong: pl.Series) -> pl.Series:
    """`_without` for lists, which cannot be set one by one."""
    if not wrong.any():
        return values
    return pl.DataFrame([values, wrong.alias("@wrong")]).select(pl.when(~pl.col("@wrong")).then(pl.col(values.name)).alias(values.name)).to_series()


def _micros(value: Any) -> int | None:
    try:
        return moment(value)
    except Exception:  # the parser says why
        return None


def _without(values: pl.Series, wrong: pl.Series) -> pl.Series:
    return values.set(wrong, None) if wrong.any() else values


def _wrong(given: pl.Series, field: Field) -> DataError:
    return DataError(f"Column {field.name!r} holds {given.dtype}, where the model takes {_TAKES[field.kind]}.", hint="Cast the column and try again.")


_READ: dict[str, Callable[[pl.Series, Field], tuple[pl.Series, pl.Series]]] = {
    "number": _number, "integer": _number, "boolean": _boolean, "text": _text, "category": _text, "timestamp": _timestamp, "vector": _vector,
}  # fmt: skip
_DTYPE: dict[str, Any] = {
    "number": pl.Float64, "integer": pl.Float64, "boolean": pl.Boolean, "text": pl.String, "category": pl.String, "timestamp": MOMENT,
    "vector": pl.List(pl.Float64),
}  # fmt: skip
