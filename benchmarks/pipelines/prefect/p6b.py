"""Four tasks handing on a table; each result is kept by the default serializer (pickle)."""

import os

import polars as pl
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from witness import answer

POLICY = INPUTS + TASK_SOURCE


@task(persist_result=True, cache_policy=POLICY)
def load(path: str) -> pl.DataFrame:
    return pl.read_parquet(path)


@task(persist_result=True, cache_policy=POLICY)
def widen(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns((pl.col("f0") * pl.col("f1")).alias("product"))


@task(persist_result=True, cache_policy=POLICY)
def keep(table: pl.DataFrame) -> pl.DataFrame:
    return table.filter(pl.col("i0") % 10 != 0)


@task(persist_result=True, cache_policy=POLICY)
def summarise(table: pl.DataFrame) -> pl.DataFrame:
    return table.group_by("i1").agg(pl.len().alias("rows"), pl.col("product").sum(), pl.col("f2").mean()).sort("i1")


@flow
def table(path: str) -> list:
    groups = summarise(keep(widen(load(path))))
    return [groups.height, groups["rows"].sum(), groups["product"].sum()]


if __name__ == "__main__":
    answer(table(os.environ["TABLE"]))
