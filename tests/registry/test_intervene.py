"""Back, stop, go on: at any moment, by anyone with a reason, and the last intent wins."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.clock import ReplayClock
from treadle.core.errors import Conflict, NotFound, Refused, TreadleError, UsageError
from treadle.ports.ledger import Ledger
from treadle.registry import intervene, promote, versions

CLOCK = ReplayClock(datetime(2013, 1, 1, tzinfo=UTC))


class World:
    """A model with three approved versions and one refused (number 4)."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger: Ledger = ledger or MemoryLedger()
        for i, status in enumerate(("approved", "approved", "approved", "refused")):
            said = {"key": f"k{i}", "status": status, "verdict": {"reasons": ["no evidence of signal"] if status == "refused" else []}}
            versions.register("late", said, [], self.ledger)

    def first(self, number: int) -> None:
        promote.first("late", number, self.ledger, CLOCK, actor="ada")

    def challenge(self, number: int) -> None:
        promote.challenge("late", number, self.ledger, CLOCK)

    def promote(self) -> None:
        promote.promote("late", {"outcomes": 400}, self.ledger, CLOCK)

    def now(self) -> tuple[Any, Any, Any]:
        record = promote.required("late", self.ledger)
        return record["champion"], record["challenger"], record["stage"]

    def statuses(self) -> list[str]:
        return [r["status"] for r in versions.all_versions("late", self.ledger)]


def back(world: World, reason: str = "it is wrong", **options: object) -> None:
    intervene.rollback("late", reason, world.ledger, CLOCK, actor="ann", **options)  # type: ignore[arg-type]


@pytest.fixture
def world() -> World:
    found = World()
    found.first(1)
    return found


def test_a_new_champion_makes_room_for_the_one_before_and_is_not_deployed_again(world: World) -> None:
    world.challenge(2)
    world.promote()
    back(world)
    assert (world.now(), world.statuses()[:2]) == ((1, None, "none"), ["champion", "rejected"])
    event = [e for e in world.ledger.events_since() if e.kind == "deployment.rolled_back"][-1]
    assert (event.actor, event.body["from"], event.body["to"], event.body["reason"]) == ("ann", 2, 1, "it is wrong")
    with pytest.raises(Refused, match="There is no version of 'late' to go back to: 1 is the first"):
        back(world)


@pytest.mark.parametrize("stage", ["shadow", "canary", "ab"])
def test_a_challenger_goes_before_the_champion_does(world: World, stage: str) -> None:
    world.challenge(2)
    if stage != "shadow":
        promote.canary("late", 0.5, {}, world.ledger, CLOCK, stage=stage)
    back(world)
    assert (world.now(), world.statuses()[:2]) == ((1, None, "none"), ["champion", "rejected"])


def test_from_the_third_one_can_go_back_to_the_first(world: World) -> None:
    for number in (2, 3):
        world.challenge(number)
        world.promote()
    back(world, to=1)
    assert (world.now()[0], promote.deployment("late", world.ledger)["previous"]) == (1, [])  # type: ignore[index]
    with pytest.raises(Refused, match="Version 1 of 'late' answers already"):
        back(world, to=1)
    with pytest.raises(Refused, match="refused by its gates"):
        back(world, to=4)


def test_a_version_that_was_thrown_out_is_passed_over_on_the_way_back(world: World) -> None:
    world.challenge(2)
    world.promote()
    world.challenge(3)
    world.promote()
    back(world)  # 3 goes, 2 answers
    back(world)  # 2 goes, 1 answers
    assert (world.now()[0], world.statuses()[:3]) == (1, ["champion", "rejected", "rejected"])


def test_what_is_to_go_and_no_longer_answers_changes_nothing(world: World) -> None:
    world.challenge(2)
    world.promote()
    back(world, of=2)
    seen = promote.deployment("late", world.ledger)
    back(world, of=2)
    assert promote.deployment("late", world.ledger) == seen


