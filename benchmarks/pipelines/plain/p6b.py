"""The floor: the same functions, each result written as Parquet by hand and read by the next."""

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
load(os.environ["TABLE"]).write_parquet("kept/load.parquet")
widen(pl.read_parquet("kept/load.parquet")).write_parquet("kept/widen.parquet")
keep(pl.read_parquet("kept/widen.parquet")).write_parquet("kept/keep.parquet")
groups = summarise(pl.read_parquet("kept/keep.parquet"))
groups.write_parquet("kept/summarise.parquet")
answer([groups.height, groups["rows"].sum(), groups["product"].sum()])
