"""Alarms in the console: what they say, what people answer, what was done by itself, and what the watch saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from treadle.assemble import Workspace
from treadle.live import retraining
from treadle.monitoring import alarms
from treadle.monitoring.judge import Finding

from .conftest import As, post, signed_in

DAY = 86_400_000_000


@pytest.fixture
def alarmed(project: Callable[..., Workspace]) -> Workspace:
    """A project with three alarms, one of which is resolved, and a retrained version that waits for a yes or no."""
    body = 'model = project.model("m", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("ridge")], trials=1)\n'
    ws = project(body, [f"{i},{i % 50},{2 * (i % 50)}" for i in range(200)])
    made = []
    for at, kind in enumerate(("quality", "input", "volume")):
        found = Finding(kind, "excess_loss", 5.0, 4.0, at * DAY, (at + 1) * DAY, (("x", 0.3),), f"It is worse: {kind}")
        made.append(alarms.raise_alarm("m", 1, found, ws.ledger, ws.clock))
    assert made[2] is not None
    alarms.resolve(made[2], "it is over", ws.ledger, ws.clock)
    waits = {
        "model": "m", "cause": {"kind": "alarm", "id": made[0].id, "text": "It is worse"}, "also": [], "run": "run-x", "status": "asks",  # type: ignore[union-attr]
        "as_of": "", "version": 1, "said": "waits", "outside": ["its answers change by 0.4"], "change": None, "answer": None,
        "at": "2026-01-01T00:00:00Z", "champion": 1,
    }  # fmt: skip
    ws.ledger.put(retraining.KIND, "reaction-0123456789ab", waits, expect=0)
    return ws


def test_the_open_ones_come_first_and_the_list_is_filtered_and_paged(alarmed: Workspace) -> None:
    client = signed_in(alarmed, "ann", "stakeholder")
    text = client.get("/alarms").text
    assert "It is worse: quality" in text
    assert "It is worse: volume" not in text
    assert "An answer takes the permission" in text
    assert [a["kind"] for a in client.get("/api/v1/alarms?kind=input").json()["items"]] == ["input"]
    first = client.get("/api/v1/alarms?status=all&limit=2").json()
    rest = client.get(f"/api/v1/alarms?status=all&limit=2&after={first['next']}").json()
    assert len({a["id"] for a in first["items"] + rest["items"]}) == 3
    assert rest["next"] is None
    assert client.get("/api/v1/alarms?status=never").status_code == 400


def test_somebody_is_at_it_puts_it_off_and_closes_it_with_a_reason(alarmed: Workspace) -> None:
    client = signed_in(alarmed, "bob", "devops_engineer")
    page = next(f"/alarms/{a['id']}" for a in client.get("/api/v1/alarms").json()["items"] if a["kind"] == "quality")
    version = client.get("/api/v1" + page).json()["record"]
    assert post(client, f"{page}/acknowledge", note="calling the depot", expect=version).status_code == 303
    assert post(client, f"{page}/acknowledge", note="me too", expect=version).status_code == 409
    assert "calling the depot" in client.get(page).text
    assert post(client, f"{page}/snooze", until="2000-01-01").status_code == 400
    assert post(client, f"{page}/snooze", until="4h").status_code == 303
    assert post(client, f"{page}/resolve", because=" ").status_code == 400
    assert post(client, f"{page}/resolve", because="the scale was mended").status_code == 303
    assert "the scale was mended (bob)" in client.get(page).text
    assert post(client, f"{page}/resolve", because="again").status_code == 400
    other = signed_in(alarmed, "eve", "stakeholder")
    assert post(other, f"{page}/acknowledge").status_code == 403


def test_a_reaction_that_waits_is_answered_once(alarmed: Workspace) -> None:
    client = signed_in(alarmed, "bob", "devops_engineer")
    text = client.get("/alarms").text
    assert 'id="reaction-reaction-0123456789ab"' in text
    assert "its answers change by 0.4" in text
    where = "/reactions/reaction-0123456789ab/answer"
    assert post(client, where, answer="no").status_code == 400
    assert post(client, where, answer="yes", reason="the new depot explains it").status_code == 303
    assert post(client, where, answer="no", reason="too late").status_code == 409
    assert client.get("/api/v1/reactions").json()["items"][0]["answer"]["by"] == "bob"
    assert 'id="reaction-reaction-0123456789ab"' not in client.get("/alarms").text


def test_an_alarm_of_the_world_escapes_what_it_says(as_role: As, world: Any) -> None:
    text = as_role("stakeholder").get(f"/alarms/{world.alarm}").text
    assert "&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert as_role("stakeholder").get("/alarms/none").status_code == 404


def test_the_monitors_of_a_model_say_what_is_watched_and_what_false_alarms_are_tolerated(as_role: As, world: Any) -> None:
    found = as_role("stakeholder").get(f"/api/v1/monitors/{world.model.name}").json()
    assert found["watched"]
    assert "false alarms a quarter are tolerated" in found["false_alarms"]
    text = as_role("stakeholder").get(f"/monitors/{world.model.name}").text
    assert "No block has been judged yet" in text or "Numbers by block" in text
    assert as_role("stakeholder").get("/monitors/none").status_code == 404
