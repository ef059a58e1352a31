"""Killed without warning at every point where a run writes: at each commit of the ledger, at each fsync, rename and unlink of the blob store,
before it and after it. Whatever the point, going on gives the same results, repeats nothing that was on record as done, and leaves no left-over."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from treadle.backends import sqlite_sessions
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.inprocess import InProcessExecutor
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.clock import ReplayClock
from treadle.core.records import Ref
from treadle.pipelines.graph import Retry, Slot, Step
from treadle.pipelines.run import RUN, Runner, mark_interrupted, steps_of

WRITES = ("BEGIN IMMEDIATE", "COMMIT")


PROJECT = '''
def first(folder):
    note(folder, "first")
    return [1, 2, 3]


def task(x, folder):
    note(folder, f"task {x}")
    print("working on", x)
    return {"x": x * x}


def gather(parts, folder):
    note(folder, "gather")
    return sum(p["x"] for p in parts)


def big(total, folder):
    note(folder, "big")
    return total > 3


def effect(total, folder, ledger, about):
    # An effect in the ledger, idempotent by its key, as registering a version is.
    note(folder, "effect")
    if ledger.get("effect", "the-one") is None:
        with ledger.transaction():
            ledger.put("effect", "the-one", {"total": total}, expect=0)
            ledger.append("effect.done", about)
    return f"total {total}"


def note(folder, name):
    with (folder / "calls").open("a") as calls:
        calls.write(name + "\\n")
'''


def steps(folder: Path) -> list[Step]:
    """The code stands in a folder of its own, so that nothing else counts as a part of it."""
    file = folder.parent / "code" / "steps_of_a_crash.py"
    spec = importlib.util.spec_from_file_location("steps_of_a_crash", file)
    assert spec is not None
    assert spec.loader is not None
    made: Any = importlib.util.module_from_spec(spec)
    sys.modules["steps_of_a_crash"] = made
    spec.loader.exec_module(made)
    first, task, gather, big, effect = made.first, made.task, made.gather, made.big, made.effect
    here = {"folder": folder}
    with_ledger = {**here, "ledger": SqliteLedger(folder / "ledger.db"), "about": Ref("effect", "the-one")}
    return [
        Step("first", first, extra=here), Step("task", task, {"x": "first"}, extra=here, over="x", retry=Retry(1)),
        Step("gather", gather, {"parts": "task"}, extra=here), Step("big", big, {"total": "gather"}, extra=here),
        Step("effect", effect, {"total": "gather"}, extra=with_ledger, when=[(Slot("big"), True)], cached=False),
        Step("not", effect, {"total": "gather"}, extra=with_ledger, when=[(Slot("big"), False)]),
    ]  # fmt: skip


def drive(folder: Path, resume: bool) -> None:
    """Start the pipeline, or go on with the run that was left."""
    ledger, clock = SqliteLedger(folder / "ledger.db"), ReplayClock(datetime(2026, 1, 1, tzinfo=UTC))
    runner = Runner(ledger, FileBlobs(folder / "blobs"), InProcessExecutor(), clock, roots=[folder.parent / "code"], home=folder)
    mark_interrupted(ledger, clock)
    left = ledger.find(RUN)
    if resume and left and left[0]["status"] != "done":
        outcome = runner.resume(left[0].id, steps(folder))
    elif resume and left:
        return
    else:
        outcome = runner.run("p.m", steps(folder), cause={"kind": "person", "id": "", "text": ""}, until=["effect", "not"])
    assert outcome["effect"] == "total 14"


def forked(work: Callable[[], None]) -> int:
    """Run in a child made by fork (starting an interpreter for each of hundreds of points would take minutes). Returns its wait status."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return os.waitpid(pid, 0)[1]


