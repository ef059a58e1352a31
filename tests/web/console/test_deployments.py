"""What the console says of what answers, and what people change about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from treadle.assemble import Workspace
from treadle.live import deploy
from treadle.registry import promote
from treadle.web.console.rooms.deployments import counted
from treadle.wheel.turn import turn

from .conftest import As, post, signed_in

ONE = "/deployments/m"
RIDGE = 'model = project.model("m", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("ridge")], trials=1, gates=[tr.enough_rows(50)])\n'


@pytest.fixture
def served(project: Callable[..., Workspace]) -> Iterator[Workspace]:
    """A model whose endpoint runs, with a second version beside it."""
    ws = project(RIDGE, [f"{i},{i % 50},{2 * (i % 50) + (i * 7 % 5)}" for i in range(300)])
    deploy.deploy(ws, ws.model())
    turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "again"}, settings={"family": "ridge", "params": {"alpha": 3.0}})
    yield ws
    if deploy.running_endpoint(ws, "m") is not None:
        deploy.stop(ws, "m")


def test_a_deployment_has_its_versions_its_log_and_its_changes(as_role: As, world: Any) -> None:
    client = as_role("stakeholder")
    assert f"/deployments/{world.model.name}" in client.get("/deployments").text
    text = client.get(f"/deployments/{world.model.name}").text
    for words in ("version 2", "predictions, ", "promoted", "bob", "No endpoint runs on this machine", "takes the permission"):
        assert words in text, words
    found = client.get(f"/api/v1/deployments/{world.model.name}").json()
    assert [c["kind"] for c in found["changes"]["items"]] == ["deployment.promoted", "deployment.shadow", "deployment.started"]
    older = client.get(f"/api/v1/deployments/{world.model.name}?before={found['changes']['items'][0]['seq']}").json()
    assert [c["kind"] for c in older["changes"]["items"]] == ["deployment.shadow", "deployment.started"]


def test_who_may_not_change_what_answers_sees_no_button_and_is_refused(as_role: As, world: Any) -> None:
    client = as_role("data_scientist")
    assert "<textarea" not in client.get(f"/deployments/{world.model.name}").text.partition("id=\"changes\"")[0]
    assert post(client, f"/deployments/{world.model.name}/stop", reason="no").status_code == 403


def test_a_model_without_a_deployment_and_one_that_is_not_there(as_role: As, refused: Workspace) -> None:
    assert as_role("architect").get("/deployments/none").status_code == 404
    assert "No other version may answer now" in signed_in(refused, "ann", "ml_engineer").get("/deployments/coin").text


def test_a_challenger_is_promoted_by_the_page_that_saw_it_and_rolled_back_and_the_model_stopped_with_reasons(served: Workspace) -> None:
    client = signed_in(served, "ann", "devops_engineer")
    fields = client.get("/api/v1/deployments/m/try").json()
    assert [f["name"] for f in fields["fields"]] == ["x"]
    wrong = post(client, f"{ONE}/try", names="x", values="many")
    assert wrong.status_code == 200
    assert "x must be a number" in wrong.text
    assert 'value="many"' in wrong.text
    right = post(client, f"{ONE}/try", names="x", values="7")
    assert "/why/" not in right.text  # a DevOps engineer does not see predictions
    assert "prediction id" in right.text
    assert "1 answered with 200" in client.get(ONE).text.replace("\n", " ")

    promote.challenge("m", 2, served.ledger, served.clock, actor="bob")
    expect = client.get("/api/v1" + ONE).json()["deployed"]["version"]
    assert client.get("/api/v1" + ONE).json()["evidence"]["action"] == "wait"
    promote.canary("m", 0.5, {}, served.ledger, served.clock)
    assert post(client, f"{ONE}/promote", reason="it is better", expect=expect).status_code == 409  # another stage by now
    assert post(client, f"{ONE}/promote", reason=" ", expect=expect + 1).status_code == 400
    assert post(client, f"{ONE}/promote", reason="it is better", expect=expect + 1).status_code == 303
    now = promote.required("m", served.ledger)
    assert now["champion"] == 2
    assert post(client, f"{ONE}/rollback", reason="it was not", expect=now.version).status_code == 303
    assert promote.required("m", served.ledger)["champion"] == 1
    assert post(client, f"{ONE}/stop", reason="wrong prices").status_code == 303
    assert "ann stopped it" in client.get(ONE).text
    assert post(client, f"{ONE}/resume", reason="mended", expect=promote.required("m", served.ledger).version).status_code == 303
    assert not promote.required("m", served.ledger).get("stopped")
    changes = client.get("/api/v1" + ONE).json()["changes"]["items"]
    assert [(c["kind"], c["actor"]) for c in changes if c["actor"] == "ann"][:2] == [("deployment.resumed", "ann"), ("deployment.stopped", "ann")]


def test_what_an_endpoint_counted_is_read_from_its_own_text() -> None:
    text = "\n".join([
        'treadle_requests_total{model="m",status="200"} 90', 'treadle_requests_total{model="m",status="500"} 10',
        'treadle_predictions_total{model="m",model_version="2",variant="canary"} 20', 'treadle_request_seconds_bucket{model="m",le="0.01"} 50',
        'treadle_request_seconds_bucket{model="m",le="0.1"} 100', 'treadle_request_seconds_bucket{model="m",le="+Inf"} 100',
    ])  # fmt: skip
    found = counted(text)
    assert found["requests"] == {"200": 90, "500": 10}
    assert found["answers"] == [{"version": 2, "variant": "canary", "rows": 20}]
    assert found["median"] == pytest.approx(0.01)
