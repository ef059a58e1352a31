"""DuckDB: three ASOF joins in one query, over Arrow tables in memory."""

import sys

import duckdb
import polars as pl
from work import VIEWS, folder_and_rows, measured, told

folder, count = folder_and_rows()
base = duckdb.connect()
base.execute("SET threads TO 2").fetchall()
for name in VIEWS:
    base.execute(f"CREATE TABLE {name} AS SELECT * FROM read_parquet('{folder / name}.parquet')").fetchall()
base.execute(f"CREATE TABLE asked AS SELECT * FROM read_parquet('{folder}/rows-{count}.parquet')").fetchall()


def work() -> pl.DataFrame:
    select = ["r.*"]
    joins = []
    for name, (entity, _, _, features, ttl) in VIEWS.items():
        valid = f"r.asked <= {name}.event + INTERVAL {ttl} SECONDS"
        select += [f"CASE WHEN {valid} THEN {name}.{name}_{i} END AS {name}_{i}" for i in range(features)]
        joins.append(f"ASOF LEFT JOIN {name} ON r.{entity} = {name}.{entity} AND r.asked >= {name}.event")
    return pl.DataFrame(base.sql(f"SELECT {', '.join(select)} FROM asked r {' '.join(joins)}"))


result, cost = measured(work)
result.sort("id").write_parquet(sys.argv[3])
told(cost)
