"""A file larger than memory is read in a process of its own: it says how far it is, and where memory or the disk runs out there is one sentence."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.errors import ContractViolated, DataError
from treadle.data import set_aside
from treadle.pipelines.run import Progress
from treadle.wheel import in_parts
from treadle.wheel.materialise import materialise, newest_version

PROJECT = """
import treadle as tr

project = tr.Project("big")
columns = {"id": tr.integer(), "at": tr.timestamp(), "who": tr.integer(), "paid": tr.number(ge=0)}
rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id", event_time="at", contract=tr.Contract(columns))
latest = project.view("latest", source=rows, entity="who", features=["paid"])
"""
ROWS = 40_000


def opened(folder: Path, monkeypatch: pytest.MonkeyPatch, paid: str = "{i}.5", rows: int = ROWS) -> Workspace:
    (folder / "project.py").write_text(PROJECT)
    lines = (f"{i},2026-01-{1 + i % 28:02}T{i % 24:02}:00:00Z,{i % 97},{paid.format(i=i)}\n" for i in range(rows))
    (folder / "rows.csv").write_text("id,at,who,paid\n" + "".join(lines))
    monkeypatch.setenv("TREADLE_MEMORY", "9MB")
    return open_workspace(folder)


def die(**given: Any) -> None:
    (given["scratch"] / "left").write_text("a part")
    os.kill(os.getpid(), signal.SIGKILL)




def test_it_says_how_far_it_is_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_parts, "EVERY", 0.0)
    heard: list[Progress] = []
    ws = opened(tmp_path, monkeypatch)
    ws.watch = heard.append
    assert materialise(ws, ws.project.views["latest"]).entities == 97
    said = [p.reason for p in heard if p.state == "note" and p.step == "data:rows"]
    assert said[-1].endswith("rows stored, 0%")
    assert f"{ROWS:,} rows read, 100%" in said
    assert f"{ROWS:,} rows read; putting them in order" in said
    assert not list((tmp_path / ".treadle" / "spill").iterdir())


def test_a_process_that_is_killed_for_want_of_memory_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = opened(tmp_path, monkeypatch, rows=ROWS)
    monkeypatch.setattr(in_parts, "apart", die)
    with pytest.raises(DataError) as caught:
        newest_version(ws, ws.project.views["latest"])
    assert "was killed (signal 9, SIGKILL), perhaps by the kernel for want of memory; reading 'rows.csv' in parts" in caught.value.what
    assert caught.value.where is not None
    assert "data set 'rows'" in caught.value.where
    assert "Nothing was changed." in str(caught.value.hint)
    assert "TREADLE_MEMORY=64MB" in str(caught.value.hint)
    assert not list((tmp_path / ".treadle" / "spill").iterdir())


def test_a_file_whose_rows_are_nearly_all_wrong_is_refused_with_the_first_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from treadle.data import large

    monkeypatch.setattr(large, "MOST_REFUSED", 1000)
    ws = opened(tmp_path, monkeypatch, paid="-{i}.5")
    monkeypatch.setattr(in_parts, "take", here)
    with pytest.raises(ContractViolated, match=f"{ROWS:,} of {ROWS:,} rows"):
        newest_version(ws, ws.project.views["latest"])
    kept = set_aside.table(ws.project.datasets["rows"], ws.ledger, ws.tables)
    assert kept is not None
    assert 1000 <= kept.height <= ROWS
    state = ws.ledger.get("contract_state", "rows")
    assert state is not None
    assert state["quarantined"] == ROWS


def test_a_file_that_stands_in_itself_twice_is_refused_with_the_first_doubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from treadle.data import large

    monkeypatch.setattr(large, "MOST_REFUSED", 1000)
    monkeypatch.setattr(large, "_LEAST", 100_000)
    ws = opened(tmp_path, monkeypatch)
    file = tmp_path / "rows.csv"
    file.write_text(file.read_text() + file.read_text().partition("\n")[2])
    monkeypatch.setattr(in_parts, "take", here)
    with pytest.raises(ContractViolated, match=rf"{ROWS:,} of {2 * ROWS:,} rows \(50\.0%\) break the contract.*id is not unique \({ROWS:,} rows\)"):
        newest_version(ws, ws.project.views["latest"])


def here(ws: Workspace, dataset: Any, memory: int, say: Any) -> Any:
    """In this process, so that the limits above count."""
    scratch = ws.folder / "scratch"
    scratch.mkdir()
    names = in_parts.Names(ws)
    return in_parts.apart(names, names.name(dataset), memory, scratch, ws.clock.now(), 1.0)
