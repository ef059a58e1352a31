"""Pipelines as people write them: what fits together runs, what does not is refused before it runs, naming the two ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import treadle as tr
from treadle.backends.inprocess import InProcessExecutor
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock
from treadle.core.declare.pipeline import Pipeline
from treadle.core.errors import Conflict, Fenced, ProjectError, StepFailed, UsageError
from treadle.pipelines import declared
from treadle.pipelines.run import APPROVAL, Outcome, Progress, Runner, mark_interrupted, steps_of

CALLS: list[Any] = []


@tr.step
def numbers(n: int) -> list[int]:
    return list(range(n))


@tr.step
def square(x: int, plus: int = 0) -> int:
    CALLS.append(x)
    if x == 13:
        raise ValueError("thirteen")
    return x * x + plus


@tr.step
def total(values: list[int]) -> int:
    CALLS.append("total")
    return sum(values)


@tr.step
def is_big(value: int) -> bool:
    return value > 10


@tr.step
def text(value: int) -> str:
    return str(value)


@tr.step
def shout(word: str) -> str:
    return word.upper()


@tr.step
def halves(values: list[int]) -> tuple[list[int], list[int]]:
    middle = len(values) // 2
    return values[:middle], values[middle:]


@tr.step
def table(n: int) -> pl.DataFrame:
    return pl.DataFrame({"x": list(range(n))})


@tr.step
def height(frame: pl.DataFrame) -> int:
    return frame.height


@tr.step
def wrong(n: int) -> pl.DataFrame:
    return {"rows": n}  # type: ignore[return-value]


FAILS: list[BaseException] = []


@tr.step(retries=2, backoff="0.01s")
def shaky(n: int) -> int:
    CALLS.append("shaky")
    if FAILS:
        raise FAILS.pop(0)
    return n


class World:
    def __init__(self) -> None:
        self.ledger, self.blobs, self.clock = MemoryLedger(), MemoryBlobs(), ReplayClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.seen: list[Progress] = []

    def runner(self) -> Runner:
        return Runner(self.ledger, self.blobs, InProcessExecutor(), self.clock, watch=self.seen.append)

    def run(self, function: Callable[..., Any], **params: Any) -> Outcome:
        CALLS.clear()
        self.seen.clear()
        made = pipeline(function)
        steps, template = declared.steps_of(made, declared.values(made, params))
        return self.runner().run("p.x", steps, cause={"kind": "person", "id": "", "text": ""}, template=template)

    def resume(self, function: Callable[..., Any], run: str, **params: Any) -> Outcome:
        CALLS.clear()
        made = pipeline(function)
        steps, template = declared.steps_of(made, declared.values(made, params))
        return self.runner().resume(run, steps, template=template)

    def states(self, outcome: Outcome) -> dict[str, str]:
        return {s["step"]: s["status"] for s in steps_of(outcome.run.id, self.ledger)}


def pipeline(function: Callable[..., Any]) -> Pipeline:
    made = tr.Project("p", owner="me", goal="test").pipeline(function, name="" if function.__name__.isidentifier() else "lambda")
    assert isinstance(made, Pipeline)
    return made


def steps_of_(function: Callable[..., Any], **params: Any) -> list[Any]:
    made = pipeline(function)
    return declared.steps_of(made, declared.values(made, params))[0]


@pytest.fixture
def world() -> World:
    FAILS.clear()
    return World()


def test_a_step_is_a_plain_function_outside_a_pipeline() -> None:
    assert square(3) == 9
    assert square.map([1, 2], plus=1) == [2, 5]


def test_a_pipeline_runs_and_returns_what_its_function_returns(world: World) -> None:
    def chain(n: int = 4) -> Any:
        values = numbers(n)
        return {"total": total(values), "n": n, "first": values[0]}

    assert world.run(chain).value == {"total": 6, "n": 4, "first": 0}
    assert world.run(chain, n="5").value == {"total": 10, "n": 5, "first": 0}
    assert world.run(chain).reused == ["numbers", "total"]


def test_a_fan_out_does_one_task_for_each_element_and_only_the_new_ones_again(world: World) -> None:
    def spread(parts: list[int] = [3, 1, 2]) -> Any:  # noqa: B006
        return total(square.map(parts, plus=1))

    assert (world.run(spread).value, CALLS) == (17, [3, 1, 2, "total"])
    outcome = world.run(spread, parts="3,5,2")
    assert (outcome.value, CALLS) == (41, [5, "total"])
    assert world.states(outcome) == {"square": "done", "square[0]": "reused", "square[1]": "done", "square[2]": "reused", "total": "done"}
    assert (world.run(spread, parts=[]).value, CALLS) == (0, ["total"])


def test_a_fan_out_over_a_result_is_as_wide_as_the_result(world: World) -> None:
    def spread(n: int = 3) -> Any:
        return square.map(square.map(numbers(n)))

    assert world.run(spread).value == [0, 1, 16]
    assert world.run(spread, n=4).value == [0, 1, 16, 81]
    assert CALLS == [3, 9]


def test_a_task_that_fails_leaves_what_the_others_did(world: World) -> None:
    def spread(parts: list[int] = [1, 13, 2]) -> Any:  # noqa: B006
        return total(square.map(parts))

    with pytest.raises(StepFailed, match="ValueError: thirteen") as caught:
        world.run(spread)
    assert caught.value.where == "step 'square[1]' of p.x"
    assert (world.run(spread, parts=[1, 2]).value, CALLS) == (5, [2, "total"])


def test_what_is_no_list_cannot_be_gone_over(world: World) -> None:
    @tr.step
    def anything() -> Any:
        return 3

    with pytest.raises(ProjectError, match="goes over 'x', which is no list but int"):
        world.run(lambda: square.map(anything()))
    with pytest.raises(ProjectError, match=r"'text' returns str, but 'square' takes list\[int\] as 'x'"):
        world.run(lambda: square.map(text(3)))


def test_a_condition_leaves_out_its_steps_and_what_takes_their_results(world: World) -> None:
    def choose(n: int = 3) -> Any:
        value = total(numbers(n))
        big = is_big(value)
        with tr.when(big):
            said = shout.with_options(name="loud")(text(value))
        with tr.unless(big):
            quiet = text.with_options(name="quiet")(value)
        return tr.first_of(said, quiet)

    outcome = world.run(choose)
    assert (outcome.value, world.states(outcome)["loud"], world.states(outcome)["text"]) == ("3", "skipped", "skipped")
    outcome = world.run(choose, n=6)
    assert (outcome.value, world.states(outcome)["quiet"]) == ("15", "skipped")


def test_a_condition_may_be_a_parameter(world: World) -> None:
    def choose(loud: bool) -> Any:
        with tr.when(loud):
            return shout(text(3))

    assert world.run(choose, loud="true").value == "3"
    outcome = world.run(choose, loud="false")
    assert (outcome.value, set(world.states(outcome).values())) == (None, {"skipped"})


def test_a_pipeline_inside_another_has_its_steps_under_its_name(world: World) -> None:
    project = tr.Project("q", owner="me", goal="test")

    @project.pipeline
    def part(n: int) -> int:
        return total(square.map(numbers(n)))  # type: ignore[no-any-return]

    def whole(n: int = 3) -> Any:
        return {"a": part(n), "b": part(n + 1)}

    outcome = world.run(whole)
    assert outcome.value == {"a": 5, "b": 14}
    assert [n for n in world.states(outcome) if "[" not in n] == [
        "part/numbers", "part/square", "part/total", "part-2/numbers", "part-2/square", "part-2/total",
    ]  # fmt: skip


def test_a_pipeline_that_calls_itself_is_refused() -> None:
    project = tr.Project("q", owner="me", goal="test")

    @project.pipeline
    def first(n: int = 1) -> Any:
        return second(n)

    @project.pipeline
    def second(n: int = 1) -> Any:
        return first(n)

    with pytest.raises(ProjectError, match="Pipeline 'first' calls itself: first -> second -> first"):
        declared.steps_of(first, {"n": 1})


def test_a_cycle_names_its_ends() -> None:
    def circle() -> Any:
        a = text(1)
        b = shout(a)
        a.after(b)
        return b

    with pytest.raises(ProjectError, match="The steps form a cycle: text -> shout -> text") as caught:
        steps_of_(circle)
    assert caught.value.hint == "'shout' waits for 'text', which waits for 'shout'. Take one of the two away."


@pytest.mark.parametrize(
    ("wrong_", "said"),
    [
        (lambda: shout(total(numbers(3))), "'total' returns int, but 'shout' takes str as 'word'"),
        (lambda: total(text(3)), r"'text' returns str, but 'total' takes list\[int\] as 'values'"),
        (lambda: height(numbers(3)), r"'numbers' returns list\[int\], but 'height' takes DataFrame as 'frame'"),
        (lambda: shout(5), "'shout' is given 5 as 'word', but takes str"),
        (lambda: shout(), "Step 'shout' is called wrongly: missing a required argument: 'word'"),
        (lambda: shout("a", "b"), "Step 'shout' is called wrongly: too many positional arguments"),
        (lambda: square(numbers(3)[0], plus=halves(numbers(4))[0]), r"'halves' returns list\[int\], but 'square' takes int as 'plus'"),
        (lambda: [1 for _ in numbers(3)], "How many parts the result of 'numbers' has is not known"),
        (lambda: text(1) and 3, "The result of 'text' is not known while the pipeline is put together"),
        (lambda: table(3).height, "so it has no 'height'"),
        (lambda: 3, "calls no step"),
    ],
)
def test_what_does_not_fit_is_refused_when_the_graph_is_built(wrong_: Callable[[], Any], said: str) -> None:
    with pytest.raises(ProjectError, match=said):
        steps_of_(wrong_)


def test_whole_numbers_are_good_where_numbers_are_asked_for_and_parts_can_be_taken() -> None:
    @tr.step
    def mean(values: list[float], weight: float = 1) -> float:
        return sum(values) * weight

    def fits() -> Any:
        a, b = halves(numbers(4))
        return mean(a, weight=b[0]), mean([square(1), 2.5])

    assert [s.name for s in steps_of_(fits)] == ["numbers", "halves", "mean", "square", "mean-2"]


def test_parts_of_results_and_lists_of_results_are_put_together(world: World) -> None:
    def mixed() -> Any:
        a, b = halves(numbers(4))
        return total([square(2), a[1], b[0]])

    assert world.run(mixed).value == 7


def test_a_result_of_another_type_than_it_says_is_a_failure_with_both_types(world: World) -> None:
    with pytest.raises(ProjectError, match="It says it returns DataFrame, but returned dict") as caught:
        world.run(lambda: height(wrong(3)))
    assert str(caught.value.where).startswith("step 'wrong'")


def test_a_transient_error_is_tried_again_and_a_terminal_one_is_not(world: World) -> None:
    FAILS[:] = [tr.Transient("busy"), ConnectionResetError("gone")]
    outcome = world.run(lambda: shaky(1))
    assert (outcome.value, CALLS) == (1, ["shaky"] * 3)
    (step,) = steps_of(outcome.run.id, world.ledger)
    assert (step["attempt"], [f["error"] for f in step["failures"]]) == (3, ["busy", "ConnectionResetError: gone"])
    assert [p.state for p in world.seen] == ["planned", "started", "retry", "started", "retry", "started", "done"]

    for error in (tr.Terminal("no"), ValueError("no")):
        FAILS[:] = [error]
        with pytest.raises((tr.Terminal, StepFailed), match="no"):
            world.run(lambda: shaky(2))
        assert CALLS == ["shaky"]

    FAILS[:] = [tr.Transient("busy")] * 3
    with pytest.raises(tr.Transient, match="busy"):
        world.run(lambda: shaky(3))
    assert CALLS == ["shaky"] * 3


def test_an_approval_waits_without_a_process_and_the_rest_goes_on(world: World) -> None:
    def publish() -> Any:
        top = total(numbers(3))
        ok = tr.approval("Publish?", shows=top)
        aside = square(5)
        return {"said": text(top).after(ok), "by": ok["by"], "aside": aside}

    outcome = world.run(publish)
    assert (outcome.run["status"], CALLS) == ("waiting", [5, "total"])
    asked = world.ledger.get(APPROVAL, f"{outcome.run.id}/approval")
    assert asked is not None
    assert (asked["status"], asked["question"]) == ("waiting", "Publish?")
    still = world.resume(publish, outcome.run.id)
    assert (still.run["status"], CALLS) == ("waiting", [])

    world.ledger.put(APPROVAL, asked.id, {**asked.body, "status": "approved", "by": "ada", "reason": "fine"})
    done = world.resume(publish, outcome.run.id)
    assert (done.run["status"], done.value) == ("done", {"said": "3", "by": "ada", "aside": 25})
    assert (CALLS, done.run["epoch"]) == ([], 3)
    with pytest.raises(Conflict, match="is done: there is nothing to go on with"):
        world.resume(publish, outcome.run.id)


def test_a_rejected_approval_ends_the_run(world: World) -> None:
    def publish() -> Any:
        return text(1).after(tr.approval("Publish?"))

    outcome = world.run(publish)
    asked = world.ledger.get(APPROVAL, f"{outcome.run.id}/approval")
    assert asked is not None
    world.ledger.put(APPROVAL, asked.id, {**asked.body, "status": "rejected", "by": "ada", "reason": "too early"})
    ended = world.resume(publish, outcome.run.id)
    assert (ended.run["status"], world.states(ended)) == ("rejected", {"approval": "rejected"})


def test_a_driver_whose_run_was_taken_over_is_refused(world: World) -> None:
    """It was paused in the middle of a step; meanwhile its run was marked and another process finished it."""
    taken: list[Outcome] = []

    @tr.step(cached=True)
    def paused(n: int) -> int:
        if not taken:
            (run,) = world.ledger.find("run")
            world.ledger.put("run", run.id, {**run.body, "status": "interrupted"})
            taken.append(Outcome(run, {}, world.blobs))
            made = pipeline(whole)
            steps, template = declared.steps_of(made, {})
            taken[0] = world.runner().resume(run.id, steps, template=template)
        return n + len(taken)

    def whole() -> Any:
        return square(paused(4))

    with pytest.raises(Fenced, match="Another process drives run"):
        world.run(whole)
    (run,) = world.ledger.find("run")
    assert (run["status"], run["epoch"], taken[0].value) == ("done", 2, 25)
    assert [(s["step"], s["status"]) for s in steps_of(run.id, world.ledger)] == [("paused", "done"), ("square", "done")]
    assert mark_interrupted(world.ledger, world.clock) == []


@pytest.mark.parametrize(
    ("hint", "given", "read"),
    [
        (int, "3", 3), (float, "3", 3.0), (bool, "yes", None), (bool, "true", True), (str, "3", "3"), (list[int], "1,2", [1, 2]), (list[str], "a, b", ["a", "b"]),
        (list[int], "[1,2]", [1, 2]), (dict[str, int], '{"a": 1}', {"a": 1}), (date, "2026-02-01", date(2026, 2, 1)), (Path, "x/y.csv", Path("x/y.csv")),
        (int, "3.5", None), (int, "", None), (date, "2026-02-31", None), (list[int], "1,x", None), (int | None, "null", None), (list[int], "7", [7]),
    ],
)  # fmt: skip
def test_parameters_are_read_as_their_annotations_say(hint: Any, given: str, read: Any) -> None:
    def one(x):  # type: ignore[no-untyped-def]
        return text(1)

    one.__annotations__ = {"x": hint}
    if read is None and hint != (int | None):
        with pytest.raises(UsageError, match="Parameter 'x' of 'one'"):
            declared.values(pipeline(one), {"x": given})
    else:
        assert declared.values(pipeline(one), {"x": given}) == {"x": read}


def test_parameters_that_are_missing_or_unknown_are_named() -> None:
    def one(n: int, m: int = 3) -> Any:
        return numbers(n)

    with pytest.raises(UsageError, match="Pipeline 'one' needs 'n'"):
        declared.values(pipeline(one), {})
    with pytest.raises(UsageError, match="Pipeline 'one' has no parameter 'k'"):
        declared.values(pipeline(one), {"k": 1})


def test_options_that_cannot_be_are_refused() -> None:
    for wrong_ in ({"retries": -1}, {"retries": 1.5}, {"timeout": "0s"}, {"timeout": "soon"}, {"memory": "much"}, {"reads": "minds"}, {"colour": "red"}):
        with pytest.raises(ProjectError):
            tr.step(**wrong_)  # type: ignore[arg-type]
    assert tr.step(memory="2GB", reads=("clock", "network"))(len_).options.memory == 2_000_000_000


def len_(values: list[int]) -> int:
    return len(values)
