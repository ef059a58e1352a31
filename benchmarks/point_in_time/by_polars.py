"""Plain Polars: sort, three `join_asof` with a tolerance."""

import sys
from datetime import timedelta

import polars as pl
from work import VIEWS, folder_and_rows, measured, told

folder, count = folder_and_rows()
sources = {name: pl.read_parquet(folder / f"{name}.parquet") for name in VIEWS}
rows = pl.read_parquet(folder / f"rows-{count}.parquet")


def work() -> pl.DataFrame:
    left = rows.sort("asked")
    for name, (entity, _, _, _, ttl) in VIEWS.items():
        right = sources[name].drop("known").sort("event")
        within = timedelta(seconds=ttl)
        left = left.join_asof(right, left_on="asked", right_on="event", by=entity, tolerance=within, coalesce=True, check_sortedness=False)
        left = left.drop("event", strict=False)
    return left


result, cost = measured(work)
result.sort("id").write_parquet(sys.argv[3])
told(cost)