def test_on_trial_the_version_before_stands_beside_until_it_is_over(world: World) -> None:
    world.challenge(2)
    promote.promote("late", {}, world.ledger, CLOCK, trial=True)
    record = promote.required("late", world.ledger)
    assert (record["champion"], record["beside"], record["stage"]) == (2, 1, "trial")
    promote.settle("late", {"outcomes": 300}, world.ledger)
    record = promote.required("late", world.ledger)
    assert (record["champion"], record["beside"], record["stage"]) == (2, None, "none")
    with pytest.raises(Conflict, match="No trial"):
        promote.settle("late", {}, world.ledger)


def test_stopped_stays_stopped_whatever_is_deployed_until_somebody_says_otherwise(world: World) -> None:
    intervene.stop("late", "wrong prices", world.ledger, CLOCK, actor="ann")
    intervene.stop("late", "again", world.ledger, CLOCK, actor="bob")
    world.challenge(2)
    world.promote()
    stopped = promote.required("late", world.ledger)["stopped"]
    assert (stopped["by"], stopped["reason"]) == ("ann", "wrong prices")
    intervene.resume("late", "prices are right", world.ledger, CLOCK, actor="cid")
    intervene.resume("late", "prices are right", world.ledger, CLOCK, actor="cid")
    record = promote.required("late", world.ledger)
    assert (record["stopped"], record["champion"]) == (None, 2)
    kinds = [(e.kind, e.actor) for e in world.ledger.events_since() if e.kind in ("deployment.stopped", "deployment.resumed")]
    assert kinds == [("deployment.stopped", "ann"), ("deployment.resumed", "cid")]


@pytest.mark.parametrize("verb", [intervene.rollback, intervene.stop, intervene.resume])
def test_nothing_happens_without_a_reason(world: World, verb: Callable[..., object]) -> None:
    seen = promote.deployment("late", world.ledger)
    with pytest.raises(UsageError, match="needs a reason"):
        verb("late", "  ", world.ledger, CLOCK, actor="ann")
    assert promote.deployment("late", world.ledger) == seen


def test_a_model_that_was_never_deployed_has_nothing_to_stop() -> None:
    with pytest.raises(NotFound, match="is not deployed"):
        intervene.stop("late", "x", World().ledger, CLOCK, actor="ann")


def test_a_rollback_amid_promotions_ends_in_one_state_that_agrees_with_the_versions(tmp_path: Path) -> None:
    """500 interleavings of a rollback, a kill switch and a rollout, in threads: 50 on a database, the others in memory (F36)."""
    chance = random.Random(36)
    for turn in range(10):
        world = World(SqliteLedger(tmp_path / "ledger.db") if turn == 0 else MemoryLedger())
        world.first(1)
        for _ in range(50):
            said: list[str] = []

            def attempt(name: str, does: Callable[[], object], delay: float, said: list[str] = said) -> None:
                threading.Event().wait(delay)
                try:
                    does()
                    said.append(name)
                except TreadleError:
                    pass

            def deploy(world: World = world) -> None:
                now = world.now()
                if now[1] is None:
                    world.challenge(next(n for n in (1, 2, 3) if n != now[0] and world.statuses()[n - 1] != "rejected"))
                world.promote()

            threads = [
                threading.Thread(target=attempt, args=(name, does, chance.random() * 0.002))
                for name, does in (
                    ("deploy", deploy), ("back", lambda w=world: back(w)),
                    ("stop", lambda w=world: intervene.stop("late", "x", w.ledger, CLOCK, actor="ann")),
                )
            ]  # fmt: skip
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            record = promote.required("late", world.ledger)
            assert record["stopped"]
            assert "stop" in said
            statuses = world.statuses()
            assert statuses[record["champion"] - 1] == "champion"
            assert statuses.count("champion") == 1
            assert statuses.count("challenger") == (record["challenger"] is not None)
            intervene.resume("late", "next", world.ledger, CLOCK, actor="ann")
            for number in (1, 2, 3):  # thrown out for good would end the game
                if world.statuses()[number - 1] == "rejected":
                    version = world.ledger.get("model_version", f"late.v{number}")
                    assert version is not None
                    world.ledger.put("model_version", version.id, {**version.body, "status": "approved"})
