"""Steps in worker processes: the same results as in this one; what hangs, eats memory or dies ends as it says, and the run knows."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import treadle as tr
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.inprocess import InProcessExecutor
from treadle.backends.process_pool import ProcessPool
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.clock import SystemClock
from treadle.core.errors import StepFailed, TreadleError, UsageError
from treadle.pipelines import declared
from treadle.pipelines.hand_out import HandOut
from treadle.pipelines.logs import log_text
from treadle.pipelines.run import Outcome, Runner, steps_of
from treadle.ports.executor import Resources, WorkerLost

CODE = '''
import os, signal, time
from pathlib import Path
import polars as pl
import treadle as tr

@tr.step
def table(n: int) -> pl.DataFrame:
    return pl.DataFrame({"x": list(range(n))})

@tr.step
def part(i: int, rows: pl.DataFrame) -> int:
    print("part", i)
    return int(rows["x"].sum()) * i

@tr.step
def total(parts: list[int]) -> int:
    return sum(parts)

@tr.step
def pid(n: int) -> int:
    return os.getpid()

@tr.step(timeout="5s")
def slow(n: int) -> int:
    time.sleep(n)
    return os.getpid()

@tr.step(timeout="5s", retries=1, backoff="0.01s")
def slow_once(mark: str) -> int:
    if not Path(mark).exists():
        Path(mark).touch()
        time.sleep(60)
    return 1

@tr.step(memory="300MB")
def hungry(n: int) -> int:
    held = bytearray(n)
    time.sleep(2 if n > 300_000_000 else 0)
    return len(held)

@tr.step
def dies(mark: str) -> int:
    if not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 1

@tr.step
def always_dies(n: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)

@tr.step
def handle(n: int):
    return open("/dev/null")

@tr.step
def fails(n: int) -> int:
    raise KeyError("carrier")
'''


class World:
    def __init__(self, folder: Path, executor: Any) -> None:
        self.ledger, self.blobs, self.home = SqliteLedger(folder / "ledger.db"), FileBlobs(folder / "blobs"), folder
        self.executor, self.pool = executor, ProcessPool(2)
        (folder / "steps_of_apart.py").write_text(CODE)
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))  # the workers get it too
        spec = importlib.util.spec_from_file_location("steps_of_apart", folder / "steps_of_apart.py")
        assert spec is not None
        assert spec.loader is not None
        self.steps: Any = importlib.util.module_from_spec(spec)
        sys.modules["steps_of_apart"] = self.steps
        spec.loader.exec_module(self.steps)

    def run(self, function: Any, **params: Any) -> Outcome:
        made = tr.Project("p", owner="me", goal="test").pipeline(function, name="p")
        steps, template = declared.steps_of(made, declared.values(made, params))
        runner = Runner(
            self.ledger, self.blobs, self.executor, SystemClock(), home=self.home, roots=[self.home], workers=lambda: self.pool,
            here=InProcessExecutor,
        )  # fmt: skip
        return runner.run("p.p", steps, cause={"kind": "person", "id": "", "text": ""}, template=template)

    def last(self) -> dict[str, Any]:
        run = self.ledger.find("run", newest_first=True)[0]
        return {s["step"]: s for s in steps_of(run.id, self.ledger)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, InProcessExecutor())
    yield world
    world.pool.close()
    sys.path.remove(str(tmp_path))


@pytest.fixture
def apart(world: World) -> World:
    world.executor = world.pool
    return world


def test_results_logs_and_addresses_are_the_same_in_and_out_of_process(world: World) -> None:
    s = world.steps

    def spread(n: int = 10) -> Any:
        rows = s.table(n)
        return s.total(s.part.map([1, 2, 3], rows=rows))

    first = world.run(spread)
    said = {name: (e["address"], log_text(e, world.blobs, world.home)) for name, e in world.last().items()}
    for record in world.ledger.find("result"):
        world.ledger.put("result", record.id, {**record.body, "address": "0" * 64})  # nothing can be reused
    world.executor = world.pool
    again = world.run(spread)
    assert (first.value, again.value, again.reused) == (270, 270, [])
    assert {name: (e["address"], log_text(e, world.blobs, world.home)) for name, e in world.last().items()} == said
    assert {e["where"] for name, e in world.last().items() if name != "part"} == {"ProcessPool"}
    assert said["part[1]"][1] == "part 2\n"


def test_a_step_with_a_limit_runs_in_a_worker_and_the_others_here(world: World) -> None:
    s = world.steps
    outcome = world.run(lambda: (s.pid(0), s.slow(0)))
    assert outcome["pid"] == os.getpid()
    assert outcome["slow"] != os.getpid()


def test_what_runs_too_long_is_stopped_and_named(world: World) -> None:
    s = world.steps
    with pytest.raises(StepFailed, match="ran longer than its limit of 5 seconds") as caught:
        world.run(lambda: s.slow(60))
    assert caught.value.where == "step 'slow' of p.p"
    assert world.last()["slow"]["status"] == "failed"


def test_what_ran_too_long_is_tried_again_where_the_step_says_so(world: World, tmp_path: Path) -> None:
    s = world.steps
    assert world.run(lambda: s.slow_once(str(tmp_path / "mark"))).value == 1
    assert world.last()["slow_once"]["attempt"] == 2


def test_what_takes_too_much_memory_is_stopped_and_named(world: World) -> None:
    s = world.steps
    assert world.run(lambda: s.hungry(1000)).value == 1000
    with pytest.raises(StepFailed, match="more than its limit of 300 MB of memory"):
        world.run(lambda: s.hungry(700_000_000))


def test_a_task_whose_worker_dies_is_given_to_another(apart: World, tmp_path: Path) -> None:
    s = apart.steps
    assert apart.run(lambda: s.dies(str(tmp_path / "mark"))).value == 1
    entry = apart.last()["dies"]
    assert entry["attempt"] == 2
    assert "signal 9" in entry["failures"][0]["error"]
    with pytest.raises(StepFailed, match="signal 9"):
        apart.run(lambda: s.always_dies(1))
    assert apart.last()["always_dies"]["attempt"] == 4


def test_an_error_in_a_worker_is_the_functions_own_with_its_traceback(apart: World) -> None:
    s = apart.steps
    with pytest.raises(StepFailed, match="KeyError: 'carrier'") as caught:
        apart.run(lambda: s.fails(1))
    assert isinstance(caught.value.__cause__, KeyError)
    assert "in fails" in apart.last()["fails"]["traceback"]


def test_what_cannot_be_stored_or_sent_is_said(apart: World) -> None:
    s = apart.steps
    with pytest.raises(UsageError, match="A result of type TextIOWrapper cannot be stored"):
        apart.run(lambda: s.handle(1))

    @tr.step
    def local(n: int) -> int:
        return n

    with pytest.raises(UsageError, match="It cannot be sent to another process") as caught:
        apart.run(lambda: local(1))
    assert "top level of a module" in str(caught.value.hint)


def times(shared: dict[str, int], part: int) -> int:
    if part == 7 and not Path(os.environ.get("TREADLE_TEST_MARK", "/nowhere")).exists():
        Path(os.environ["TREADLE_TEST_MARK"]).touch()
        os.kill(os.getpid(), 9)
    if part < 0:
        raise ValueError("negative")
    return shared["by"] * part


def test_parts_of_a_piece_of_work_are_handed_out_and_come_back_in_order(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_TEST_MARK", str(tmp_path / "mark"))
    each = HandOut(world.pool, world.blobs, None, Resources())
    assert each(times, {"by": 3}, [5, 7, 1]) == [15, 21, 3]
    assert (tmp_path / "mark").exists()  # the worker that had the 7 died once
    with pytest.raises(ValueError, match="negative"):
        each(times, {"by": 3}, [1, -1, 2])
    assert WorkerLost.transient


def test_each_part_gets_the_resources_it_needs_or_is_refused(world: World) -> None:
    assert HandOut(world.pool, world.blobs, None, Resources(cores=world.pool.slots))(times, {"by": 3}, [5, 1]) == [15, 3]
    with pytest.raises(TreadleError, match=f"'part 0' asks for {world.pool.slots + 1} cores"):
        HandOut(world.pool, world.blobs, None, Resources(cores=world.pool.slots + 1))(times, {"by": 3}, [5, 1])
    with pytest.raises(TreadleError, match="more than its limit of 200 MB of memory"):
        HandOut(world.pool, world.blobs, None, Resources(memory=200_000_000))(hold, 300_000_000, [1])


def hold(shared: int, part: int) -> int:
    held = bytearray(os.urandom(1024)) * (shared // 1024)
    time.sleep(5)
    return len(held)
