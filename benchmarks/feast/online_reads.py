"""Run by Feast's own Python: times `get_online_features` for online.py. Usage: online_reads.py FOLDER STORE ENTITIES REPEATS; prints JSON.

FOLDER holds view_0.parquet ... with driver, event_timestamp and features; STORE is 'sqlite' or a Redis as 'host:port,db=N'.
"""

import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

os.environ["FEAST_USAGE"] = "False"

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64

folder, store_address, count, repeats = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
kind = "sqlite" if store_address == "sqlite" else "redis"
home = folder / f"feast-{kind}"
ready = (home / "done").exists()
home.mkdir(exist_ok=True)
online = {"type": "sqlite", "path": str(home / "online.db")} if kind == "sqlite" else {"type": "redis", "connection_string": store_address}
store = FeatureStore(config=RepoConfig(
    project="bench", registry=str(home / "registry.db"), provider="local", online_store=online, offline_store={"type": "duckdb"},
    entity_key_serialization_version=3,
))  # fmt: skip
driver = Entity(name="driver", join_keys=["driver"], value_type=ValueType.INT64)
views = [
    FeatureView(
        name=f"view_{v}", entities=[driver], ttl=timedelta(days=3650),
        source=FileSource(path=str(folder / f"view_{v}.parquet"), timestamp_field="event_timestamp"),
        schema=[Field(name=f"f{v}_{i}", dtype=Float64) for i in range(5)],
    )
    for v in range(3)
]  # fmt: skip
if not ready:
    store.apply([driver, *views])
    now = datetime.now(UTC)
    store.materialize(now - timedelta(days=3650), now)
    (home / "done").touch()
features = [f"view_{v}:f{v}_{i}" for v in range(3) for i in range(5)]
rows = [{"driver": i * 7 % 10_000} for i in range(count)]


def read():
    return store.get_online_features(features=features, entity_rows=rows).to_dict()


for _ in range(max(3, repeats // 10)):
    answer = read()
best = float("inf")
for _ in range(5):
    begun = time.process_time_ns()
    for _ in range(repeats):
        answer = read()
    best = min(best, (time.process_time_ns() - begun) / repeats / 1000)
names = [f.split(":")[1] for f in features]
print("\n" + json.dumps({"micros": best, "answer": [[answer[n][i] for n in names] for i in range(count)]}))
