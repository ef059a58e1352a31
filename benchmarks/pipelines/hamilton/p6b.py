"""Four functions handing on a table; the cache keeps each as Parquet."""

import os
import sys

import polars as pl
from hamilton import driver
from hamilton.function_modifiers import cache
from witness import answer


@cache(format="parquet")
def load(path: str) -> pl.DataFrame:
    return pl.read_parquet(path)


@cache(format="parquet")
def widen(load: pl.DataFrame) -> pl.DataFrame:
    return load.with_columns((pl.col("f0") * pl.col("f1")).alias("product"))


@cache(format="parquet")
def keep(widen: pl.DataFrame) -> pl.DataFrame:
    return widen.filter(pl.col("i0") % 10 != 0)


@cache(format="parquet")
def summarise(keep: pl.DataFrame) -> pl.DataFrame:
    return keep.group_by("i1").agg(pl.len().alias("rows"), pl.col("product").sum(), pl.col("f2").mean()).sort("i1")


if __name__ == "__main__":
    dataflow = driver.Builder().with_modules(sys.modules["__main__"]).with_cache().build()
    groups = dataflow.execute(["summarise"], inputs={"path": os.environ["TABLE"]})["summarise"]
    answer([groups.height, groups["rows"].sum(), groups["product"].sum()])
