"""Treadle: the views' histories on known time with ttl, from the sources as they are, and the join."""

import sys
from datetime import timedelta

import polars as pl
from work import VIEWS, folder_and_rows, measured, told

import treadle as tr
from treadle.features.history import history, join_all

folder, count = folder_and_rows()
sources = {name: pl.read_parquet(folder / f"{name}.parquet") for name in VIEWS}
rows = pl.read_parquet(folder / f"rows-{count}.parquet")
project = tr.Project("bench")
views = []
for name, (entity, _, _, features, ttl) in VIEWS.items():
    source = project.dataset(name, source=tr.rows(list), key=(entity, "event"), event_time="event", known_time="known")
    wanted = [f"{name}_{i}" for i in range(features)]
    views.append(project.view(f"v_{name}", source=source, entity=entity, features=wanted, ttl=timedelta(seconds=ttl)))


def work() -> pl.DataFrame:
    return rows.hstack(join_all(rows, "asked", [(view, history(view, sources[view.source.name])) for view in views]).get_columns())


result, cost = measured(work)
values = [(view, history(view, sources[view.source.name])) for view in views]
_, again = measured(lambda: join_all(rows, "asked", values))
result.sort("id").write_parquet(sys.argv[3])
told({**cost, "join_alone": again["cpu"]})