class Points:
    """Counts the points at which the process could die, and dies at one of them."""

    def __init__(self, deadly: int = 0) -> None:
        self.count, self.deadly = 0, deadly

    def reach(self) -> None:
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def arm(self) -> None:
        for name in ("fsync", "replace", "unlink"):
            setattr(os, name, self._around(getattr(os, name)))
        opened = sqlite_sessions._open

        def open_(*arguments: Any) -> Any:
            return Connection(opened(*arguments), self)

        sqlite_sessions._open = open_  # type: ignore[assignment]

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def around(*arguments: Any, **named: Any) -> Any:
            self.reach()
            value = call(*arguments, **named)
            self.reach()
            return value

        return around


class Connection:
    """A connection to the ledger that counts the beginning and the end of each transaction, before and after."""

    def __init__(self, connection: Any, points: Points) -> None:
        self._connection, self._points = connection, points

    def execute(self, sql: str, *values: Any) -> Any:
        if sql.startswith(WRITES):
            self._points.reach()
        result = self._connection.execute(sql, *values)
        if sql.startswith(WRITES):
            self._points.reach()
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def count(folder: Path) -> int:
    """How many points a run without an accident passes."""
    def counted() -> None:
        points = Points()
        points.arm()
        drive(folder, resume=False)
        (folder / "points").write_text(str(points.count))

    assert forked(counted) == 0
    return int((folder / "points").read_text())


@pytest.mark.parametrize("resume", [pytest.param(True, id="resumed", marks=pytest.mark.slow), pytest.param(False, id="started again")])
def test_killed_at_any_point_it_ends_the_same(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "steps_of_a_crash.py").write_text(PROJECT)
    (tmp_path / "whole").mkdir()
    total = count(tmp_path / "whole")
    assert total > 100
    for point in range(1, total + 1, 1 if resume else 3):
        folder = tmp_path / f"at-{point}"
        folder.mkdir()

        def die(folder: Path = folder, point: int = point) -> None:
            Points(point).arm()
            drive(folder, resume=False)

        assert forked(die) == signal.SIGKILL, f"point {point}"
        ledger = SqliteLedger(folder / "ledger.db")
        known = {s["step"]: s for run in ledger.find(RUN) for s in steps_of(run.id, ledger)}
        done = {name for name, s in known.items() if s["status"] == "done"}
        calls_before = (folder / "calls").read_text().split("\n") if (folder / "calls").exists() else []
        ledger.close()

        assert forked(lambda folder=folder: drive(folder, resume)) == 0, f"point {point}"  # type: ignore[misc]
        ledger, blobs = SqliteLedger(folder / "ledger.db"), FileBlobs(folder / "blobs")
        calls = (folder / "calls").read_text().split("\n")
        again = Counter(calls[len(calls_before) - 1 if calls_before else 0 :])
        names = {"first": "first", "gather": "gather", "big": "big", **{f"task[{i}]": f"task {i + 1}" for i in range(3)}}
        repeated = [step for step in done if again[names.get(step, "-")]]
        assert not repeated, f"point {point}: on record as done, and done again"
        assert len(ledger.find("effect")) == 1
        assert len(ledger.events_since(kinds=["effect.done"])) == 1
        runs = ledger.find(RUN)
        assert [r["status"] for r in runs][-1:] == ["done"], f"point {point}"
        assert all(r["status"] in ("done", "interrupted") for r in runs)
        assert len(runs) <= (1 if resume else 2)
        states = {s["step"]: s["status"] for s in steps_of(runs[-1].id, ledger)}
        assert {states[s] for s in ("first", "task", "gather", "big", "effect")} <= {"done", "reused"}
        assert states["not"] == "skipped"
        ledger.verify_chain()
        blobs.sweep(0)
        assert not list((folder / "blobs" / "tmp").iterdir())
        for address in blobs.addresses():
            blobs.verify(address)
        if resume:  # of a run that nobody goes on with, what it had said is kept where it was
            assert not list(folder.glob("logs/*/*")), "no log is left lying"
        ledger.close()
