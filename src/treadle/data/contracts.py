"""Holding rows to their contract: each bad row is named with its reasons (Pandera checks the columns).

What is promised of all rows together (freshness, volume, distribution) is in `promises`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from treadle.core.clock import parse_time
from treadle.core.declare.data import Dataset, names
from treadle.core.errors import ProjectError
from treadle.core.schema import Column
from treadle.data import messages
from treadle.data.parsing import Unparsed

_ROW = "__row__"
_FOUND = {"row": pl.UInt32, "reason": pl.String}


def check(frame: pl.DataFrame, dataset: Dataset, unparsed: list[Unparsed], now: datetime | None = None) -> pl.DataFrame:
    """The reasons why rows break the contract.

    Args:
        now: the clock, for moments that may not be after it; such promises are not looked at without.
    Returns: a frame (row: row number in `frame`, reason: one sentence), one line a broken promise; empty when all rows are good.
    """
    contract = dataset.contract
    found = [pl.DataFrame(schema=_FOUND)]
    if unparsed:
        found.append(
            pl.DataFrame({"row": [u.row for u in unparsed], "reason": [_unread(u) for u in unparsed]}, schema=_FOUND)
        )
    for name in dataset.key:
        missing = pl.col(name).is_null() | (pl.col(name).is_nan().fill_null(False) if frame.schema[name].is_float() else False)
        found.append(_rows_where(frame, missing, f"{name} is missing"))
    # Of rows with the same key the first is kept: which one is right cannot be known here, and none may be lost unseen.
    found.append(_twice(frame, dataset.key, missing_too=True))
    if contract:
        unknown = next((c for group in contract.unique for c in names(group) if c not in frame.columns), None)
        if unknown is not None:
            raise ProjectError(
                f"The contract of data set {dataset.name!r} wants column {unknown!r} to be unique, which it has not.", where=dataset.place,
                hint=f"It has: {', '.join(frame.columns[:30])}.",
            )  # fmt: skip
        for name in (n for n, c in contract.columns.items() if c.unique and (n,) != dataset.key):
            found.append(_twice(frame, (name,)))
        for group in contract.unique:
            found.append(_twice(frame, names(group)))
        found.append(_pandera(frame, contract.columns, now, f"data set {dataset.name!r} ({dataset.place})"))
        for sentence, rule in contract.rules.items():
            # A rule that cannot be decided (null) is not broken; whether the value may be missing is the column's own promise.
            try:
                found.append(_rows_where(frame, ~expression(rule, sentence, dataset).fill_null(True), f"rule broken: {sentence}"))
            except pl.exceptions.PolarsError as error:
                raise ProjectError(
                    f"Rule {sentence!r} of data set {dataset.name!r} cannot be decided: {str(error).splitlines()[0]}", where=dataset.place,
                    hint=_undeclared(expression(rule, sentence, dataset), frame, contract.columns) or f"It has: {', '.join(frame.columns[:30])}.",
                ) from None  # fmt: skip
    return pl.concat(found).unique(maintain_order=True).sort("row", maintain_order=True)


def _undeclared(rule: pl.Expr, frame: pl.DataFrame, columns: Mapping[str, Column]) -> str:
    """What to do where a rule calculates with a column that is text because nobody says what it is."""
    said = [name for name in rule.meta.root_names() if name not in columns and frame.schema.get(name) == pl.String]
    return f"Column {said[0]!r} is read as text, since the contract does not say what it is: declare it, for example as tr.number()." if said else ""


def again(frame: pl.DataFrame, dataset: Dataset, now: datetime) -> datetime | None:
    """When the first of the rows from the future may come in: then the same source gives another answer."""
    found: list[datetime] = []
    for name, column in _of(dataset).items():
        if column.not_after == "now" and name in frame.columns:
            first = frame[name].filter(frame[name] > now + column.tolerance).min()
            if isinstance(first, datetime):
                found.append(first - column.tolerance)
    return min(found, default=None)


def expression(rule: Any, sentence: str, dataset: Dataset) -> pl.Expr:
    """A row rule as an expression: it is one already, or SQL text. Raises ProjectError."""
    if isinstance(rule, pl.Expr):
        return rule
    try:
        made: pl.Expr = pl.sql_expr(rule)
        return made
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise ProjectError(
            f"Rule {sentence!r} of data set {dataset.name!r} is no expression: {str(error).splitlines()[0]}.", where=dataset.place,
            hint="Write a Polars expression, or SQL such as 'paid <= amount'.",
        ) from None  # fmt: skip


def _of(dataset: Dataset) -> Mapping[str, Column]:
    return dataset.contract.columns if dataset.contract else {}


def _unread(cell: Unparsed) -> str:
    if (cell.column, cell.kind) == (messages.WHOLE, "text"):  # any cell reads as text
        return "the message is no JSON object"
    return f"{cell.column} does not read as {cell.kind}"


def _rows_where(frame: pl.DataFrame, condition: pl.Expr, reason: str) -> pl.DataFrame:
    return frame.with_row_index(_ROW).filter(condition).select(row=pl.col(_ROW), reason=pl.lit(reason))


def _twice(frame: pl.DataFrame, columns: tuple[str, ...], *, missing_too: bool = False) -> pl.DataFrame:
    """Rows whose values in these columns stood in an earlier row. Most data sets have none, which counting shows faster than searching."""
    group = pl.col(columns[0]) if len(columns) == 1 else pl.struct(columns)
    counted = frame.select(different=group.n_unique(), rows=pl.len())
    if counted["different"][0] == counted["rows"][0]:
        return pl.DataFrame(schema=_FOUND)
    known = pl.lit(True) if missing_too else pl.all_horizontal(pl.col(c).is_not_null() for c in columns)
    return _rows_where(frame.select(columns), ~group.is_first_distinct() & known, f"{' + '.join(columns)} is not unique")


def _pandera(frame: pl.DataFrame, columns: Mapping[str, Column], now: datetime | None, place: str) -> pl.DataFrame:
    import pandera.polars as pa

    sentences: dict[tuple[str, str], str] = {}
    schema = {}
    for name, column in columns.items():
        checks = []
        for label, condition, sentence in _promises(name, column, now):
            checks.append(pa.Check(_checking(condition), error=label))
            sentences[name, label] = f"{name} {sentence}"
        schema[name] = pa.Column(checks=checks, nullable=column.nullable)
    try:
        pa.DataFrameSchema(schema).validate(frame.lazy().select(list(columns)).collect(), lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases
        for case in cases.filter(pl.col("index").is_null()).iter_rows(named=True):  # the check itself went wrong
            raise ProjectError(
                f"The promise {case['check']!r} of column {case['column']!r} cannot be checked: {str(case['failure_case']).splitlines()[0][:200]}",
                where=place, hint="Patterns are regular expressions without look-around or back-references.",
            ) from None  # fmt: skip
        told = pl.DataFrame(
            {
                "column": [*(c for c, _ in sentences), *columns],
                "check": [*(label for _, label in sentences), *("not_nullable" for _ in columns)],
                "reason": [*sentences.values(), *(f"{name} is missing" for name in columns)],
            },
            schema={"column": pl.String, "check": pl.String, "reason": pl.String},
        )
        found: pl.DataFrame = cases.join(told, on=["column", "check"], how="inner", maintain_order="left").select(
            row=pl.col("index").cast(pl.UInt32), reason="reason"
        )
        return found
    return pl.DataFrame(schema=_FOUND)


def _checking(condition: pl.Expr) -> Any:
    return lambda data: data.lazyframe.select(condition)


def _promises(name: str, column: Column, now: datetime | None) -> list[tuple[str, pl.Expr, str]]:
    """What each value of a column must be: (label, expression that is true for a good value, sentence about a bad one)."""
    value, promised = pl.col(name), []
    if column.ge is not None:
        promised.append(("ge", value >= column.ge, f"is below {column.ge:g}"))
    if column.le is not None:
        promised.append(("le", value <= column.le, f"is above {column.le:g}"))
    if column.isin is not None:
        promised.append(("isin", value.is_in(_allowed(column)), "is not one of the allowed values"))
    if column.pattern:
        promised.append(("pattern", value.str.contains(f"^(?:{column.pattern})$"), f"does not match {column.pattern}"))
    if column.min_length:
        promised.append(("min_length", value.str.len_chars() >= column.min_length, f"is shorter than {column.min_length} characters"))
    if column.max_length is not None:
        promised.append(("max_length", value.str.len_chars() <= column.max_length, f"is longer than {column.max_length} characters"))
    if column.not_after == "now" and now is not None:
        ahead = f"more than {short(column.tolerance)} " if column.tolerance else ""
        promised.append(("not_after", value <= now + column.tolerance, f"is {ahead}in the future"))
    elif column.not_after and column.not_after != "now":
        promised.append(("not_after", value <= parse_time(column.not_after) + column.tolerance, f"is after {column.not_after}"))
    return promised


def _allowed(column: Column) -> list[Any]:
    assert column.isin is not None
    return [str(v) for v in column.isin] if column.kind in ("category", "text") else list(column.isin)


def short(span: timedelta) -> str:
    """A span as declarations write it.

    >>> short(timedelta(hours=36))
    '1d12h'
    """
    seconds, parts = span.total_seconds(), []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count:.0f}{unit}")
    if seconds or not parts:
        parts.append(f"{seconds:g}s")
    return "".join(parts)
