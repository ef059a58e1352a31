"""Four ops handing on a table; the default IO manager keeps each (pickle)."""

import os

import polars as pl
from dagster import Definitions, graph, in_process_executor, op
from witness import answer


@op
def load() -> pl.DataFrame:
    return pl.read_parquet(os.environ["TABLE"])


@op
def widen(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns((pl.col("f0") * pl.col("f1")).alias("product"))


@op
def keep(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("i0") % 10 != 0)


@op
def summarise(table: pl.DataFrame) -> pl.DataFrame:
    groups = table.group_by("i1").agg(pl.len().alias("rows"), pl.col("product").sum(), pl.col("f2").mean()).sort("i1")
    answer([groups.height, groups["rows"].sum(), groups["product"].sum()])
    return groups


@graph
def table():
    summarise(keep(widen(load())))


definitions = Definitions(jobs=[table.to_job("default"), table.to_job("in_process", executor_def=in_process_executor)])
