"""What outcomes teach is applied while a version answers: the endpoint, a bulk scoring and a backtest give one answer, the log says through which state, and what hurts is taken back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.client import Endpoint
from treadle.core.errors import NotFound
from treadle.live import deploy, learning
from treadle.serving.log_table import tables
from treadle.serving.recalibration import applied, prequential
from treadle.testing.command import treadle

BEGIN = datetime(2013, 4, 1, tzinfo=UTC)
A_DAY = 40
Row = dict[str, Any]


def row(i: int, day: int = 0) -> Row:
    at = BEGIN + timedelta(days=day, minutes=i)
    return {"distance": 37.0 * i, "seats": 100 + i, "carrier": "UA" if i % 2 else "AA", "wet": i % 3 == 0, "x": i / 20 - 1, "word": "calm", "at": at.isoformat()}


class World:
    def __init__(self, ws: Workspace) -> None:
        self.ws, self.model = ws, ws.model()
        self.url = deploy.start(ws, self.model)["url"]
        self.endpoint = Endpoint(self.url)

    def lived(self, days: range, truth: str) -> None:
        """So many days of answers, and their outcomes an hour later."""
        for day in days:
            answers = self.endpoint.predict_many([row(i, day) for i in range(A_DAY)])
            known = (BEGIN + timedelta(days=day, hours=12)).isoformat()
            told = [{"prediction": a["id"], "value": truth if i % 5 else "in time", "known_at": known} for i, a in enumerate(answers)]
            httpx.post(f"{self.url}/outcomes", json={"outcomes": told}).raise_for_status()

    def asked(self) -> list[Row]:
        return [dict(a) for a in self.endpoint.predict_many([row(i, 30) for i in range(A_DAY)])]

    def until(self, learned: int | None) -> list[Row]:
        """What is answered as soon as it is answered through a state of so many outcomes, or through none."""
        end = time.monotonic() + 60
        while True:
            answers = self.asked()
            if {a.get("recalibrated") for a in answers} == {learned}:
                return answers
            assert time.monotonic() < end, answers[0]
            time.sleep(0.05)


@pytest.fixture
def world(served: Callable[..., Workspace]) -> Iterator[World]:
    folder = served(1, serve="rollback=None").folder
    with (folder / "project.py").open("a") as file:
        file.write('project.recalibrate(model, horizon="20000d", least_outcomes=200)\n')
    one = World(open_workspace(folder))
    yield one
    with suppress(NotFound):
        deploy.stop(one.ws, "late")


@pytest.mark.story
def test_what_outcomes_teach_is_answered_alike_everywhere_logged_and_taken_back_when_it_hurts(world: World, tmp_path: Path) -> None:
    own = [a["probability"] for a in world.asked()]
    world.lived(range(10), "late")
    assert learning.learn(world.ws, world.model)["status"] == "helps"  # type: ignore[index]
    state = applied(world.ws.ledger, "late", 1)
    assert state is not None
    answers = world.until(state.learned)
    said = [a["probability"] for a in answers]
    assert said == [state.answer(p) for p in own]  # to the last bit
    assert np.mean(said) > np.mean(own) + 0.1
    assert [a["prediction"] for a in answers] == ["late" if p > 0.5 else "in time" for p in said]
    assert all(a["probabilities"]["late"] == a["probability"] for a in answers)

    # The same rows in bulk, and in a backtest.
    rows = pl.DataFrame([row(i, 30) for i in range(A_DAY)]).with_columns(pl.col("at").str.to_datetime(time_zone="UTC"), pl.lit(0).alias("zone"))
    rows.write_parquet(tmp_path / "rows.parquet")
    told = treadle(world.ws.folder, "score", "--data", str(tmp_path / "rows.parquet"), "--as-sent", "--to", str(tmp_path / "answers.parquet")).stdout
    assert f"recalibrated by {state.learned} outcomes" in told
    scored = pl.read_parquet(tmp_path / "answers.parquet")
    assert scored["probability"].to_list() == said
    assert scored["prediction"].to_list() == [a["prediction"] for a in answers]
    outputs, one = np.array([[1 - p, p] for p in own]), np.ones(A_DAY, np.int32)
    later = np.arange(A_DAY)
    assert prequential(outputs, one, -one, later, later, start=state)[0][:, 1].tolist() == said

    # The log keeps what the version says itself, what was told, and through which state.
    logged = httpx.get(f"{world.url}/predictions/{answers[3]['id']}").json()
    assert (logged["output"][1], logged["recalibrated"]["own_output"][1]) == (said[3], own[3])
    assert (logged["recalibrated"]["a"], logged["recalibrated"]["b"], logged["recalibrated"]["learned"]) == (state.a, state.b, state.learned)
    (table,) = tables(world.ws.predictions, "late", 0, 2**60, {1: ["in time", "late"]}, None)
    last = table.filter(pl.col("id") == answers[3]["id"]).row(0, named=True)
    assert (last["told"][1], last["output"][1]) == (said[3], own[3])
    assert f'treadle_recalibration_outcomes{{model="late",model_version="1"}} {state.learned}' in httpx.get(f"{world.url}/metrics").text

    # It goes on learning while it serves; when it hurts, the version's own answers are given again.
    world.lived(range(10, 11), "late")
    assert learning.learn(world.ws, world.model)["state"]["learned"] == state.learned + A_DAY  # type: ignore[index]
    world.until(state.learned + A_DAY)
    statuses = []
    for day in range(11, 20):
        world.lived(range(day, day + 1), "in time")
        record = learning.learn(world.ws, world.model)
        assert record is not None
        statuses.append(record["status"])
        if statuses[-2:] == ["helps", "paused"]:
            assert [a["probability"] for a in world.until(None)] == own
    assert statuses == ["helps", *["paused"] * statuses.count("paused"), *["helps"] * (statuses.count("helps") - 1)]
    world.until(int(record["state"]["learned"]))  # it went on learning, helps again, and is applied again
    kinds = [e.kind for e in world.ws.ledger.events_since(limit=10_000) if "recalibrated" in e.kind]
    assert kinds == ["endpoint.recalibrated", "endpoint.not_recalibrated", "endpoint.recalibrated"]


@pytest.mark.story
def test_a_recalibration_that_is_not_declared_any_more_is_not_applied(world: World) -> None:
    world.lived(range(10), "late")
    assert learning.learn(world.ws, world.model)["status"] == "helps"  # type: ignore[index]
    file = world.ws.folder / "project.py"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if "recalibrate" not in line))
    ws = open_workspace(world.ws.folder)
    assert learning.learn(ws, ws.model()) is None
    assert applied(ws.ledger, "late", 1) is None
    world.until(None)
