"""Four steps handing on a table as an artifact."""

import os

import polars as pl
from metaflow import FlowSpec, step
from witness import answer


class Table(FlowSpec):
    @step
    def start(self):
        self.table = pl.read_parquet(os.environ["TABLE"])
        self.next(self.widen)

    @step
    def widen(self):
        self.table = self.table.with_columns((pl.col("f0") * pl.col("f1")).alias("product"))
        self.next(self.keep)

    @step
    def keep(self):
        self.table = self.table.filter(pl.col("i0") % 10 != 0)
        self.next(self.end)

    @step
    def end(self):
        groups = self.table.group_by("i1").agg(pl.len().alias("rows"), pl.col("product").sum(), pl.col("f2").mean()).sort("i1")
        self.table = groups
        answer([groups.height, groups["rows"].sum(), groups["product"].sum()])


if __name__ == "__main__":
    Table()
