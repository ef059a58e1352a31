"""Keeping a project up: what dies is started again, later each time; a supervisor that is killed leaves its parts to the next one; leaving leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.client import Endpoint
from treadle.core.errors import Conflict, Unavailable, UsageError
from treadle.live.deploy import deploy, running_endpoint, stop
from treadle.live.up import PART, Supervisor, standing
from treadle.pipelines.lease import alive
from treadle.testing.command import treadle
from treadle.testing.servers import postgres_url, schema_of
from treadle.wheel.turn import turn

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
PROJECT = """import treadle as tr

project = tr.Project("orders", owner="shop", goal="know which orders come back")
orders = project.dataset("orders", source=tr.parquet("orders.parquet"), key="order", event_time="ordered_at")
model = project.model("returns", rows=orders, target="returned", inputs=["amount", "shop"], candidates=[tr.candidate("logistic")], trials=1,
    gates=[tr.enough_rows(50)])
project.watch(model)
"""
PROGRAM = """
import sys, threading
from treadle.assemble import open_workspace
from treadle.live.up import Supervisor
ws = open_workspace(sys.argv[1])
Supervisor(ws, commands={"one": [sys.executable, "-c", "import time; time.sleep(600)"]}, tell=lambda line: print(line, flush=True)).run(threading.Event(), 0.05)
"""


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


@pytest.fixture
def pids() -> Iterator[list[int]]:
    """Processes that are ended whatever comes of the test."""
    found: list[int] = []
    yield found
    for pid in found:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def part(ws: Workspace, name: str = "one") -> dict:
    return next((p for p in standing(ws) if p["part"] == name), {"pid": 0, "state": "", "restarts": 0})


def test_what_is_killed_is_started_again_and_leaving_leaves_nothing(tiny: Workspace, pids: list[int]) -> None:
    told: list[str] = []
    keeper = Supervisor(tiny, commands={"one": SLEEP}, tell=told.append, first=0.1)
    stopping = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stopping, 0.02))
    thread.start()
    try:
        until(lambda: part(tiny)["state"] == "runs")
        first = part(tiny)["pid"]
        pids.append(first)
        os.kill(first, signal.SIGKILL)
        until(lambda: part(tiny)["state"] == "runs" and part(tiny)["pid"] != first)
        second = part(tiny)["pid"]
        pids.append(second)
        assert part(tiny)["restarts"] == 1
        other = Supervisor(tiny, commands={"one": SLEEP})
        mine = tiny.ledger.get("supervisor", other.me)
        assert mine is not None
        tiny.ledger.put("supervisor", other.me, {**mine.body, "pid": os.getppid(), "born": ""})  # as if another process was up here
        with pytest.raises(Conflict):
            other.run(stopping)
    finally:
        stopping.set()
        thread.join()
    assert not alive(second)
    assert part(tiny)["state"] == "left"


def test_what_dies_at_once_is_started_ever_more_rarely(tiny: Workspace) -> None:
    waits: list[str] = []
    keeper = Supervisor(tiny, commands={"one": [sys.executable, "-c", "raise SystemExit(3)"]}, tell=waits.append, first=1.0)
    for _ in range(8):  # as if the waits were over
        keeper.look()
        mine = keeper.parts["one"]
        if mine.child is not None:
            mine.child.wait()
        keeper.look()
        mine.after = 0.0
    said = [line for line in waits if "ended with code 3" in line]
    assert [float(line.split(" in ")[1].split()[0]) for line in said][:7] == [1, 2, 4, 8, 16, 32, 60]
    keeper.leave()


def test_a_supervisor_that_is_killed_leaves_its_parts_to_the_next_one(tiny: Workspace, pids: list[int]) -> None:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", PROGRAM, str(tiny.folder)], stdout=subprocess.PIPE, text=True)

    first = start()
    pids.append(first.pid)
    until(lambda: part(tiny)["state"] == "runs")
    one = part(tiny)["pid"]
    pids.append(one)
    first.kill()
    first.wait()
    assert alive(one)
    again = start()
    pids.append(again.pid)
    assert again.stdout is not None
    assert f"one still runs (process {one})" in again.stdout.readline()
    os.kill(one, signal.SIGKILL)  # and it is kept up, although it is no child of this one
    until(lambda: part(tiny)["state"] == "runs" and part(tiny)["pid"] != one)
    pids.append(part(tiny)["pid"])
    again.kill()
    again.wait()


def test_roles_of_two_machines_share_one_postgresql(tiny: Workspace, pids: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_LEDGER", postgres_url(schema=schema_of(tiny.folder)))
    one, other = open_workspace(tiny.folder), open_workspace(tiny.folder)
    stopping = threading.Event()
    keepers = [Supervisor(one, ["watch"], commands={"watch:x": SLEEP}), Supervisor(other, ["scheduler"], commands={"scheduler": SLEEP})]
    threads = [threading.Thread(target=keeper.run, args=(stopping, 0.02)) for keeper in keepers]
    try:
        for thread in threads:
            thread.start()
        until(lambda: {p["part"] for p in standing(one) if p["state"] == "runs"} == {"watch:x", "scheduler"})
        pids += [p["pid"] for p in standing(one)]
    finally:
        stopping.set()
        for thread in threads:
            thread.join()
    assert {p["state"] for p in standing(other)} == {"left"}
    assert not any(alive(pid) for pid in pids)
    for ws in (one, other):
        ws.ledger.close()


def test_roles_are_known_ones(tiny: Workspace) -> None:
    with pytest.raises(UsageError, match="'cook' is no role"):
        Supervisor(tiny, ["cook"])
    with pytest.raises(UsageError):
        Supervisor(tiny, [])
    assert "no role" in treadle(tiny.folder, "up", "--role", "cook", expect=2).stderr


@pytest.mark.story
def test_a_project_is_kept_up_through_kills_of_the_endpoint_and_of_the_keeper(tmp_path: Path, pids: list[int]) -> None:
    (tmp_path / "project.py").write_text(PROJECT)
    rng = np.random.default_rng(0)
    amount, at = rng.gamma(2.0, 30.0, 600), pl.datetime_range(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 31, tzinfo=UTC), "72m", eager=True)[:600]
    rows = {"order": [f"o{i}" for i in range(600)], "amount": amount, "shop": rng.choice(["north", "south"], 600), "ordered_at": at}
    pl.DataFrame({**rows, "returned": rng.random(600) < 1 / (1 + np.exp(-0.05 * (amount - 60)))}).write_parquet(tmp_path / "orders.parquet")
    os.environ["TREADLE_THREADS"] = "1"
    ws = open_workspace(tmp_path)
    turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "test"})
    deploy(ws, ws.model())
    stop(ws, "returns")
    command = [sys.executable, "-m", "treadle.cli.main", "-C", str(tmp_path), "up", "--role", "endpoints", "--role", "watch", "--every", "5"]
    environment = {**os.environ, "TREADLE_THREADS": "1"}

    def keeper() -> subprocess.Popen[str]:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, env=environment)
        pids.append(child.pid)
        return child

    def answers() -> bool:
        running = running_endpoint(ws, "returns")
        try:
            return running is not None and bool(Endpoint(running["url"]).predict({"amount": 5.0, "shop": "north"})["version"])
        except Unavailable:  # it was just killed
            return False

    first = keeper()
    until(answers)
    until(lambda: part(ws, "watch:returns")["state"] == "runs")
    before = running_endpoint(ws, "returns")["pid"]  # type: ignore[index]
    pids += [before, part(ws, "watch:returns")["pid"]]
    os.kill(before, signal.SIGKILL)
    until(lambda: (running := running_endpoint(ws, "returns")) is not None and running["pid"] != before and answers())
    now = running_endpoint(ws, "returns")["pid"]  # type: ignore[index]
    pids.append(now)
    assert now != before
    first.kill()
    first.wait()
    assert answers()  # nobody who asks notices
    second = keeper()
    until(lambda: ws.ledger.find("supervisor")[0]["pid"] == second.pid)
    assert running_endpoint(ws, "returns")["pid"] == now  # type: ignore[index]
    second.send_signal(signal.SIGTERM)
    second.wait()
    assert running_endpoint(ws, "returns") is None
    assert all(not alive(r["pid"]) for r in ws.ledger.find(PART) if r["pid"])
