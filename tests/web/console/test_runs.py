"""Runs in the console: found by a question, compared, stopped, answered; secrets in them are not shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.errors import UsageError
from treadle.points import start_run
from treadle.report import run_query
from treadle.testing.console import signed_in
from treadle.wheel.start import start

from .conftest import As

ASKS = """import treadle as tr
project = tr.Project("p", owner="me", goal="test")

@tr.step
def load(size: int):
    print("connect postgres://ann:hunter2222@db/x")
    return size

@project.pipeline
def nightly(size: int = 3):
    found = load(size)
    return load(found).after(tr.approval("Go on?", shows=found))
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Four runs logged by hand, and a pipeline that waits for a person."""
    folder = tmp_path_factory.mktemp("logged")
    Path(folder / "project.py").write_text(ASKS)
    ws = open_workspace(folder)
    for depth in range(2, 6):
        with start_run(f"try-{depth}", ws.ledger, {"max_depth": depth, "db_password": "hunter2222"}) as run:
            for step in range(5):
                run.log("loss", 1 / (depth + step), step)
    start(ws, "nightly", cause={"kind": "person", "id": "", "text": "by hand"})
    return ws


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("metric.loss < 0.13", ["try-5", "try-4"]),
        ("metric.loss < 0.13 and params.max_depth = 4", ["try-4"]),
        ('name contains "try" and not (params.max_depth >= 3 or metrics.`loss` > 9)', ["try-2"]),
        ("name = \"'; drop table records; --\"", []),
        ("metric.none < 1 or seconds > 1e9", []),
    ],
)
def test_runs_are_found_by_a_question(logged: Workspace, question: str, found: list[str]) -> None:
    answer = signed_in(logged).get("/api/v1/runs", params={"kind": "logged_run", "query": question})
    assert [r["name"] for r in answer.json()["items"]] == found


@pytest.mark.parametrize(
    ("question", "at"),
    [("metric.loss <", 14), ("loss < 3", 1), ("status = 'done", 10), ("status = done seconds", 15), ("(status = done", 15), ("status; drop", 7), ("a.b.c ~ 3", 7)],
)
def test_a_question_that_cannot_be_read_is_refused_with_the_place(logged: Workspace, question: str, at: int) -> None:
    answer = signed_in(logged).get("/api/v1/runs", params={"query": question})
    assert answer.status_code == 400
    assert f"At character {at} of the question" in answer.json()["detail"]


def test_a_question_of_many_parentheses_is_refused_and_does_not_overflow() -> None:
    with pytest.raises(UsageError, match="parentheses"):
        run_query.read("(" * 500 + "status = done" + ")" * 500)


def test_runs_are_read_page_by_page_without_a_gap(logged: Workspace) -> None:
    client, after, names = signed_in(logged), "", []
    while after is not None:
        page = client.get("/api/v1/runs", params={"kind": "logged_run", "limit": 3, "after": after, "query": "status = done"}).json()
        names += [r["name"] for r in page["items"]]
        after = page["next"]
    assert names == ["try-5", "try-4", "try-3", "try-2"]


def test_compared_runs_say_what_differs_and_hide_secrets(logged: Workspace) -> None:
    client = signed_in(logged)
    runs = [r["id"] for r in client.get("/api/v1/runs", params={"kind": "logged_run"}).json()["items"]]
    told = client.get("/api/v1/runs/compare", params={"run": runs}).json()
    assert {e["name"]: e["differs"] for e in [*told["params"], *told["metrics"]]} == {"db_password": False, "max_depth": True, "loss": True}
    assert told["curves"]["loss"]["x"] == [0, 1, 2, 3, 4]
    page = client.get("/runs/compare", params={"run": runs}).text
    assert "<polyline" in page
    assert "hunter2222" not in page + client.get(f"/runs/{runs[0]}").text
    assert client.get("/runs/compare", params={"run": runs[:1]}).status_code == 400


def test_a_log_is_shown_and_downloaded_without_the_secrets_in_it(logged: Workspace) -> None:
    client = signed_in(logged)
    run = client.get("/api/v1/runs").json()["items"][0]["id"]
    tail, whole = client.get(f"/runs/{run}/tail?step=load").text, client.get(f"/runs/{run}/log").text
    assert "connect postgres://ann:&lt;secret&gt;@db/x" in tail
    assert "connect postgres://ann:<secret>@db/x" in whole
    assert "hunter2222" not in tail + whole + client.get(f"/runs/{run}").text


def test_a_waiting_run_is_answered_once_and_stopped_only_by_who_may(logged: Workspace) -> None:
    client, reader = signed_in(logged), signed_in(logged, "sam", "stakeholder")
    run = start(logged, "nightly", cause={"kind": "person", "id": "", "text": "again"}).run.id
    asks = client.get(f"/api/v1/runs/{run}").json()["approvals"]
    assert [a["question"] for a in asks] == ["Go on?"]
    assert reader.tell(f"/api/v1/runs/{run}/answer", step=asks[0]["step"], answer="approve").status_code == 403
    assert reader.tell(f"/api/v1/runs/{run}/stop", reason="no").status_code == 403
    said = client.tell(f"/api/v1/runs/{run}/answer", step=asks[0]["step"], answer="approve", reason="looked at it")
    assert said.json()["status"] == "approved"
    assert client.tell(f"/api/v1/runs/{run}/answer", step=asks[0]["step"], answer="reject").status_code == 409
    assert client.tell(f"/api/v1/runs/{run}/stop", reason="not needed").json()["status"] == "cancelled"
    assert "stopped by ann.admin: not needed" in client.get(f"/runs/{run}").text


def test_a_model_s_run_has_the_metrics_of_the_version_it_made(world: Any, as_role: As) -> None:
    client = as_role("data_scientist")
    found = client.get("/api/v1/runs", params={"query": "metric.roc_auc > 0.5 and params.family = logistic and params.C = 0.01"}).json()["items"]
    assert [r["model"] for r in found] == ["deliveries-late"]
    page = client.get(f"/runs/{found[0]['id']}").text
    assert "/models/deliveries-late/versions/2" in page
    assert 'action="/runs/start"' in client.get("/runs").text
    assert 'action="/runs/start"' not in as_role("stakeholder").get("/runs").text
    assert client.fill("/runs/start", target="--help").status_code == 404
