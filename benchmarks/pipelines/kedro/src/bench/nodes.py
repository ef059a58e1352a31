import polars as pl
from witness import answer, hold, ran

from bench import helpers


# P6
def add(value: int) -> int:
    ran("add")
    return value + 1


def last(value: int) -> int:
    return answer(add(value))


# P6b
def load_table(table: pl.DataFrame) -> pl.DataFrame:
    return table


def widen(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns((pl.col("f0") * pl.col("f1")).alias("product"))


def keep(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("i0") % 10 != 0)


def summarise(table: pl.DataFrame) -> pl.DataFrame:
    groups = table.group_by("i1").agg(pl.len().alias("rows"), pl.col("product").sum(), pl.col("f2").mean()).sort("i1")
    answer([groups.height, groups["rows"].sum(), groups["product"].sum()])
    return groups


# P6c
def _shift(value: int) -> int:
    return value + 1


def load(text: str) -> list[int]:
    ran("load")
    return [int(line) for line in text.split()]


def clean(raw: list[int], factor: int) -> list[int]:
    """Each value, scaled and shifted."""
    ran("clean")
    return [_shift(helpers.scale(value)) * factor for value in raw]


def total(rows: list[int]) -> int:
    ran("total")
    return answer(sum(rows))


# P6d
def one(start: int) -> int:
    ran("1")
    return start + 1


def two(value: int) -> int:
    ran("2")
    return value + 1


def three(value: int) -> int:
    ran("3")
    hold()
    return value + 1


def four(value: int) -> int:
    ran("4")
    return value + 1


def five(value: int) -> int:
    ran("5")
    return answer(value + 1)
