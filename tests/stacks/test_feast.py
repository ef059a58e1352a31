"""Feast and Treadle, each in its own environment, give the same answers from the same declarations, row by row.

Feast is installed once, into benchmarks/.environments/feast (this needs a package index).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.errors import Conflict, NotFound, UsageError
from treadle.features.history import history, join
from treadle.features.online import look_up
from treadle.stacks.feast_export import export, told
from treadle.stacks.feast_import import name_of, written
from treadle.testing import servers
from treadle.wheel.materialise import materialise

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
PROJECT = '''
import polars as pl
import treadle as tr

project = tr.Project("fleet-ops")
trips = project.dataset("trips", source=tr.parquet("trips.parquet"), key="id", event_time="at", known_time="known")
project.view("last-trip", source=trips, entity="driver", features=["fare", "area"], ttl="6h", description="the latest trip known")
project.view("hours", source=trips, entity="driver", window="4h", every="1h", features={"n": pl.len(), "mean_fare": pl.col("fare").mean()})
project.view("pairs", source=trips, entity=("driver", "zone"), features=["fare2"])
'''


def trips() -> pl.DataFrame:
    rows = []
    for i in range(400):
        at = NOW - timedelta(minutes=7 * (400 - i))
        rows.append((i, i * 13 % 7, at, at + timedelta(minutes=i * 29 % 90), float(i % 50), f"z{i % 3}", f"a{i % 5}", None if i % 11 == 0 else float(i)))
    return pl.DataFrame(rows, schema={"id": pl.Int64, "driver": pl.Int64, "at": TIME, "known": TIME, "fare": pl.Float64, "zone": pl.String, "area": pl.String, "fare2": pl.Float64}, orient="row")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "project.py").write_text(PROJECT)
    trips().write_parquet(folder / "trips.parquet")
    return open_workspace(folder)


def histories(ws: Workspace) -> list[Any]:
    return [(view, history(view, trips())) for view in ws.project.views.values()]


# --- without Feast


def test_a_file_for_feast_has_a_row_of_nulls_where_a_value_ends(ws: Workspace) -> None:
    view = ws.project.views["last-trip"]
    one = pl.DataFrame({"id": [1, 2], "driver": [3, 3], "at": [NOW, NOW + timedelta(hours=9)], "known": [NOW, NOW + timedelta(hours=9)], "fare": [5.0, 6.0], "area": ["a", "b"]}, schema_overrides={"at": TIME, "known": TIME})
    rows = told(view, history(view, one)).rows()
    after = timedelta(hours=6, microseconds=1)
    assert rows == [(3, NOW, 5.0, "a"), (3, NOW + after, None, None), (3, NOW + timedelta(hours=9), 6.0, "b"), (3, NOW + timedelta(hours=9) + after, None, None)]


def test_a_folder_that_holds_something_else_is_left_alone(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(Conflict, match="is not empty, and no Feast repository"):
        export("p", histories(ws), tmp_path / "mine")
    with pytest.raises(UsageError, match="declares no view"):
        export("p", [], tmp_path / "other")
    view = replace(ws.project.views["last-trip"], features=("fare", "zone"))
    with pytest.raises(UsageError, match="Feature 'zone' of view 'last-trip' has the name of an entity"):
        export("p", [(view, trips()), *histories(ws)], tmp_path / "other")
    with pytest.raises(UsageError, match="declares no view"):
        export("p", [], tmp_path / "other")


def test_what_cannot_be_taken_over_is_said() -> None:
    view = {
        "name": "Driver Stats", "entities": ["driver"], "keys": ["driver_id"], "key_types": {"driver_id": "Int64"}, "features": {"a": "Float32", "b": "Array(Float32)"},
        "descriptions": {"a": "an a"}, "ttl": 86400.0, "source": {"kind": "FileSource", "path": "d.parquet", "time": "ts", "created": "made", "mapping": {}},
        "description": "", "owner": "ann", "tags": {}, "online": True,
    }  # fmt: skip
    said = {
        "feast": "0.67.0", "project": "P1", "entities": {}, "services": {}, "left": [{"name": "od", "kind": "on-demand view"}],
        "views": [view, {**view, "name": "big", "source": {"kind": "BigQuerySource", "path": "", "time": "ts", "created": "", "mapping": {}}}],
    }  # fmt: skip
    made = written(said, Path("/srv/features"))
    assert made.views == ["driver_stats"]
    assert [line.split(":")[0] for line in made.left] == ["on-demand view 'od'", "feature 'b' of view 'Driver Stats'", "view 'big'"]
    found: dict[str, Any] = {}
    exec(made.text, found)  # what was written is a project file
    declared = found["project"].views["driver_stats"]
    assert (declared.entity, declared.features, declared.ttl, declared.owner) == (("driver_id",), ("a",), timedelta(days=1), "ann")
    assert declared.source.source.path == "/srv/features/d.parquet"
    assert (declared.source.event_time, declared.source.known_time, declared.source.key) == ("ts", None, ("driver_id", "ts", "made"))
    assert [name_of(n) for n in ("driverStats", "a  b", "X", "__")] == ["driver_stats", "a_b", "x", "view"]


def treadle(folder: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "treadle.cli.main", "-C", str(folder), *words], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_without_feast_it_is_said_how_to_get_it(ws: Workspace, tmp_path: Path) -> None:
    treadle(ws.folder, "feast", "export", str(tmp_path / "repo"))
    new = tmp_path / "new"
    assert "has no package feast. Make an environment of its own" in treadle(new, "feast", "import", str(tmp_path / "repo"), "--python", sys.executable, code=UsageError.exit_code)
    assert "There is no Python '/no/python'" in treadle(new, "feast", "import", str(tmp_path / "repo"), "--python", "/no/python", code=UsageError.exit_code)
    assert "is no Feast repository" in treadle(new, "feast", "import", str(tmp_path), "--python", sys.executable, code=NotFound.exit_code)


# --- with Feast


@pytest.fixture(scope="session")
def feast() -> Path:
    """The Python of Feast's environment, made if it is not there as its requirements say."""
    folder, wanted = ROOT / "benchmarks" / ".environments" / "feast", (ROOT / "benchmarks" / "feast" / "requirements.txt").read_bytes()
    mark, python = folder / ".requirements", folder / "bin" / "python"
    if not mark.exists() or mark.read_text() != hashlib.sha256(wanted).hexdigest():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(ROOT / "benchmarks" / "feast" / "requirements.txt")], check=True)
        mark.write_text(hashlib.sha256(wanted).hexdigest())
    return python


