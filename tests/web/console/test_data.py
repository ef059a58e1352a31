"""Data in the console: versions and what differs, columns, the quarantine and the way back, features, what breaks; and what runs have cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.testing.console import Browser, signed_in
from treadle.wheel.turn import turn

from .conftest import As

ORDERS = """import treadle as tr
project = tr.Project("shop", owner="me", goal="test")
columns = {"id": tr.integer(), "mail": tr.text(personal="email"), "x": tr.number(ge=0), "y": tr.number()}
rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id", owner="ann", contract=tr.Contract(columns, at_most=0.5))
model = project.model("m", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("ridge")], trials=1)
"""


def lines(bad: str, more: int = 0) -> str:
    return "\n".join(["id,mail,x,y", *(f"{i},p{i}@example.org,{i % 50},{2 * (i % 50)}" for i in range(200 + more)), *([f"900,{bad}"] if bad else [])])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two versions of a data set; of the newer one a row is set aside."""
    folder = tmp_path_factory.mktemp("shop")
    Path(folder / "project.py").write_text(ORDERS)
    ws = open_workspace(folder)
    for content in (lines(""), lines("secret@example.org,-3,5", more=10)):
        (folder / "rows.csv").write_text(content)
        turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "a test"}, until="rows")
    return ws


@pytest.fixture(scope="module")
def ann(shop: Workspace) -> Browser:
    return signed_in(shop)


def test_a_data_set_is_told_with_its_versions_and_what_differs(ann: Browser) -> None:
    told = ann.get("/api/v1/data/rows").json()
    assert [(v["rows"], v["quarantined"]) for v in told["items"]] == [(210, 1), (200, 0)]
    assert {c["name"]: c["personal"] for c in told["columns"]}["mail"] == "email"
    found = ann.get("/api/v1/data/rows/diff").json()
    assert found["rows"]["added"] == 10
    assert "p200@example.org" not in str(found) + ann.get("/data/rows").text + ann.get("/data/rows/diff").text


def test_columns_are_told_from_a_sample_without_personal_values(ann: Browser) -> None:
    told = {c["name"]: c for c in ann.get("/api/v1/data/rows/columns").json()["columns"]}
    assert sum(b["n"] for b in told["x"]["bars"]) == 210
    assert told["mail"]["bars"] == []
    assert ann.get("/data/rows/columns").text.count('role="img"') >= 2


def test_only_who_may_see_rows_sees_the_quarantine_and_only_who_may_mend_mends(shop: Workspace) -> None:
    reader, scientist = signed_in(shop, "sam", "stakeholder"), signed_in(shop, "dan", "data_scientist")
    assert reader.get("/data/rows/quarantine").status_code == 403
    row = scientist.get("/api/v1/data/rows/quarantine").json()["items"][0]["row"]
    assert scientist.tell("/api/v1/data/rows/quarantine/release", row=row, reason="it is right").status_code == 403


def test_a_row_that_was_set_aside_is_corrected_and_the_decision_taken_back(shop: Workspace, ann: Browser) -> None:
    found = ann.get("/api/v1/data/rows/quarantine").json()["items"]
    assert [r["key"] for r in found] == [[900]]
    row = found[0]["row"]
    page = ann.get("/data/rows/quarantine").text
    assert "secret@example.org" not in page
    assert "&lt;email&gt;" in page
    assert ann.fill("/data/rows/quarantine/fix", row=row, values="x=-7", back="/data/rows/quarantine").status_code == 422
    assert ann.fill("/data/rows/quarantine/fix", row=row, values="nothing", back="/").status_code == 400
    assert ann.fill("/data/rows/quarantine/fix", row=row, values="x=3", reason="a slip", back="/data/rows/quarantine").status_code == 303
    assert ann.get("/api/v1/data/rows/quarantine").json()["items"][0]["decided"] == "fix"
    assert ann.tell("/api/v1/data/rows/quarantine/undo", row=row, reason="wrong row").status_code == 200
    assert ann.tell("/api/v1/data/rows/quarantine/release", row=row, reason=" ").status_code == 400
    assert ann.tell("/api/v1/data/rows/quarantine/release", row=row, reason="a refund").json()["decided"] == "release"
    turn(shop, shop.model(), cause={"kind": "person", "id": "", "text": "again"}, until="rows")
    assert ann.get("/api/v1/data/rows").json()["items"][0]["rows"] == 211


def test_a_breaking_change_is_accepted_by_who_saw_it_and_not_by_who_saw_an_older_one(shop: Workspace, ann: Browser) -> None:
    assert ann.tell("/api/v1/data/rows/accept", reason="meant").status_code == 404
    state = shop.ledger.get("contract_state", "rows")
    assert state is not None
    shop.ledger.put("contract_state", "rows", {**state.body, "pending": {"digest": "d", "sentences": ["column x is gone"]}})
    assert "column x is gone" in ann.get("/data/rows").text
    assert ann.tell("/api/v1/data/rows/accept", reason="meant", expect=state.version).status_code == 409
    said = ann.tell("/api/v1/data/rows/accept", reason="meant", expect=state.version + 1)
    assert said.json()["accepted"] == ["column x is gone"]


def test_features_say_what_breaks_without_a_column(ann: Browser) -> None:
    found = ann.get("/api/v1/features", params={"column": "rows.x"}).json()["breaks"]
    assert ("model", "m") in {(u["kind"], u["name"]) for u in found}
    assert ann.get("/features?column=rows.nothing").status_code == 404
    assert ann.get("/features/none").status_code == 404
    assert ann.get("/data/none").status_code == 404


def test_value_counts_what_runs_have_cost(world: Any, as_role: As) -> None:
    told = as_role("stakeholder").get("/api/v1/value").json()
    assert told["costs"][0]["runs"] == sum(m["runs"] for m in told["costs"][0]["by_month"]) > 0
    assert told["models"][0]["alarms"] == 1
    page = as_role("data_scientist").get("/value").text
    assert "What runs have cost" in page
    assert as_role("stakeholder").fill("/value/start", model="deliveries-late").status_code == 403
