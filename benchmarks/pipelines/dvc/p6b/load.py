import os

import polars as pl

pl.read_parquet(os.environ["TABLE"]).write_parquet("load.parquet")