Ask = Callable[[Path, dict[str, Any]], dict[str, Any]]


@pytest.fixture
def ask(feast: Path, tmp_path: Path) -> Ask:
    def asked(repository: Path, questions: dict[str, Any]) -> dict[str, Any]:
        environment = {**os.environ, "HOME": str(tmp_path), "FEAST_USAGE": "False", "TZ": "UTC"}
        if not (repository / "data" / "registry.db").exists():
            subprocess.run([str(feast.parent / "feast"), "apply"], cwd=repository, check=True, capture_output=True, env=environment)
        (tmp_path / "questions.json").write_text(json.dumps(questions))
        command = [str(feast), str(Path(__file__).with_name("feast_answers.py")), str(repository), str(tmp_path / "questions.json"), str(tmp_path / "answers.json")]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, Any] = json.loads((tmp_path / "answers.json").read_text())
        return found

    return asked


FEATURES = ["last_trip:fare", "last_trip:area", "hours:n", "hours:mean_fare", "pairs:fare2"]


def same(ours: list[Any], theirs: list[Any]) -> bool:
    return len(ours) == len(theirs) and all((a is None) == (b is None) and (a is None or a == b or (isinstance(a, float) and abs(a - b) < 1e-9)) for a, b in zip(ours, theirs))


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_an_exported_repository_answers_in_feast_as_we_do_in_training_and_online(ws: Workspace, tmp_path: Path, ask: Ask, store: str) -> None:
    repository = tmp_path / "repo"
    redis = ("--redis", f"127.0.0.1:{servers.redis().port},db={3}") if store == "redis" else ()
    treadle(ws.folder, "feast", "export", str(repository), *redis)
    moments = [NOW - timedelta(minutes=37 * i, seconds=i % 5) for i in range(80)]
    rows = pl.DataFrame({"row": range(80), "driver": [i % 8 for i in range(80)], "zone": [f"z{i % 4}" for i in range(80)], "event_timestamp": moments}, schema_overrides={"event_timestamp": TIME})
    expected = rows.select("row")
    for view, values in histories(ws):
        expected = expected.hstack(join(rows.select("event_timestamp", *view.entity), "event_timestamp", view, values).select(view.feature_names()))
    questions = {
        "features": FEATURES, "rows": [{**r, "event_timestamp": r["event_timestamp"].isoformat()} for r in rows.to_dicts()],
        "materialise": [(NOW - timedelta(days=9)).isoformat(), NOW.isoformat()],
        "entities": [{"driver": d, "zone": f"z{z}"} for d in range(8) for z in range(4)],
    }  # fmt: skip
    said = ask(repository, questions)
    assert len(said["rows"]) == 80
    wrong = [(ours, theirs) for ours, theirs in zip(expected.rows(), said["rows"]) if not same([float(v) if isinstance(v, int) and i else v for i, v in enumerate(ours)], theirs)]
    assert wrong == []
    assert sum(v is None for row in said["rows"] for v in row) > 20  # ended and unknown values are among them
    views = list(ws.project.views.values())
    for view in views:
        materialise(ws, view, until=NOW)
    ours = [[v for view in views for v in found[view.name].values.values()] for found in look_up(ws.online, views, questions["entities"], NOW)]
    assert [(a, b) for a, b in zip(ours, said["entities"]) if not same(a, b)] == []


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_feast_repository_is_taken_over_with_what_its_online_store_holds(tmp_path: Path, ask: Ask, feast: Path, store: str) -> None:
    repository, folder = tmp_path / "their-repo", tmp_path / "new"
    (repository / "data").mkdir(parents=True)
    rows = trips().select("driver", "zone", pl.col("at").alias("event_timestamp"), "fare", "fare2")
    rows.write_parquet(repository / "data" / "trips.parquet")
    online = "type: sqlite\n  path: data/online.db" if store == "sqlite" else f"type: redis\n  connection_string: 127.0.0.1:{servers.redis().port},db=4"
    (repository / "feature_store.yaml").write_text(f"project: theirs\nregistry: data/registry.db\nprovider: local\nonline_store:\n  {online}\noffline_store:\n  type: file\nentity_key_serialization_version: 3\n")
    (repository / "definitions.py").write_text('''
from datetime import timedelta
from feast import Entity, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, String
driver = Entity(name="driver", join_keys=["driver"], value_type=ValueType.INT64)
source = FileSource(path="data/trips.parquet", timestamp_field="event_timestamp")
stats = FeatureView(name="driver_stats", entities=[driver], ttl=timedelta(hours=3), source=source, description="stats of a driver",
    schema=[Field(name="fare", dtype=Float64), Field(name="fare2", dtype=Float64), Field(name="zone", dtype=String)])
''')
    features = ["driver_stats:fare", "driver_stats:fare2", "driver_stats:zone"]
    moments = [NOW - timedelta(minutes=37 * i, seconds=i % 5) for i in range(80)]
    asked = [{"row": i, "driver": i % 8, "event_timestamp": m.isoformat()} for i, m in enumerate(moments)]
    span = [(NOW - timedelta(days=9)).isoformat(), NOW.isoformat()]
    said = ask(repository, {"features": features, "rows": asked, "materialise": span, "entities": [{"driver": d} for d in range(8)]})
    told = treadle(folder, "feast", "import", str(repository), "--python", str(feast), "--values")
    assert "1 views: driver_stats" in told
    assert "driver_stats: 7 of 7 values were newer than ours" in told
    ws = open_workspace(folder)
    view = ws.project.views["driver_stats"]
    source = pl.read_parquet(view.source.source.path)
    table = pl.DataFrame({"driver": [i % 8 for i in range(80)], "event_timestamp": moments}, schema_overrides={"event_timestamp": TIME})
    ours = join(table, "event_timestamp", view, history(view, source)).select(view.feature_names()).rows()
    assert [(a, b) for a, b in zip(ours, said["rows"]) if not same(list(a), b[1:])] == []
    found = [list(f["driver_stats"].values.values()) for f in look_up(ws.online, [view], [{"driver": d} for d in range(8)], NOW)]
    assert [(a, b) for a, b in zip(found, said["entities"]) if not same(a, b)] == []
    again = look_up(ws.online, [view], [{"driver": 1}], NOW + timedelta(days=1))[0]["driver_stats"]
    assert (again.values["fare"], again.missing) == (None, "too old")  # where Feast serves it for ever
    assert "0 of 7 values" in treadle(folder, "feast", "import", str(repository), "--python", str(feast), "--values")
