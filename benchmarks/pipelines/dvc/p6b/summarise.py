import polars as pl
from witness import answer

table = pl.read_parquet("keep.parquet")
groups = table.group_by("i1").agg(pl.len().alias("rows"), pl.col("product").sum(), pl.col("f2").mean()).sort("i1")
groups.write_parquet("summarise.parquet")
answer([groups.height, groups["rows"].sum(), groups["product"].sum()])
