"""Two runs of a model compared: data by key, what the search found, metrics of the versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.data.write_project import write_blank
from treadle.provenance.compare import _by_key, compare
from treadle.wheel.start import start

CAUSE = {"kind": "person", "id": "", "text": "test"}


@pytest.fixture
def data(tmp_path: Path) -> Workspace:
    (tmp_path / "project.py").write_text("import treadle as tr\np = tr.Project('a')\np.dataset('d', source=tr.csv('x.csv'), key='id')\n")
    return open_workspace(tmp_path)


def rows_of(ws: Workspace, old: dict[str, list[Any]], new: dict[str, list[Any]]) -> dict[str, Any]:
    return _by_key("d", ws.tables.put(pl.DataFrame(old)), ws.tables.put(pl.DataFrame(new)), ws)


def test_rows_are_told_apart_by_their_key(data: Workspace) -> None:
    old = {"id": [1, 2, 3, 4], "x": [1.0, float("nan"), None, 4.0], "y": ["a", "b", "c", "d"]}
    new = {"id": [5, 4, 3, 2], "x": [1.0, 4.5, None, float("nan")], "y": ["a", "d", "c", "b"]}
    assert rows_of(data, old, new) == {"added": 1, "removed": 1, "changed": 1, "note": ""}


def test_a_row_that_lost_or_got_a_value_is_changed(data: Workspace) -> None:
    assert rows_of(data, {"id": [1, 2], "x": [None, 2]}, {"id": [1, 2], "x": [1, None]})["changed"] == 2


def test_columns_that_came_or_went_or_have_another_type_are_named(data: Workspace) -> None:
    found = rows_of(data, {"id": [1, 2], "x": [1, 2], "old": [0, 0]}, {"id": [1, 2], "x": ["1", "3"], "new": [0, 0]})
    assert found == {"added": 0, "removed": 0, "changed": 1, "note": "without column old, with column new; other type: x"}


def test_a_key_that_names_two_rows_tells_nothing(data: Workspace) -> None:
    assert rows_of(data, {"id": [1, 1], "x": [1, 2]}, {"id": [1, 2], "x": [1, 2]})["note"] == "id is not unique in one of the two"
    assert rows_of(data, {"other": [1]}, {"id": [1]})["note"] == "one of the two has no key id"
    assert _by_key("d", "0" * 64, data.tables.put(pl.DataFrame({"id": [1]})), data)["note"] == "the rows of one of the two are gone"
    assert _by_key("e", data.tables.put(pl.DataFrame({"id": [2]})), data.tables.put(pl.DataFrame({"id": [1]})), data)["added"] is None


@pytest.mark.story
def test_two_runs_of_a_model(tmp_path: Path) -> None:
    write_blank(tmp_path, "tiny")
    project = tmp_path / "project.py"
    project.write_text(project.read_text().replace('target="late",\n', 'target="late",\n    trials=3,\n'))
    ws = open_workspace(tmp_path)
    first = start(ws, cause=CAUSE).run
    file = tmp_path / "deliveries.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:5], *lines[7:]]) + "\n")
    second = start(ws, cause=CAUSE).run
    found = compare(ws, first, second)
    told = found["data"]["deliveries"]
    assert (told["rows"], told["added"], told["removed"], told["changed"]) == ([2000, 1998], 0, 2, 0)
    assert found["metrics"]
    assert all(m["old"] != m["new"] for m in found["metrics"].values())
    assert found["code"] == []
    assert {s["step"] for s in found["steps"] if s["result"] == "same"} <= {"signature", "settings", "verdict"}
    assert compare(ws, second, second)["data"] == {}
