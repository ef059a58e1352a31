"""`treadle note`, `owner`, `notices`, `approve --ask` and `audit` as they are typed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.cli.main import main

PROJECT = """
import treadle as tr

project = tr.Project("demo", owner="operations desk")
rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id")
late = project.model("late", rows=rows, target="y", inputs=["x"], gates=[tr.approved(lasts="30d")])
"""

Typed = Callable[..., str]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "rows.csv").write_text("id,x,y\n1,2,0\n")
    ws = open_workspace(tmp_path)
    ws.ledger.put("run", "run-0a1b2c", {"status": "done", "by": "rosa", "cause": {"kind": "person"}})
    finding = {"gate": "approved", "passed": True, "reason": "waits", "evidence": dict(ws.model().gates[0].options), "waits": True}
    body = {"model": "late", "number": 3, "status": "approved", "by": "ann", "run": "run-0a1b2c", "verdict": {"findings": [finding], "reasons": []}}
    ws.ledger.put("model_version", "late.v3", body)
    return ws


@pytest.fixture
def typed(ws: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    def run(who: str, *arguments: str, code: int = 0) -> str:
        monkeypatch.setenv("TREADLE_ACTOR", who)
        assert main(["-C", str(ws.folder), *arguments]) == code, capsys.readouterr()
        printed = capsys.readouterr()
        return printed.out if code == 0 else printed.err

    return run


def test_a_question_is_asked_told_answered_and_settled(typed: Typed, ws: Workspace) -> None:
    asked = json.loads(typed("ann", "note", "write", "last", "why\n2026 INFO forged\x1b[2J @bob", "--question", "--json"))
    assert asked["on"] == "run/run-0a1b2c"
    assert "ann asks you: why\\n2026 INFO forged\\x1b[2J @bob" in typed("bob", "notices", "--read")
    assert "nothing new" in typed("bob", "notices")
    assert "Question about run" in typed("bob", "notices", "--waiting")
    assert asked["id"] in typed("bob", "note", "list", "--mine")
    assert "ann's" in typed("bob", "note", "edit", asked["id"], "mine", code=4)
    assert "meanwhile" in typed("ann", "note", "edit", asked["id"], "again", "--version", "7", code=6)
    typed("bob", "note", "write", "run/run-0a1b2c", "the first run", "--answers", asked["id"])
    assert "settled by bob: answered" in typed("ann", "note", "list", "last")
    assert "nothing is open" in typed("ann", "note", "list")
    sent = [json.loads(line) for line in (ws.folder / ".treadle" / "alarms.jsonl").read_text().splitlines()]
    assert [m["title"] for m in sent] == ["For bob: question about run/run-0a1b2c", "For ann: answer about run/run-0a1b2c"]


@pytest.mark.parametrize(("thing", "code"), [
    ("nowhere", 5), ("run/none", 5), ("model/none", 5), ("prediction/p-1", 5), ("alarm-1", 5), ("project/other", 5), ("late.v9", 5), ("model/", 2),
])  # fmt: skip
def test_what_is_not_there_is_not_written_about(typed: Typed, ws: Workspace, thing: str, code: int) -> None:
    typed("ann", "note", "write", thing, "x", code=code)
    assert ws.ledger.find("note") == []


@pytest.mark.parametrize("thing", ["late", "model/late", "rows", "dataset/rows", "late.v3", "demo", "run-0a1b2c", "1b2c/..", "last"])
def test_things_are_named_as_people_name_them(typed: Typed, ws: Workspace, thing: str) -> None:
    typed("ann", "note", "write", thing, "x", code=5 if thing == "1b2c/.." else 0)


def test_a_thing_is_handed_over(typed: Typed) -> None:
    typed("ann", "owner", "offer", "late", "bob", "--text", "I leave")
    assert "Take over model late?" in typed("bob", "notices", "--waiting")
    assert "I leave" in typed("ann", "owner", "show")
    assert "offered to bob, not to eve" in typed("eve", "owner", "accept", "late", code=4)
    typed("bob", "owner", "accept", "late")
    assert typed("ann", "owner", "show", "late").splitlines()[0] == "model/late: bob"
    assert "bob's to hand over" in typed("eve", "owner", "offer", "late", "eve", code=4)
    assert "nothing is offered" in typed("ann", "owner", "show")


def test_who_asks_for_an_approval_does_not_give_it(typed: Typed, ws: Workspace) -> None:
    assert "late.v3" in typed("bea", "notices", "--waiting")
    typed("carl", "approve", "late.v3", "--ask", "--to", "bob", "--reason", "for June")
    assert "late.v3" not in typed("bea", "notices", "--waiting")
    for who in ("carl", "CARL", "ann", "rosa"):
        assert "another person must approve" in typed(who, "approve", "late.v3", code=4)
    assert "carl asks you to approve late.v3: for June" in typed("bob", "notices")
    typed("bob", "approve", "late.v3", "--reason", "fine", "--lasts", "7d")
    [said] = ws.ledger.find("version_approval")
    assert (said["by"], said["until"][:4]) == ("bob", said["at"][:4])
    assert "bob approved late.v3: fine" in typed("carl", "notices")
    assert "about a version" in typed("ann", "approve", "--ask", code=2)


def test_the_audit_log_is_listed_exported_and_verified(typed: Typed, ws: Workspace) -> None:
    typed("=cmd", "note", "write", "late", "x")
    typed("ann", "owner", "offer", "late", "bob")
    told = json.loads(typed("ann", "audit", "list", "--about", "model/late", "--limit", "1", "--json"))
    assert [e["kind"] for e in told["entries"]] == ["owner.offered"]
    assert "older ones: --before" in typed("ann", "audit", "list", "--limit", "1")
    assert "no entries" in typed("ann", "audit", "list", "--who", "nobody")
    typed("ann", "audit", "export", "--what", "note.", "--who", "=cmd", "--out", str(ws.folder / "a.csv"))
    assert [r["actor"] for r in csv.DictReader((ws.folder / "a.csv").read_text().splitlines())] == ["'=cmd"]
    assert len(typed("ann", "audit", "export").splitlines()) == len(ws.ledger.events_since())
    assert "chain of hashes is whole" in typed("ann", "audit", "verify")
    assert "cannot be written" in typed("ann", "audit", "export", "--out", str(ws.folder / "none" / "a.csv"), code=7)
    typed("ann", "audit", "list", "--since", "yesterday", code=2)
    typed("ann", "audit", "list", "--about", "/", code=2)
