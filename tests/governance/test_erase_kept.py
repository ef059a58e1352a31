"""An erasure reaches what was kept of a person beside versions and predictions: rows of a run that stopped, journals of recalibrations, backtests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.canonical import canonical
from treadle.core.errors import ContractViolated, NotFound
from treadle.data import promises, set_aside, suppressed, versions
from treadle.persons import erase as work
from treadle.ports.predictions import Prediction
from treadle.testing.forgotten import holding

PROJECT = """
import treadle as tr

project = tr.Project("visits", owner="door", goal="count")
visits = project.dataset("visits", source=tr.csv("visits.csv"), key="visit", event_time="at", subject="person",
    contract=tr.Contract({"visit": tr.integer(), "person": tr.text(), "at": tr.timestamp(), "name": tr.text(personal="name"), "paid": tr.number(ge=0)}))
late = project.model("late", rows=visits, target="late", inputs=["paid"])
"""


def opened(folder: Path, bad: int) -> Workspace:
    """Visits of twenty persons; the first `bad` of a hundred break the contract."""
    (folder / "project.py").write_text(PROJECT)
    lines = [f"{n},guest-{n % 20:04},2026-01-{1 + n % 28:02}T00:00:00Z,Visitor Quorn {n % 20:03}x,{-1 if n < bad else 1}" for n in range(100)]
    (folder / "visits.csv").write_text("\n".join(["visit,person,at,name,paid", *lines]))
    return open_workspace(folder)


def take(ws: Workspace) -> versions.Version:
    known = suppressed.known(ws.ledger, ws.settings.home)
    taken = versions.take(ws.project.datasets["visits"], ws.folder, ws.tables, ws.ledger, erased=known)
    versions.record(taken, ws.ledger)
    return taken


def test_rows_that_a_stopped_run_set_aside_are_searched_and_the_others_can_still_be_corrected(tmp_path: Path) -> None:
    ws = opened(tmp_path, bad=40)
    with pytest.raises(ContractViolated):
        take(ws)
    assert holding(tmp_path / ".treadle", ("Visitor Quorn 007x",))
    plan = work.look(ws, "guest-0007")
    assert [(h.dataset, h.rows, h.quarantined) for h in plan.held] == [("visits", 0, 2)]
    record = work.erase(ws, "guest-0007")
    assert record["status"] == "done", record["verification"]
    assert holding(tmp_path / ".treadle", ("Visitor Quorn 007x", "guest-0007")) == []
    left = set_aside.table(ws.project.datasets["visits"], ws.ledger, ws.tables)
    assert left is not None
    assert (left.height, left["person"].n_unique()) == (38, 19)
    state = ws.ledger.get(promises.STATE, "visits")
    assert state is not None
    assert state["quarantined"] == 38


def test_what_is_set_aside_beside_a_version_stays_listed_for_everybody_else(tmp_path: Path) -> None:
    ws = opened(tmp_path, bad=4)
    take(ws)
    assert work.erase(ws, "guest-0002")["status"] == "done"
    left = set_aside.table(ws.project.datasets["visits"], ws.ledger, ws.tables)
    assert left is not None
    assert sorted(left["person"]) == ["guest-0000", "guest-0001", "guest-0003"]


def test_predictions_of_the_person_are_named_in_no_journal_and_the_weights_are_as_they_were(tmp_path: Path) -> None:
    ws = opened(tmp_path, bad=0)
    take(ws)
    said = [f"id-{n}" for n in range(3)]
    asked = [canonical({"person": f"guest-{n:04}"}) for n in range(3)]
    ws.predictions.write([Prediction(id, "late", n, n, 1, "champion", (0.5, 0.5), 0, (), asked[n], b"[1]", 9) for n, id in enumerate(said)])
    journal = ws.blobs.put(canonical([[id, (0.25).hex(), n % 2] for n, id in enumerate(said)]))
    body = {"model": "late", "version": 1, "state": {"a": 1.0}, "mark": "m", "recent": dict.fromkeys(said, 5), "journals": [[journal, 3]]}
    ws.ledger.put("recalibration", "late-v1", body)
    assert work.erase(ws, "guest-0001")["status"] == "done"
    record = ws.ledger.get("recalibration", "late-v1")
    assert record is not None
    assert set(record["recent"]) == {"id-0", "id-2"}
    assert (record["state"], record["mark"]) == ({"a": 1.0}, "m")
    [[address, rows]] = record["journals"]
    assert (rows, json.loads(ws.blobs.get(address))) == (3, [["id-0", (0.25).hex(), 0], ["", (0.25).hex(), 1], ["id-2", (0.25).hex(), 0]])
    with pytest.raises(NotFound):
        ws.blobs.get(journal)


def test_what_backtests_keep_to_be_quick_goes_and_is_made_again(tmp_path: Path) -> None:
    ws = opened(tmp_path, bad=0)
    take(ws)
    kept = {kind: ws.blobs.put(f"learned from guest-0001: {kind}".encode()) for kind in ("backtest_life", "backtest_training")}
    for kind, address in kept.items():
        ws.ledger.put(kind, "x", {"model": "late", "policy": {}, "address": address})
    assert work.erase(ws, "guest-0001")["status"] == "done"
    assert not any(ws.blobs.exists(address) for address in kept.values())
    assert [r["address"] for kind in kept for r in ws.ledger.find(kind)] == ["", ""]
