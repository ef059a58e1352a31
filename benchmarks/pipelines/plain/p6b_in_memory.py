"""The lower floor: the same functions in one process that hands on in memory, each result written as Parquet by hand, none read back."""

import os

import polars as pl
from witness import answer


def load(path: str) -> pl.DataFrame:
    return pl.read_parquet(path)


def widen(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns((pl.col("f0") * pl.col("f1")).alias("product"))


def keep(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("i0") % 10 != 0)


def summarise(table: pl.DataFrame) -> pl.DataFrame:
    return table.group_by("i1").agg(pl.len().alias("rows"), pl.col("product").sum(), pl.col("f2").mean()).sort("i1")


os.makedirs("kept", exist_ok=True)
table = load(os.environ["TABLE"])
table.write_parquet("kept/load.parquet")
table = widen(table)
table.write_parquet("kept/widen.parquet")
table = keep(table)
table.write_parquet("kept/keep.parquet")
groups = summarise(table)
groups.write_parquet("kept/summarise.parquet")
answer([groups.height, groups["rows"].sum(), groups["product"].sum()])
