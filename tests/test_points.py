"""Metric points logged one by one: nothing is lost that was flushed, little of the rest, and readers see them while the run goes on."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.errors import StorageError, UsageError
from treadle.core.records import Point
from treadle.points import AHEAD, EVERY, Points, search_runs, start_run


def test_what_was_logged_is_there_in_order_when_flush_returns(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    points = Points(ledger)
    for step in range(3_000):
        points.log("run", "loss", 1 / (1 + step), step)
    points.flush()
    assert [(p.step, p.value) for p in ledger.points("run", "loss")] == [(s, 1 / (1 + s)) for s in range(3_000)]
    points.close()


def test_readers_see_points_while_they_are_logged(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    points = Points(ledger)
    points.log("run", "loss", 0.5)
    give_up = time.monotonic() + 60
    while not ledger.points("run") and time.monotonic() < give_up:
        time.sleep(EVERY / 10)
    assert len(ledger.points("run")) == 1
    points.close()


def test_many_threads_log_into_one_buffer(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    points = Points(ledger)
    threads = [threading.Thread(target=lambda k=k: [points.log(f"run-{k}", "x", i, i) for i in range(500)]) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    points.close()
    assert [len(ledger.points(f"run-{k}")) for k in range(8)] == [500] * 8


LOGS = """
import sys, time
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.points import Points
points = Points(SqliteLedger(sys.argv[1]))
step = 0
while True:
    moment = time.time()
    points.log("run", "at", moment, step)
    step += 1
    if step == 500:
        points.flush()
        print("flushed", flush=True)
    if step % 50 == 0:
        time.sleep(0.002)
"""


def test_a_killed_process_loses_nothing_that_was_flushed_and_at_most_the_last_moments(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", LOGS, str(tmp_path / "ledger.db")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "flushed\n"
    time.sleep(1.0)
    process.send_signal(signal.SIGKILL)
    killed = time.time()
    process.wait()
    found = SqliteLedger(tmp_path / "ledger.db").points("run", "at")
    assert len(found) > 500
    assert [p.step for p in found] == list(range(len(found)))  # none is missing in between
    assert killed - found[-1].value < 5.0  # a tenth of a second where the disk and the processor are not busy with others


class Held(MemoryLedger):
    """A disk that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def log_points(self, points: Iterable[Point]) -> None:
        self.go.wait()
        super().log_points(points)


def test_a_caller_faster_than_the_disk_waits_so_that_a_kill_costs_little() -> None:
    ledger, logged = Held(), [0]
    points = Points(ledger)

    def log() -> None:
        for step in range(3 * AHEAD):
            points.log("run", "x", 1.0, step)
            logged[0] = step + 1

    caller = threading.Thread(target=log)
    caller.start()
    give_up, before = time.monotonic() + 60, -1
    while logged[0] != before and time.monotonic() < give_up:  # until it stands still
        before = logged[0]
        time.sleep(0.2)
    assert logged[0] < AHEAD
    ledger.go.set()
    caller.join()
    points.close()
    assert [p.step for p in ledger.points("run")] == list(range(3 * AHEAD))


def test_a_process_that_ends_writes_what_waits(tmp_path: Path) -> None:
    program = LOGS.replace("while True", "while step < 1234").replace("500", "5000")
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "ledger.db")], check=True)
    assert len(SqliteLedger(tmp_path / "ledger.db").points("run")) == 1234


def test_a_forked_child_does_not_write_what_its_parent_logged(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    points = Points(ledger)
    points.log("run", "x", 1.0)
    child = os.fork()
    if child == 0:
        points.log("child", "x", 2.0)
        points.flush()
        os._exit(0)
    os.waitpid(child, 0)
    points.close()
    assert len(ledger.points("run")) == len(ledger.points("child")) == 1


class Full(MemoryLedger):
    def log_points(self, points: Iterable[Point]) -> None:
        raise StorageError("The disk is full.")


def test_a_full_disk_is_told_to_the_caller() -> None:
    points = Points(Full())
    points.log("run", "x", 1.0)
    with pytest.raises(StorageError, match="full"):
        points.flush()
    points.close()
    with pytest.raises(UsageError, match="closed"):
        points.log("run", "x", 1.0)


def test_runs_are_found_by_the_last_value_of_a_metric() -> None:
    ledger = MemoryLedger()
    for i in range(20):
        with start_run(f"try {i}", ledger, {"lr": i}) as run:
            run.log("auc", 0.1)
            run.log("auc", i / 20, 1)
            run.log("odd", math.nan)
    found = search_runs(ledger, "auc", at_least=0.5, limit=3)
    assert [(r["params"]["lr"], v) for r, v in found] == [(19, 0.95), (18, 0.9), (17, 0.85)]
    assert [v for _, v in search_runs(ledger, "auc", at_most=0.1, best="least")] == [0.0, 0.05, 0.1]
    assert search_runs(ledger, "odd") == []
    assert len(search_runs(ledger, limit=5)) == 5
    assert found[0][0]["status"] == "done"
    assert found[0][0]["last"]["auc"] == 0.95
