"""What the console says of models and versions, and what people may do about them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from treadle.assemble import Workspace, open_workspace
from treadle.registry import conditions, versions
from treadle.wheel.turn import turn

from .conftest import As, post, signed_in

ONE = "/models/deliveries-late/versions/2"
ASKING = """import treadle as tr
project = tr.Project("p", owner="me", goal="test")
columns = {"id": tr.integer(), "x": tr.number(), "y": tr.number()}
rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id", contract=tr.Contract(columns))
model = project.model("m", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("ridge")], trials=1, gates=[tr.approved(), tr.enough_rows(100_000)])
"""


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A version that waits for a person's yes, and whose other gate failed."""
    folder = tmp_path_factory.mktemp("asking")
    (folder / "rows.csv").write_text("\n".join(["id,x,y", *(f"{i},{i % 50},{2 * (i % 50) + (i * 7 % 5)}" for i in range(300))]))
    Path(folder / "project.py").write_text(ASKING)
    ws = open_workspace(folder).acting_as("maker")
    turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "a test"})
    return ws


@pytest.mark.parametrize("path", ["/models", "/models/deliveries-late", ONE, "/models/deliveries-late/compare?old=1&new=2&runs=true"])
def test_the_pages_are_there_and_escape_what_people_wrote(as_role: As, path: str) -> None:
    answer = as_role("stakeholder").get(path)
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert "<b>dispatch</b>" not in answer.text
    assert as_role("stakeholder").get(f"/api/v1{path}").json()


def test_a_versions_page_has_evidence_slices_calibration_what_matters_and_how_it_was_made(as_role: As) -> None:
    text = as_role("architect").get(ONE).text
    for words in ("beats baseline", "Slices", "Fairness", "What matters most", "distance_km", "The leaderboard, by log loss", "environment", "signed with"):
        assert words in text, words


def test_two_versions_stand_side_by_side_with_what_differs_between_their_runs(as_role: As) -> None:
    found = as_role("architect").get("/api/v1/models/deliveries-late/compare?old=1&new=2&runs=true").json()
    assert [found[side]["number"] for side in ("old", "new")] == [1, 2]
    assert found["same_test"] is True
    assert found["runs"]["params"]


def test_the_card_and_the_whole_report_are_files(as_role: As) -> None:
    client = as_role("data_engineer")
    for path, words in ((f"{ONE}/card", "Intended use"), (f"{ONE}/card?format=json", '"sections"'), ("/models/deliveries-late/report", "What it was worth")):
        answer = client.get(path)
        assert answer.headers["content-disposition"].startswith("attachment")
        assert words in answer.text


@pytest.mark.parametrize("path", ["/models/none", "/models/none/versions/1", "/models/deliveries-late/versions/9", "/models/deliveries-late/versions/x"])
def test_what_there_is_not_is_said(as_role: As, path: str) -> None:
    assert as_role("architect").get(path).status_code == 404


def test_whoever_made_a_version_or_asks_for_it_is_told_why_they_cannot_approve_it(asking: Workspace) -> None:
    maker = signed_in(asking, "maker", "ml_engineer")
    text = maker.get("/models/m/versions/1").text
    assert "You cannot approve it: maker made m.v1" in text
    assert 'name="evidence"' not in text
    assert post(maker, "/models/m/versions/1/answer", answer="approve", evidence=_evidence(maker)).status_code == 422
    assert post(maker, "/models/m/versions/1/ask", to="boss", text="look at it").status_code == 303
    assert "asked for" in signed_in(asking, "boss", "stakeholder").get("/models/m/versions/1").text
    assert post(maker, "/models/m/versions/1/ask").status_code == 409
    assert post(maker, "/models/m/versions/1/withdraw").status_code == 303


def test_a_failed_gate_is_waived_with_reason_and_end_and_a_second_person_approves_what_they_saw(asking: Workspace) -> None:
    boss, engineer = signed_in(asking, "boss", "stakeholder"), signed_in(asking, "ann", "ml_engineer")
    page = engineer.get("/models/m/versions/1").text
    assert "Waive a gate that did not pass" in page
    assert "Waive a gate that did not pass" not in boss.get("/models/m/versions/1").text
    assert post(engineer, "/models/m/waive", gate="enough_rows", reason=" ", until="14d").status_code == 400
    assert post(engineer, "/models/m/waive", gate="approved", reason="no", until="14d").status_code == 422
    assert post(engineer, "/models/m/waive", gate="enough_rows", reason="a trial", until="14d", number="1").status_code == 303
    assert post(boss, "/models/m/versions/1/answer", answer="approve", evidence="0" * 64).status_code == 409
    assert post(boss, "/models/m/versions/1/answer", answer="reject", evidence=_evidence(boss)).status_code == 400
    assert post(boss, "/models/m/versions/1/answer", answer="approve", evidence=_evidence(boss), reason="it is sound").status_code == 303
    version = versions.get("m", 1, asking.ledger)
    assert conditions.missing(version, asking.ledger, asking.clock.now()) == []
    text = boss.get("/models/m/versions/1").text
    assert "it is sound" in text
    assert "a trial" in text


def test_an_unsigned_version_says_so(project: Callable[..., Workspace]) -> None:
    body = 'model = project.model("m", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("ridge")], trials=1)\n'
    ws = project(body, [f"{i},{i % 50},{2 * (i % 50)}" for i in range(200)])
    found = versions.get("m", 1, ws.ledger)
    package = {k: v for k, v in found["package"].items() if k != "signature"}
    ws.ledger.put(versions.KIND, found.id, {**found.body, "package": package}, expect=found.version)
    client = signed_in(ws, "ann", "architect")
    assert "unsigned" in client.get("/models/m").text
    assert client.get("/api/v1/models/m/versions/1").json()["signature"] == "unsigned"


def _evidence(client: TestClient) -> Any:
    return client.get("/api/v1/models/m/versions/1").json()["review"]["evidence"]
