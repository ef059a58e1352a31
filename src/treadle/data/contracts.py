"""Holding rows to their contract: each bad row is set aside with its reasons, the rest goes on (Pandera does the checking)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from treadle.core.declare.data import Dataset
from treadle.core.schema import Column
from treadle.data.parsing import Unparsed

_ROW = "__row__"
_SENTENCES = {
    "not_nullable": "is missing",
    "isin": "is not one of the allowed values",
}


def check(frame: pl.DataFrame, dataset: Dataset, unparsed: list[Unparsed]) -> pl.DataFrame:
    """The reasons why rows break the contract.

    Returns: a frame (row: row number in `frame`, reason: one sentence), one line a broken promise; empty when all rows are good.
    """
    contract = dataset.contract
    found = [pl.DataFrame(schema={"row": pl.UInt32, "reason": pl.String})]
    if unparsed:
        found.append(
            pl.DataFrame(
                {"row": [u.row for u in unparsed], "reason": [f"{u.column} does not read as {u.kind}" for u in unparsed]},
                schema={"row": pl.UInt32, "reason": pl.String},
            )
        )
    keys = frame.select(dataset.key)
    for name in dataset.key:
        found.append(_rows_where(frame, pl.col(name).is_null(), f"{name} is missing"))
    # Of rows with the same key the first is kept: which one is right cannot be known here, and none may be lost unseen.
    found.append(_rows_where(keys, ~pl.struct(dataset.key).is_first_distinct(), f"{' + '.join(dataset.key)} is not unique"))
    if contract:
        for name in (n for n, c in contract.columns.items() if c.unique):
            found.append(_rows_where(frame, pl.col(name).is_not_null() & ~pl.col(name).is_first_distinct(), f"{name} is not unique"))
        found.append(_pandera(frame, contract.columns))
        for sentence, rule in contract.rules.items():
            # A rule that cannot be decided (null) is not broken; whether the value may be missing is the column's own promise.
            found.append(_rows_where(frame, ~rule.fill_null(True), f"rule broken: {sentence}"))
    return pl.concat(found).unique(maintain_order=True).sort("row", maintain_order=True)


def _rows_where(frame: pl.DataFrame, condition: pl.Expr, reason: str) -> pl.DataFrame:
    return frame.with_row_index(_ROW).filter(condition).select(row=pl.col(_ROW), reason=pl.lit(reason))


def _pandera(frame: pl.DataFrame, columns: Mapping[str, Column]) -> pl.DataFrame:
    import pandera.polars as pa

    schema = pa.DataFrameSchema({name: pa.Column(checks=_checks(c, pa), nullable=c.nullable) for name, c in columns.items()})
    try:
        schema.validate(frame.lazy().select(list(columns)).collect(), lazy=True)
    except pa.errors.SchemaErrors as errors:
        cases = errors.failure_cases.filter(pl.col("index").is_not_null())
        found: pl.DataFrame = cases.select(
            row=pl.col("index").cast(pl.UInt32),
            reason=pl.struct("column", "check").map_elements(lambda c: f"{c['column']} {_sentence(c['check'], columns.get(c['column']))}", pl.String),
        )
        return found
    return pl.DataFrame(schema={"row": pl.UInt32, "reason": pl.String})


def _checks(column: Column, pa: Any) -> list[Any]:
    checks = []
    if column.ge is not None:
        checks.append(pa.Check.ge(column.ge))
    if column.le is not None:
        checks.append(pa.Check.le(column.le))
    if column.isin is not None:
        checks.append(pa.Check.isin(list(column.isin)))
    return checks


def _sentence(check: str, column: Column | None) -> str:
    name = check.split("(")[0]
    if name == "greater_than_or_equal_to" and column:
        return f"is below {column.ge:g}"
    if name == "less_than_or_equal_to" and column:
        return f"is above {column.le:g}"
    return _SENTENCES.get(name, f"breaks {name}")
