"""Four tasks handing on a table: each writes a Parquet file and hands on its path, as Airflow's documentation advises for large data."""

import os
from pathlib import Path

from airflow.sdk import dag, task
from witness import answer

KEPT = Path(os.environ["AIRFLOW_HOME"]) / "kept"


@task
def load() -> str:
    import polars as pl

    KEPT.mkdir(exist_ok=True)
    pl.read_parquet(os.environ["TABLE"]).write_parquet(KEPT / "load.parquet")
    return str(KEPT / "load.parquet")


@task
def widen(path: str) -> str:
    import polars as pl

    table = pl.read_parquet(path).with_columns((pl.col("f0") * pl.col("f1")).alias("product"))
    table.write_parquet(KEPT / "widen.parquet")
    return str(KEPT / "widen.parquet")


@task
def keep(path: str) -> str:
    import polars as pl

    pl.read_parquet(path).filter(pl.col("i0") % 10 != 0).write_parquet(KEPT / "keep.parquet")
    return str(KEPT / "keep.parquet")


@task
def summarise(path: str) -> str:
    import polars as pl

    groups = pl.read_parquet(path).group_by("i1").agg(pl.len().alias("rows"), pl.col("product").sum(), pl.col("f2").mean()).sort("i1")
    groups.write_parquet(KEPT / "summarise.parquet")
    answer([groups.height, groups["rows"].sum(), groups["product"].sum()])
    return str(KEPT / "summarise.parquet")


@dag(schedule=None)
def p6b():
    summarise(keep(widen(load())))


p6b()
