"""Feast: three feature views over Parquet files, its DuckDB offline store, `get_historical_features`."""

import shutil
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64
from feast.value_type import ValueType
from work import VIEWS, folder_and_rows, measured, told

folder, count = folder_and_rows()
home = Path(tempfile.mkdtemp())
store = FeatureStore(
    config=RepoConfig(
        project="bench", provider="local", registry=str(home / "registry.db"), entity_key_serialization_version=3,
        offline_store={"type": "duckdb"}, online_store={"type": "sqlite", "path": str(home / "online.db")},
    )
)  # fmt: skip
wanted = []
for name, (column, _, _, features, ttl) in VIEWS.items():
    entity = Entity(name=column, join_keys=[column], value_type=ValueType.INT64)
    source = FileSource(path=str(folder / f"{name}.parquet"), timestamp_field="event")
    names = [f"{name}_{i}" for i in range(features)]
    view = FeatureView(name=name, entities=[entity], ttl=timedelta(seconds=ttl), schema=[Field(name=n, dtype=Float64) for n in names], source=source)
    store.apply([entity, view])
    wanted += [f"{name}:{n}" for n in names]
rows = pd.read_parquet(folder / f"rows-{count}.parquet").rename(columns={"asked": "event_timestamp"})

result, cost = measured(lambda: store.get_historical_features(entity_df=rows, features=wanted).to_df())
result = result.rename(columns={"event_timestamp": "asked"}).sort_values("id")
result.to_parquet(sys.argv[3])
told(cost)
shutil.rmtree(home)
