import polars as pl

table = pl.read_parquet("load.parquet")
table.with_columns((pl.col("f0") * pl.col("f1")).alias("product")).write_parquet("widen.parquet")
