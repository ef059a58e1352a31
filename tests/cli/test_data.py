"""`treadle data` as it is typed: list, show, compare, clean; readable and as JSON, with personal values hidden."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import open_workspace
from treadle.cli.main import main
from treadle.data import versions

PROJECT = """
import treadle as tr
project = tr.Project("shop")
orders = project.dataset(
    "orders", source=tr.csv("orders.csv"), key="id", keep="30d",
    contract=tr.Contract({"who": tr.text(personal="name"), "paid": tr.number(ge=0)}, at_most=0.9),
)
images = project.dataset("images", source=tr.files("*.png"), key="path")
"""


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    (tmp_path / "project.py").write_text(PROJECT)

    def run(*words: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert main(["-C", str(tmp_path), "data", *words]) == code
        out, err = capsys.readouterr()
        return json.loads(out) if "--json" in words else out + err

    return run


def take(folder: Path, name: str, *lines: str) -> None:
    if lines:
        (folder / "orders.csv").write_text("\n".join(["id,who,paid", *lines]) + "\n")
    ws = open_workspace(folder)
    versions.record(versions.take(ws.project.datasets[name], folder, ws.tables, ws.ledger, blobs=ws.blobs), ws.ledger)


def test_before_there_is_a_version_it_says_what_to_do(say: Callable[..., Any]) -> None:
    assert "never" in say()
    assert "has no version yet. Run: treadle run" in say("versions", "orders")
    assert "has no version yet" in say("show", "orders", code=5)
    assert "There is no data set 'sales'" in say("versions", "sales", code=5)
    assert "There is nothing to drop" in say("clean")


def test_versions_are_listed_shown_and_compared(tmp_path: Path, say: Callable[..., Any]) -> None:
    take(tmp_path, "orders", "1,Ada,1", "2,Bob,2", "3,Cy,-1")
    take(tmp_path, "orders", "1,Ada,5", "4,Di,4")
    (row,) = [d for d in say("--json") if d["data_set"] == "orders"]
    assert (row["number"], row["rows"], row["quarantined"]) == (1, 2, 0)
    newest, first = say("versions", "orders", "--json")
    assert (newest["number"], newest["added"], newest["changed"], newest["removed"]) == (1, 1, 1, 1)
    shown = say("show", "orders", "--version", "0")
    assert "left out: paid is below 0 (1 rows)" in shown
    assert "<name>" in shown
    found = say("diff", "orders", "--json")
    assert found["rows"] == {"added": 1, "removed": 1, "changed": 1, "note": ""}
    assert found["samples"]["changed"] == [{"id": "1", "changed": {"paid": [1.0, 5.0]}}]
    told = say("diff", "orders", first["id"], "1")
    assert "1 added, 1 removed, 1 changed" in told
    for text in (shown, told, say(), say("show", "orders", "--json").__str__(), str(found)):
        assert not any(name in text for name in ("Ada", "Bob", "Di"))
    assert "has no version '7'" in say("diff", "orders", "7", code=5)
    assert "There is no version of 'orders' before" in say("diff", "orders", "", "0", code=5)


def test_old_versions_are_dropped_only_when_asked(tmp_path: Path, say: Callable[..., Any]) -> None:
    take(tmp_path, "orders", "1,Ada,1")
    take(tmp_path, "orders", "1,Ada,2")
    ws = open_workspace(tmp_path)
    for record in ws.ledger.find(versions.KIND):
        ws.ledger.put(versions.KIND, record.id, {**record.body, "taken": "2020-01-01T00:00:00.000000Z"})
    assert "1 versions would be dropped; do it with: treadle data clean --yes" in say("clean")
    assert say("clean", "--json")["done"] is False
    assert "dropped 1 versions" in say("clean", "--yes")
    assert "its rows are gone: dropped" in say("show", "orders", "--version", "0")
    assert "dropped" in say("versions", "orders")
    assert "are gone" in say("diff", "orders", "0", "1", code=5)


def test_a_file_comes_back_as_a_version_had_it(tmp_path: Path, say: Callable[..., Any]) -> None:
    (tmp_path / "cat.png").write_bytes(b"meow")
    take(tmp_path, "images")
    (tmp_path / "cat.png").write_bytes(b"purr")
    take(tmp_path, "images")
    say("file", "images", "cat.png", "--version", "0", "--out", str(tmp_path / "old.png"))
    assert (tmp_path / "old.png").read_bytes() == b"meow"
    assert "is no set of files" in say("file", "orders", "cat.png", code=2)
