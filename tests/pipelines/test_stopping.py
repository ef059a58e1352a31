"""Somebody stops a run from elsewhere: its driver sees it within a second, what had finished is kept, and the run can be resumed."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from treadle.backends.file_blobs import FileBlobs
from treadle.backends.inprocess import InProcessExecutor
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.process_pool import ProcessPool
from treadle.core.clock import ReplayClock
from treadle.core.errors import Conflict, RunStopped
from treadle.pipelines.graph import Step
from treadle.pipelines.run import Runner, steps_of
from treadle.pipelines.stopping import stop

CAUSE = {"kind": "person", "id": "", "text": "by hand"}


def first() -> int:
    return 1


def nap(of: int) -> int:
    time.sleep(60)
    return of


def last(of: int) -> int:
    return of + 1


STEPS = [Step("first", first), Step("nap", nap, {"of": "first"}), Step("last", last, {"of": "nap"})]


def test_a_step_in_a_process_of_its_own_is_killed_and_the_run_says_who_stopped_it(tmp_path: Path) -> None:
    ledger, clock, ended = MemoryLedger(), ReplayClock(datetime(2013, 1, 1, tzinfo=UTC)), []
    pool = ProcessPool(1)
    runner = Runner(ledger, FileBlobs(tmp_path), pool, clock)

    def drive() -> None:
        try:
            runner.run("p.m", STEPS, cause=CAUSE, id="run-1")
        except RunStopped as stopped:
            ended.append(stopped.what)

    thread = threading.Thread(target=drive)
    thread.start()
    while thread.is_alive() and not any(s["step"] == "nap" and s["status"] == "running" for s in steps_of("run-1", ledger)):
        time.sleep(0.05)
    run = ledger.get("run", "run-1")
    assert run is not None
    assert stop(run, ledger, clock, by="ann", reason="wrong data") == "stopping"
    thread.join(30)
    assert not thread.is_alive()
    pool.close()
    run = ledger.get("run", "run-1")
    assert run is not None
    assert ended == [run["error"]] == ["stopped by ann: wrong data"]
    assert run["status"] == "cancelled"
    assert {s["step"]: s["status"] for s in steps_of("run-1", ledger)} == {"first": "done", "nap": "cancelled"}
    with pytest.raises(Conflict, match="nothing to stop"):
        stop(run, ledger, clock, by="ann", reason="")


def test_a_run_that_waits_for_a_person_is_over_at_once_and_can_be_resumed_in_spite_of_the_old_wish() -> None:
    ledger, clock = MemoryLedger(), ReplayClock(datetime(2013, 1, 1, tzinfo=UTC))
    runner = Runner(ledger, MemoryBlobs(), InProcessExecutor(), clock)
    steps = [Step("first", first), Step("ask", first, question="Go on?"), Step("last", last, {"of": "first"})]
    run = runner.run("p.m", steps, cause=CAUSE).run
    assert run["status"] == "waiting"
    assert stop(run, ledger, clock, by="ann", reason="") == "cancelled"
    found = ledger.get("run", run.id)
    assert found is not None
    assert (found["status"], found["error"]) == ("cancelled", "stopped by ann")
    assert runner.resume(run.id, steps).run["status"] == "waiting"
