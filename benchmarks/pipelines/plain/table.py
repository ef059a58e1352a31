"""Make the table of P6b: 1,250,000 rows of 5 float64 and 5 int64 columns, 100 MB, the same each time."""

import sys

import polars as pl

ROWS = 1_250_000
row = pl.int_range(ROWS, eager=True).alias("row")
noise = [(row * 10 + i).hash(seed=i).cast(pl.Float64) / 2**64 for i in range(5)]
table = pl.DataFrame(
    {
        **{f"f{i}": noise[i] for i in range(5)},
        "i0": row,
        "i1": (noise[0] * 1000).cast(pl.Int64),
        "i2": (noise[1] * 1_000_000).cast(pl.Int64),
        "i3": row // 100,
        "i4": (noise[2] * 7).cast(pl.Int64),
    }
)
table.write_parquet(sys.argv[1])
print(round(table.estimated_size() / 1e6))
