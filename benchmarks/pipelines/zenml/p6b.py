"""Four steps handing on a table; ZenML's Polars integration keeps each as Parquet."""

import os

import polars as pl
from witness import answer
from zenml import pipeline, step


@step
def load(path: str) -> pl.DataFrame:
    return pl.read_parquet(path)


@step
def widen(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns((pl.col("f0") * pl.col("f1")).alias("product"))


@step
def keep(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("i0") % 10 != 0)


@step
def summarise(table: pl.DataFrame) -> pl.DataFrame:
    groups = table.group_by("i1").agg(pl.len().alias("rows"), pl.col("product").sum(), pl.col("f2").mean()).sort("i1")
    answer([groups.height, groups["rows"].sum(), groups["product"].sum()])
    return groups


@pipeline
def table(path: str) -> None:
    summarise(keep(widen(load(path))))


if __name__ == "__main__":
    table(os.environ["TABLE"])
