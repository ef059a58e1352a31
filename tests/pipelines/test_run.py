"""The one loop: what has not changed is not done again, what failed goes on where it stopped, and each run says what it did and why."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.backends.inprocess import InProcessExecutor
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock
from treadle.core.errors import Cancelled, Conflict, DataError, NotFound, ProjectError, StepFailed, UsageError
from treadle.core.records import Ref
from treadle.pipelines import results
from treadle.pipelines.graph import Step
from treadle.pipelines.run import Outcome, Progress, Runner, alive, mark_interrupted, owner, steps_of

CAUSE = {"kind": "person", "id": "", "text": "by hand"}
CALLS: list[str] = []


def load(value: int) -> list[int]:
    CALLS.append("load")
    return [value, value + 1, value + 2]


def even(rows: list[int]) -> bool:
    CALLS.append("even")
    return rows[0] % 2 == 0


def report(is_even: bool) -> str:
    CALLS.append("report")
    return "even" if is_even else "odd"


def fail(is_even: bool) -> str:
    CALLS.append("fail")
    raise ZeroDivisionError("nothing to divide by")


class World:
    def __init__(self) -> None:
        self.ledger, self.blobs, self.clock = MemoryLedger(), MemoryBlobs(), ReplayClock(datetime(2013, 1, 1, tzinfo=UTC))
        self.seen: list[Progress] = []
        self.roots: list[Path] = []  # the functions of this file are no project's code: what they mean is told elsewhere

    def runner(self) -> Runner:
        return Runner(self.ledger, self.blobs, InProcessExecutor(), self.clock, roots=self.roots, watch=self.seen.append)

    def steps(self, value: int = 4, last: Callable[..., Any] = report, **changes: Any) -> list[Step]:
        return [Step("load", load, {}, {"value": value}), Step("even", even, {"rows": "load"}), Step("report", last, {"is_even": "even"}, **changes)]

    def run(self, steps: list[Step] | None = None, **options: Any) -> Outcome:
        CALLS.clear()
        self.seen.clear()
        return self.runner().run("p.m", steps or self.steps(), **{"cause": CAUSE, **options})

    def states(self) -> dict[str, str]:
        """The last state of each step of the run that was started last."""
        run = self.ledger.find("run", newest_first=True)[0]
        return {entry["step"]: entry["status"] for entry in steps_of(run.id, self.ledger)}

    def reasons(self) -> dict[str, str]:
        return {p.step: p.reason for p in self.seen if p.state == "started"}


@pytest.fixture
def world() -> World:
    return World()


def test_all_steps_run_once_and_then_none(world: World) -> None:
    first = world.run()
    assert (CALLS, first["report"], first.reused) == (["load", "even", "report"], "even", [])
    assert world.reasons() == {"load": "never ran", "even": "never ran", "report": "never ran"}
    again = world.run()
    assert (CALLS, again["report"], again.reused) == ([], "even", ["load", "even", "report"])
    assert [(p.step, p.state) for p in world.seen[1:]] == [("load", "reused"), ("even", "reused"), ("report", "reused")]
    assert [first.address(s) == again.address(s) for s in ("load", "even", "report")] == [True] * 3


def test_a_result_that_comes_out_the_same_stops_the_wave(world: World) -> None:
    """Early cut-off: 6 is as even as 4."""
    world.run()
    outcome = world.run(world.steps(value=6))
    assert (CALLS, outcome.reused) == (["load", "even"], ["report"])
    assert world.reasons() == {"load": "parameter value changed from 4 to 6", "even": "input rows changed"}
    world.run(world.steps(value=7))
    assert CALLS == ["load", "even", "report"]


def test_what_was_computed_once_is_found_again_when_one_goes_back(world: World) -> None:
    world.run(world.steps(value=4))
    world.run(world.steps(value=7))
    world.run(world.steps(value=4))
    assert CALLS == []


def test_each_scope_remembers_its_own_reasons_and_all_share_the_results(world: World) -> None:
    world.run()
    outcome = world.runner().run("p.other", world.steps(), cause=CAUSE)
    assert outcome.reused == ["load", "even", "report"]


def test_a_changed_function_says_which(world: World, tmp_path: Path) -> None:
    world.roots.append(tmp_path)

    def steps(text: str) -> list[Step]:
        (tmp_path / "tools.py").write_text(text)
        spec = importlib.util.spec_from_file_location("tools_of_a_test", tmp_path / "tools.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["tools_of_a_test"] = module
        exec(compile(text, tmp_path / "tools.py", "exec"), vars(module))
        import linecache

        linecache.checkcache(str(tmp_path / "tools.py"))
        return [Step("double", module.double, {}, {"x": 2})]

    one = "LIMIT = 3\n\n\ndef helper(x):\n    return 2 * x\n\n\ndef double(x):\n    return helper(x), LIMIT\n"
    said = []
    changes = [
        one, one.replace("double(x):\n", "double(x):\n    # a comment\n"), one.replace("2 * x", "x + x"), one.replace("LIMIT = 3", "LIMIT = 5"),
        one.replace("    return helper(x)", "    x = abs(x)\n    return helper(x)"), "def double(x):\n    return x\n",
    ]  # fmt: skip
    for text in changes:
        world.run(steps(text))
        said.append(world.reasons().get("double"))
    assert said == ["never ran", None, "helper in tools changed", "LIMIT in tools changed", "LIMIT in tools changed", "double in tools changed"]


def test_a_step_that_must_run_each_time_does_and_what_follows_is_reused(world: World) -> None:
    steps = [Step("load", load, {}, {"value": 4}, cached=False), Step("even", even, {"rows": "load"})]
    world.run(steps)
    assert world.run(steps).reused == ["even"]
    assert CALLS == ["load"]
    assert world.reasons() == {"load": "runs each time"}


def test_a_failure_names_the_step_and_keeps_what_had_finished(world: World) -> None:
    with pytest.raises(StepFailed, match="ZeroDivisionError: nothing to divide by") as caught:
        world.run(world.steps(last=fail))
    assert caught.value.where == "step 'report' of p.m"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    (run,) = world.ledger.find("run")
    assert caught.value.hint == f"See: treadle logs {run.id} report"
    assert (run["status"], world.states()) == ("failed", {"load": "done", "even": "done", "report": "failed"})
    entry = steps_of(run.id, world.ledger)[-1]
    assert "nothing to divide by" in entry["error"]
    assert "raise ZeroDivisionError" in entry["traceback"]
    assert world.run().reused == ["load", "even"]
    assert CALLS == ["report"]


def test_a_failure_that_has_its_own_sentence_comes_as_it_is(world: World) -> None:
    def refuse(is_even: bool) -> None:
        raise DataError("There are no rows.", where="data set 'rows'")

    with pytest.raises(DataError, match="There are no rows"):
        world.run(world.steps(last=refuse))
    assert world.states()["report"] == "failed"


def test_stopped_by_hand_it_goes_on_from_there(world: World) -> None:
    def stop(is_even: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Cancelled, match="What had finished is kept"):
        world.run(world.steps(last=stop))
    (run,) = world.ledger.find("run")
    assert (run["status"], run["error"]) == ("cancelled", "stopped by hand")
    assert world.run().reused == ["load", "even"]


def test_what_a_step_prints_is_kept_with_the_run(world: World) -> None:
    def speak(is_even: bool) -> int:
        print("first\nsecond")
        return 1

    outcome = world.run(world.steps(last=speak))
    entry = steps_of(outcome.run.id, world.ledger)[-1]
    assert (world.blobs.get(entry["log"]), entry["lines"]) == (b"first\nsecond\n", 2)


def test_a_damaged_result_is_computed_again(world: World) -> None:
    outcome = world.run()
    world.blobs._held[outcome.address("even")] = b"damaged"
    assert world.runner().plan("p.m", world.steps())[1]["fresh"] is False
    again = world.run()
    assert (CALLS, again["report"]) == (["even"], "even")
    assert world.reasons() == {"even": f"its stored result {outcome.address('even')[:12]} is damaged"}
    assert [p.step for p in world.seen if p.state == "warning"] == ["even"]
    world.blobs.verify(again.address("even"))
    assert world.run().reused == ["load", "even", "report"]


def test_a_result_that_is_gone_is_computed_again(world: World) -> None:
    outcome = world.run()
    world.blobs.delete(outcome.address("load"))
    assert world.run().reused == ["even", "report"]
    assert CALLS == ["load"]


def test_a_result_that_no_longer_holds_is_computed_again(world: World) -> None:
    there = {"even"}
    steps = world.steps(holds=lambda value: value in there)
    world.run(steps)
    assert world.run(steps).reused == ["load", "even", "report"]
    there.clear()
    assert world.run(steps).reused == ["load", "even"]


def test_only_what_is_asked_for_is_run(world: World) -> None:
    steps = [*world.steps(), Step("aside", load, {}, {"value": 9})]
    world.run(steps, until=["even"])
    assert CALLS == ["load", "even"]
    world.run(steps, until=["even", "aside"])
    assert CALLS == ["load"]
    with pytest.raises(NotFound, match="There is no step 'nothing'") as caught:
        world.run(steps, until=["nothing"])
    assert caught.value.hint == "Steps are: load, even, report, aside."


def test_the_plan_says_what_would_run_and_runs_nothing(world: World) -> None:
    CALLS.clear()
    assert world.runner().plan("p.m", world.steps()) == [
        {"step": "load", "state": "run", "fresh": False, "reason": "never ran"}, {"step": "even", "state": "run", "fresh": False, "reason": "after load"},
        {"step": "report", "state": "run", "fresh": False, "reason": "after even"},
    ]  # fmt: skip
    assert CALLS == []
    world.run()
    before = len(world.ledger.events_since())
    assert [s["fresh"] for s in world.runner().plan("p.m", world.steps())] == [True] * 3
    said = world.runner().plan("p.m", world.steps(value=5))
    assert [(s["fresh"], s["reason"]) for s in said] == [(False, "parameter value changed from 4 to 5"), (False, "after load"), (False, "after even")]
    assert len(world.ledger.events_since()) == before


def test_a_pipeline_that_cannot_be_ordered_does_not_begin(world: World) -> None:
    for steps in ([Step("a", load, {"value": "a"})], [Step("a", load, {"value": "b"})]):
        with pytest.raises(ProjectError):
            world.run(steps)
    assert [r["status"] for r in world.ledger.find("run")] in ([], ["failed", "failed"])


def test_one_cause_starts_exactly_one_run(world: World) -> None:
    world.run(id="run-of-alarm-7", cause={"kind": "alarm", "id": "alarm-7", "text": "drift"})
    with pytest.raises(Conflict):
        world.run(id="run-of-alarm-7", cause={"kind": "alarm", "id": "alarm-7", "text": "drift"})
    assert [link.target for link in world.ledger.links(Ref("run", "run-of-alarm-7"))] == [Ref("alarm", "alarm-7")]
    assert len(world.ledger.find("run")) == 1
    assert [e.kind for e in world.ledger.events_since()] == ["run.started", "run.done"]


def test_a_run_without_a_living_owner_is_marked_interrupted(world: World) -> None:
    def leave(status: str, who: Mapping[str, Any]) -> str:
        return world.ledger.put("run", f"run-{len(world.ledger.find('run'))}", {"status": status, "owner": dict(who)}).id

    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert not alive(pid)
    assert alive(os.getpid())
    dead = leave("running", {**owner(), "pid": pid})
    leave("done", {**owner(), "pid": pid})
    leave("running", owner())
    leave("running", {**owner(), "pid": pid, "host": "another machine"})
    assert mark_interrupted(world.ledger, world.clock) == [dead]
    assert mark_interrupted(world.ledger, world.clock) == []
    assert [r["status"] for r in world.ledger.find("run")] == ["interrupted", "done", "running", "running"]


@pytest.mark.parametrize("value", [None, True, 3, 1.5, "ä", [1, [2]], {"a": None}, (1, 2), {1: 2}, {1, 2}, datetime(2013, 1, 1, tzinfo=UTC), b"x", float("inf")])
def test_a_result_comes_back_as_it_was(value: Any) -> None:
    blobs = MemoryBlobs()
    back = results.load(*results.store(value, blobs), blobs)
    assert (back, type(back)) == (value, type(value))


def test_frames_and_arrays_come_back_as_they_were() -> None:
    frame = pl.DataFrame({"a": [1, None], "at": [datetime(2013, 1, 1, tzinfo=UTC), None], "b": ["x", ""]})
    blobs = MemoryBlobs()
    assert results.load(*results.store(frame, blobs), blobs).equals(frame)
    assert results.store(frame, blobs)[0] == "frame"
    array = np.array([1.0, np.nan])
    assert np.array_equal(results.load(*results.store(array, blobs), blobs), array, equal_nan=True)


def test_what_cannot_be_stored_is_refused_by_its_type_and_the_step_has_failed(world: World) -> None:
    def generate(is_even: bool) -> Any:
        return (i for i in range(3))

    with pytest.raises(UsageError, match="A result of type generator cannot be stored"):
        world.run(world.steps(last=generate))
    assert world.states()["report"] == "failed"
