"""Four steps handing on a table."""

from pathlib import Path

import polars as pl
from witness import answer

import treadle as tr

project = tr.Project("table", owner="bench", goal="compare")


@tr.step
def load(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path)


@tr.step
def widen(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns((pl.col("f0") * pl.col("f1")).alias("product"))


@tr.step
def keep(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("i0") % 10 != 0)


@tr.step
def summarise(table: pl.DataFrame) -> pl.DataFrame:
    groups = table.group_by("i1").agg(pl.len().alias("rows"), pl.col("product").sum(), pl.col("f2").mean()).sort("i1")
    answer([groups.height, groups["rows"].sum(), groups["product"].sum()])
    return groups


@project.pipeline
def p6b(path: Path) -> pl.DataFrame:
    return summarise(keep(widen(load(path))))
