"""The story of a prediction in the console, the truth as a person says it, and the walk from data to prediction and back."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from treadle.assemble import Workspace

from .conftest import As, post, signed_in


@pytest.fixture
def logged(project: Callable[..., Workspace], live: Callable[..., Any]) -> Workspace:
    """A model of two labels that answered a few requests."""
    body = 'model = project.model("m", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("logistic")], trials=1, gates=[tr.enough_rows(20)])\n'
    ws = project(body, [f"{i},{i % 50},{'heads' if i * 7 % 50 + i % 50 > 45 else 'tails'}" for i in range(200)], truth="tr.category()")
    live(ws, None, 3, rows=10)
    return ws


def test_a_prediction_is_found_by_its_id_and_what_is_not_there_is_said(as_role: As) -> None:
    client = as_role("stakeholder")
    assert "/why/p-00007" in client.get("/why?text=p-00007").text
    assert "No prediction has this id" in client.get("/why?text=nothing").text
    assert "delivery_id" in client.get("/why").text
    assert client.get("/why/p-none").status_code == 404
    assert client.get("/why/%3Cscript%3E").status_code in (400, 404)


def test_a_prediction_is_found_by_the_key_of_its_row_as_it_was_logged(logged: Workspace) -> None:
    prediction = logged.predictions.last("m")[0]
    fresh = msgspec.structs.replace(prediction, id="p-keyed", inputs=b'{"id": 77}', answered=prediction.answered + 10)
    logged.predictions.write([fresh])
    client = signed_in(logged, "ann", "stakeholder")
    assert [p["id"] for p in client.get("/api/v1/why?text=77").json()["items"]] == ["p-keyed"]
    assert client.get("/api/v1/why?text=7").json()["items"] == []


def test_the_story_reaches_version_outcome_and_what_moved_the_answer(as_role: As, world: Any) -> None:
    found = as_role("stakeholder").get("/api/v1/why/p-00007").json()
    assert found["story"]["version"]["id"] == f"{world.model.name}.v1"
    moved = found["moved_by"]
    assert moved["sum"] == pytest.approx(moved["base"] + sum(f["contribution"] for f in moved["features"]) + moved["others"])
    said = float(world.ws.predictions.get("p-00007").output[1])
    assert 1 / (1 + np.exp(-moved["sum"])) == pytest.approx(said, abs=1e-4)
    text = as_role("stakeholder").get("/why/p-00007").text
    assert "What moved it" in text
    assert "Say what is true" not in text  # a stakeholder may not
    assert "Say what is true" in as_role("data_scientist").get("/why/p-00007").text


def test_whoever_says_the_truth_is_not_told_the_answer_and_says_it_once(logged: Workspace) -> None:
    client, page = signed_in(logged, "bob", "data_scientist"), "/why/p-00003/truth"
    text = client.get(page).text.partition("<main")[2].partition("</main>")[0]
    assert "probab" not in text
    assert ">x<" in text
    assert post(client, page, value="maybe").status_code == 400
    answer = post(client, page, value="heads")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/why/p-00003")
    assert logged.predictions.outcomes_of("p-00003")[-1].source == "review:bob"
    assert "You said heads" in client.get(page).text
    assert post(client, page, value="tails").status_code == 409
    assert post(signed_in(logged, "ann", "stakeholder"), page, value="heads").status_code == 403


def test_one_walks_from_the_data_to_a_prediction_and_back(as_role: As, world: Any) -> None:
    client = as_role("stakeholder")
    path, walked = "/lineage/dataset/deliveries", []
    for kind in ("dataset_version", "model_version", "prediction"):
        links = [html.unescape(x) for x in re.findall(r'href="(/lineage/[^"]+)"', client.get(path).text)]
        path = next(x for x in links if x.startswith(f"/lineage/{kind}/"))
        walked.append(path)
    for expected in (walked[1], walked[0], "/lineage/dataset/deliveries"):
        assert expected in [html.unescape(x) for x in re.findall(r'href="(/lineage/[^"]+)"', client.get(path).text)]
        path = expected
    assert "<svg" in client.get(path).text


def test_lineage_of_what_there_is_not_and_of_predictions_one_may_not_see(as_role: As, world: Any) -> None:
    assert as_role("stakeholder").get("/lineage/run/none").status_code == 404
    assert as_role("stakeholder").get("/lineage/secret/none").status_code == 404
    client = as_role("data_engineer")
    assert client.get("/lineage/prediction/p-00007").status_code == 403
    assert "/lineage/prediction/" not in client.get(f"/lineage/model_version/{world.model.name}.v1").text
