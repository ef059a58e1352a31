"""Where a model should run: measured on this machine, with its own rows, its own package and its own online store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from treadle.assemble import Workspace, formats, tree_scorer
from treadle.core.declare.model import Model
from treadle.core.errors import DataError, NotFound, Unavailable
from treadle.core.records import Record
from treadle.data import versions as data_versions
from treadle.features.parity import request_of
from treadle.registry import packages, promote, versions
from treadle.serving.batch import Batch
from treadle.serving.loaded import Loaded
from treadle.serving.modes import Measured
from treadle.serving.requests import micros

ROWS, ALONE, SECONDS = 20_000, 300, 1.0
_CHILD = """
import json, sys, resource, time
from pathlib import Path
from treadle.assemble import formats
from treadle.serving.loaded import Loaded
told = json.loads(sys.stdin.read())
loaded = Loaded(Path(told["folder"]), told["manifest"], formats(), told["number"])
loaded.outputs([told["features"]])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def measure(ws: Workspace, model: Model, number: int | None = None, tell: Callable[[str], None] = lambda line: None) -> tuple[Record, Measured]:
    """Measure a version: the champion if not said, else the newest. Raises NotFound, DataError, Unavailable."""
    version = _version(ws, model, number)
    folder, manifest = packages.open_package(version["package"], ws.blobs, ws.shelf)
    loaded = Loaded(folder, manifest, formats(), int(version["number"]))
    rows = _rows(ws, model, version)
    tell(f"measuring {version.id} on {rows.height:,} rows of {model.rows.name}")
    fields = [f.name for f in loaded.request]
    requests = [request_of(row, fields) for row in rows.head(ALONE).iter_rows(named=True)]
    times, features = _alone(ws, loaded, requests)
    looked_up = [f for f in loaded.features if f.source == "view"]
    batch = Batch(loaded, now=ws.clock.now(), sent=[f.name for f in looked_up], quick=tree_scorer(folder, manifest["model"]))
    own = rows.drop([f.name for f in looked_up], strict=False)  # a column may bear the name of a view's feature
    batch.answer(own)
    begun, answered = time.process_time(), 0
    while time.process_time() - begun < SECONDS:
        batch.answer(own)
        answered += own.height
    bulk = answered / (time.process_time() - begun)
    start, memory = _fresh(folder, manifest, int(version["number"]), features)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    half, most = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    return version, Measured(half, most, bulk, size, memory, start, manifest["model"]["format"], len(looked_up))


def _version(ws: Workspace, model: Model, number: int | None) -> Record:
    deployed = promote.deployment(model.name, ws.ledger)
    if number is None and deployed is not None:
        number = int(deployed["champion"])
    if number is not None:
        return versions.get(model.name, number, ws.ledger)
    known = versions.all_versions(model.name, ws.ledger)
    if not known:
        raise NotFound(f"Model {model.name!r} has no version yet.", hint=f"Run: treadle run {model.name}")
    return known[-1]


def _rows(ws: Workspace, model: Model, version: Record) -> pl.DataFrame:
    """Rows the version was made from, the last ones, as often as it takes."""
    record = ws.ledger.get(data_versions.KIND, version["data"].get(model.rows.name, ""))
    if record is None or not ws.tables.exists(record["address"]):
        raise DataError(f"The rows that {version.id} was made from are not there any more.", hint=f"Run: treadle run {model.name}")
    some = ws.tables.scan(record["address"]).tail(ROWS).collect()
    return pl.concat([some] * max(1, -(-ROWS // some.height))).head(ROWS)


def _alone(ws: Workspace, loaded: Loaded, requests: list[dict[str, Any]]) -> tuple[list[float], list[Any]]:
    """CPU microseconds of each of a second's worth of requests, sorted (what else runs here does not count); and the features of the last."""
    field, now = loaded.moment_field, micros(ws.clock.now())
    times: list[float] = []
    features: list[Any] = []
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < len(requests):
        for request in requests:
            begun = time.process_time()
            values = loaded.parser.parse(request)
            moment = now if field is None or values.get(field) is None else int(values[field])
            if field is not None:
                values[field] = moment
            features, _ = loaded.feature_values(values, moment, ws.online)
            loaded.outputs([features])
            times.append((time.process_time() - begun) * 1e6)
    return sorted(times), features


def _fresh(folder: Path, manifest: dict[str, Any], number: int, features: list[Any]) -> tuple[float, int]:
    """Seconds until a fresh process has loaded the package and answered a row, and the bytes of memory it took at most."""
    told = json.dumps({"folder": str(folder), "manifest": manifest, "number": number, "features": features})
    begun = time.perf_counter()
    with tempfile.TemporaryFile("w+") as asked:
        asked.write(told)
        asked.seek(0)
        done = subprocess.run([sys.executable, "-c", _CHILD], stdin=asked, capture_output=True, text=True, check=False, env=dict(os.environ))
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise Unavailable(f"A process could not load {folder.name}: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    return seconds, int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
