"""Run by Feast's own Python, never by ours: says what a Feast repository declares, and what its online store holds.

    python feast_program.py definitions REPOSITORY > definitions.json
    python feast_program.py values REPOSITORY FOLDER          # one Parquet file a view; prints the views
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("FEAST_USAGE", "False")


def definitions(store: Any) -> dict[str, Any]:
    entities = {e.name: {"keys": [e.join_key], "type": e.value_type.name} for e in store.list_entities()}
    views = []
    for view in store.list_batch_feature_views() if hasattr(store, "list_batch_feature_views") else store.list_feature_views():
        source = view.batch_source
        options = {} if source is None else {
            "kind": type(source).__name__, "path": getattr(source, "path", "") or "", "time": source.timestamp_field,
            "created": source.created_timestamp_column or "", "mapping": dict(source.field_mapping or {}),
        }  # fmt: skip
        views.append({
            "name": view.name, "entities": list(view.entities), "keys": [c.name for c in view.entity_columns],
            "key_types": {c.name: str(c.dtype) for c in view.entity_columns}, "features": {f.name: str(f.dtype) for f in view.features},
            "descriptions": {f.name: f.description for f in view.features if f.description},
            "ttl": view.ttl.total_seconds() if view.ttl else 0.0, "source": options, "description": view.description, "owner": view.owner,
            "tags": dict(view.tags), "online": bool(view.online),
        })  # fmt: skip
    left = [{"name": v.name, "kind": "on-demand view"} for v in store.list_on_demand_feature_views()]
    left += [{"name": v.name, "kind": "stream view"} for v in getattr(store, "list_stream_feature_views", list)()]
    services = {s.name: {p.name: [f.name for f in p.features] for p in s.feature_view_projections} for s in store.list_feature_services()}
    import feast

    return {
        "feast": feast.__version__, "project": store.project, "entities": entities, "views": views, "services": services, "left": left,
        "online_store": store.config.online_store.type, "offline_store": store.config.offline_store.type,
    }  # fmt: skip


def values(store: Any, folder: Path) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from feast.infra.key_encoding_utils import deserialize_entity_key
    from feast.type_map import feast_value_type_to_python_type

    folder.mkdir(parents=True, exist_ok=True)
    online = store._get_provider().online_store
    said = []
    for view in store.list_feature_views():
        keys = [deserialize_entity_key(key, 3) for key in entity_keys(store, online, view)]
        names = [f.name for f in view.features]
        columns: dict[str, list[Any]] = {name: [] for name in [*(c.name for c in view.entity_columns), "event_timestamp", *names]}
        for at in range(0, len(keys), 1000):
            part = keys[at : at + 1000]
            for key, (moment, found) in zip(part, online.online_read(store.config, view, part, list(names))):
                if found is None:
                    continue
                for name, value in zip(key.join_keys, key.entity_values):
                    columns[name].append(feast_value_type_to_python_type(value))
                columns["event_timestamp"].append(int(moment.timestamp() * 1_000_000 + 0.5))
                for name in names:
                    columns[name].append(feast_value_type_to_python_type(found[name]) if name in found else None)
        file = folder / f"{view.name}.parquet"
        pq.write_table(pa.table(columns), file)
        said.append({"view": view.name, "file": file.name, "entities": len(columns["event_timestamp"])})
    return said


def entity_keys(store: Any, online: Any, view: Any) -> list[bytes]:
    """The serialised keys of a view's entities. Feast has no call for it, so each kind of store is asked in its own way."""
    kind, project = store.config.online_store.type, store.project
    if kind == "sqlite":
        from feast.infra.online_stores.sqlite import _table_id

        path = Path(store.config.online_store.path)
        path = path if path.is_absolute() else Path(store.repo_path or ".") / path
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            try:
                table = _table_id(project, view)
            except TypeError:
                table = _table_id(project, view, False)
            found = connection.execute("SELECT name FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            return [row[0] for row in connection.execute(f'SELECT DISTINCT entity_key FROM "{table}"')] if found else []
    if kind == "redis":
        client, end = online._get_client(store.config.online_store), project.encode()
        found = [key for key in client.scan_iter(b"*" + end, count=1000) if client.hexists(key, f"_ts:{view.name}")]
        return [key[: -len(end)] for key in found]
    raise SystemExit(f"The values of a Feast online store of kind {kind!r} cannot be listed; only sqlite and redis can.")


def main(arguments: list[str]) -> None:
    what, repository, *rest = arguments
    from feast import FeatureStore

    store = FeatureStore(repo_path=repository)
    said: Any = definitions(store) if what == "definitions" else values(store, Path(rest[0]))
    print("\n" + json.dumps(said), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
