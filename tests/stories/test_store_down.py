"""An endpoint whose feature store is killed and started again: it refuses clearly or answers without, as declared, and goes on by itself."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.errors import Refused
from treadle.live.deploy import deploy, stop
from treadle.registry import versions
from treadle.testing import servers
from treadle.wheel.materialise import materialise
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story

NOW = datetime.now(UTC)
PROJECT = """import polars as pl
import treadle as tr

project = tr.Project("trips")
trips = project.dataset("trips", source=tr.parquet("trips.parquet"), key="id", event_time="at", known_time="known")
rating = project.view("rating", source=trips, entity="driver", features=["stars"], ttl="2d")
model = project.model("late", rows=trips, target="late", inputs=["km"], views=[rating], candidates=[tr.candidate("logistic")], trials=1,
    gates=[tr.enough_rows(50)])
project.serve(model, store_down="STORE_DOWN")
"""


def trips(count: int = 600) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    at = [NOW - timedelta(minutes=2 * (count - i) + 30) for i in range(count)]
    km, stars = rng.gamma(2, 5, count), rng.uniform(1, 5, count)
    late = rng.random(count) < 1 / (1 + np.exp(-(km - 10) / 4 + stars - 3))
    frame = pl.DataFrame({"id": range(count), "driver": [f"d{i % 20}" for i in range(count)], "at": at, "km": km, "stars": stars, "late": late})
    return frame.with_columns(pl.col("at").dt.cast_time_unit("us"), (pl.col("at").dt.cast_time_unit("us") + pl.duration(minutes=20)).alias("known"))


def make(folder: Path, store_down: str, online: str) -> Workspace:
    folder.mkdir()
    (folder / "project.py").write_text(PROJECT.replace("STORE_DOWN", store_down))
    (folder / "treadle.toml").write_text(f'online = "{online}"\n')
    trips().write_parquet(folder / "trips.parquet")
    ws = open_workspace(folder)
    turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "test"})
    return ws


def ask(url: str, row: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"{url}/predict", json.dumps(row).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def metrics(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:
        lines = [line.rsplit(" ", 1) for line in response.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


ROW = {"km": 12.0, "driver": "d3"}


@pytest.mark.parametrize(("store", "store_down"), [("redis", "refuse"), ("redis", "answer"), ("postgres", "refuse"), ("postgres", "answer")])
def test_the_server_of_the_store_is_killed_under_a_live_endpoint_and_comes_back(tmp_path: Path, store: str, store_down: str) -> None:
    server = (servers.redis if store == "redis" else servers.postgres).__wrapped__()
    name = servers.schema_of(tmp_path)
    ws = make(tmp_path / "p", store_down, servers.redis_url(server, prefix=f"{name}:") if store == "redis" else servers.postgres_url(server, schema=name))
    url = deploy(ws, ws.model())["url"]
    try:
        status, before = ask(url, ROW)
        assert (status, "missing" in before) == (200, False)
        assert ask(url, {**ROW, "driver": "nobody"})[1]["missing_because"] == {"rating": "unknown"}
        assert ask(url, {"km": 12.0})[1]["missing_because"] == {"rating": "no entity"}
        assert ask(url, {**ROW, "at": (NOW + timedelta(days=9)).isoformat()})[1]["missing_because"] == {"rating": "too old"}
        assert ask(url, {**ROW, "at": (NOW - timedelta(days=9)).isoformat()})[1]["missing_because"] == {"rating": "not yet"}
        assert 0 < metrics(url)['treadle_online_age_seconds{model="late",view="rating"}'] < 86_400
        server.stop(signal.SIGKILL, keep=True)
        answers = [ask(url, ROW) for _ in range(20)]
        if store_down == "refuse":
            assert {status for status, _ in answers} == {503}
            assert all("The feature store is down" in body["message"] and "store_down='answer'" in body["hint"] for _, body in answers)
            assert ask(url, {"km": "twelve"})[0] == 422  # what is wrong with a request is still said
        else:
            assert {status for status, _ in answers} == {200}
            assert all(body["missing_because"] == {"rating": "unreachable"} for _, body in answers)
            logged = ws.predictions.get(answers[0][1]["id"])
            assert logged is not None
            assert json.loads(logged.inputs)["__missing__"] == {"rating": "unreachable"}
        told = metrics(url)
        assert told['treadle_online_failures_total{model="late"}'] >= 1
        assert 'treadle_online_age_seconds{model="late",view="rating"}' not in told
        server.start()
        while (found := ask(url, ROW))[0] != 200 or "missing" in found[1]:
            time.sleep(0.1)
        assert found[1]["probability"] == pytest.approx(before["probability"])
    finally:
        stop(ws, "late")
        ws.online.close()
        server.stop()


def test_an_endpoint_starts_while_its_store_is_down_and_answers_when_it_is_up(tmp_path: Path) -> None:
    server = servers.redis.__wrapped__()
    ws = make(tmp_path / "p", "refuse", servers.redis_url(server))
    deploy(ws, ws.model())
    stop(ws, "late")
    server.stop(signal.SIGKILL, keep=True)
    from treadle.live.deploy import start

    url = start(ws, ws.model())["url"]
    try:
        assert ask(url, ROW)[0] == 503
        server.start()
        while ask(url, ROW)[0] != 200:
            time.sleep(0.1)
    finally:
        stop(ws, "late")
        server.stop()


def test_another_version_is_deployed_while_requests_come_and_none_of_them_finds_a_gap(tmp_path: Path) -> None:
    ws = make(tmp_path / "p", "refuse", "sqlite:///{home}/online.db")
    url = deploy(ws, ws.model())["url"]
    try:
        pid = os.fork()
        if pid == 0:  # asks all the while
            gaps = 0
            end = time.monotonic() + 60
            while time.monotonic() < end and not (tmp_path / "enough").exists():
                status, body = ask(url, ROW)
                gaps += status != 200 or "missing" in body
            os._exit(min(gaps, 250))
        more = pl.concat([trips(), trips(620)[600:].with_columns(pl.col("id") + 1000)])
        more.write_parquet(ws.folder / "trips.parquet")
        turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "again"}, settings={"family": "logistic", "params": {"C": 0.5}})
        deploy(ws, ws.model(), number=versions.all_versions("late", ws.ledger)[-1]["number"], now=True)
        (tmp_path / "enough").touch()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop(ws, "late")


def test_other_features_under_the_name_that_a_version_reads_are_refused(tmp_path: Path) -> None:
    ws = make(tmp_path / "p", "refuse", "sqlite:///{home}/online.db")
    url = deploy(ws, ws.model())["url"]
    try:
        before = ask(url, ROW)[1]["probability"]
        text = (ws.folder / "project.py").read_text()
        (ws.folder / "project.py").write_text(text.replace('features=["stars"]', 'features=["km2", "stars"]').replace('known_time="known")', 'known_time="known", exclude={})'))
        frame = pl.read_parquet(ws.folder / "trips.parquet").with_columns((pl.col("km") * 2).alias("km2"))
        frame.write_parquet(ws.folder / "trips.parquet")
        again = open_workspace(ws.folder)
        with pytest.raises(Refused, match=r"View 'rating' has other features now than those version 1 of 'late', which answers.*'rating_2'"):
            materialise(again, again.project.views["rating"])
        assert ask(url, ROW)[1]["probability"] == before
    finally:
        stop(ws, "late")
    turn(again, again.model(), cause={"kind": "person", "id": "", "text": "again"})
    record = deploy(again, again.model(), now=True)  # nobody answers now, and the new version will
    try:
        status, body = ask(record["url"], ROW)
        assert (status, "missing" in body) == (200, False)
    finally:
        stop(again, "late")
