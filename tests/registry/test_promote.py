"""Which version answers: one record, changed one step at a time, and never by somebody who saw an older state."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.clock import ReplayClock
from treadle.core.errors import Conflict, NotFound, Refused, TreadleError
from treadle.core.records import Record, Ref
from treadle.ports.ledger import Ledger
from treadle.registry import promote, versions

CLOCK = ReplayClock(datetime(2013, 1, 1, tzinfo=UTC))


class World:
    """A model with three approved versions and one refused (number 4)."""

    def __init__(self, ledger: Ledger | None = None) -> None:
        self.ledger: Ledger = ledger or MemoryLedger()
        for i, status in enumerate(("approved", "approved", "approved", "refused")):
            said = {"key": f"k{i}", "status": status, "verdict": {"reasons": ["no evidence of signal"] if status == "refused" else []}}
            versions.register("late", said, [], self.ledger)

    def first(self, number: int) -> Record:
        return promote.first("late", number, self.ledger, CLOCK, actor="ada")

    def challenge(self, number: int) -> Record:
        return promote.challenge("late", number, self.ledger, CLOCK)

    def canary(self, share: float = 0.1) -> Record:
        return promote.canary("late", share, {"outcomes": 200}, self.ledger, CLOCK)

    def promote(self) -> Record:
        return promote.promote("late", {"outcomes": 400}, self.ledger, CLOCK)

    def reject(self) -> Record:
        return promote.reject("late", "it was worse", {"p": 0.01}, self.ledger, CLOCK)

    def now(self) -> tuple[Any, Any, Any, Any]:
        record = promote.deployment("late", self.ledger)
        assert record is not None
        return record["champion"], record["challenger"], record["stage"], record["share"]

    def statuses(self) -> list[str]:
        return [r["status"] for r in versions.all_versions("late", self.ledger)]


@pytest.fixture
def world() -> World:
    return World()


def test_a_challenger_goes_from_shadow_to_canary_to_champion(world: World) -> None:
    assert promote.deployment("late", world.ledger) is None
    world.first(1)
    assert (world.now(), world.statuses()[0]) == ((1, None, "none", 0.0), "champion")
    world.challenge(2)
    assert (world.now(), world.statuses()[1]) == ((1, 2, "shadow", 0.0), "challenger")
    world.canary(0.1)
    assert world.now() == (1, 2, "canary", 0.1)
    world.canary(0.5)
    assert world.now() == (1, 2, "canary", 0.5)
    record = world.promote()
    assert (world.now(), world.statuses()) == ((2, None, "none", 0.0), ["retired", "champion", "approved", "refused"])
    assert record["previous"] == [1]
    kinds = [e.kind for e in world.ledger.events_since() if e.kind.startswith("deployment.")]
    assert kinds == [f"deployment.{k}" for k in ("started", "shadow", "canary", "canary", "promoted")]
    assert [link.target.id for link in world.ledger.links(Ref("deployment", "late"), relation="answers_with")] == ["late.v1", "late.v2"]


def test_a_rejected_challenger_leaves_the_champion_alone_and_the_next_may_come(world: World) -> None:
    world.first(1)
    world.challenge(2)
    world.canary()
    world.reject()
    assert (world.now(), world.statuses()) == ((1, None, "none", 0.0), ["champion", "rejected", "approved", "refused"])
    world.challenge(3)
    assert world.now() == (1, 3, "shadow", 0.0)
    event = next(e for e in world.ledger.events_since() if e.kind == "deployment.rejected")
    assert (event.body["reason"], event.body["challenger"]) == ("it was worse", 2)


def test_a_refused_version_comes_into_production_by_no_door(world: World) -> None:
    with pytest.raises(Refused, match="Version 4 of 'late' was refused by its gates: no evidence of signal") as caught:
        world.first(4)
    assert caught.value.hint
    assert promote.deployment("late", world.ledger) is None
    world.first(1)
    with pytest.raises(Refused):
        world.challenge(4)
    assert (world.now(), world.statuses()[3]) == ((1, None, "none", 0.0), "refused")


def test_each_step_asks_for_the_one_before(world: World) -> None:
    for step in (lambda: world.challenge(1), world.canary, world.promote, world.reject):
        with pytest.raises(NotFound, match="is not deployed"):
            step()
    world.first(1)
    with pytest.raises(Conflict):
        world.first(2)
    for step in (world.canary, world.promote, world.reject):
        with pytest.raises(Conflict, match="has no challenger"):
            step()
    world.challenge(2)
    with pytest.raises(Conflict, match="Version 2 of 'late' is already challenging"):
        world.challenge(3)
    for number in (9, 0):
        with pytest.raises(NotFound, match=f"no version {number}"):
            World().first(number)
    assert world.now() == (1, 2, "shadow", 0.0)


def test_a_champion_does_not_challenge_itself(world: World) -> None:
    world.first(1)
    with pytest.raises(Conflict, match="Version 1 of 'late' is the champion"):
        world.challenge(1)
    assert (world.now(), world.statuses()[0]) == ((1, None, "none", 0.0), "champion")


class Late(MemoryLedger):
    """A ledger in which somebody else changes the deployment just after it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], object] | None = None

    def get(self, kind: str, id: str) -> Record | None:
        found = super().get(kind, id)
        if kind == versions.DEPLOYMENT and self.meanwhile is not None:
            self.meanwhile, change = None, self.meanwhile
            change()
        return found


@pytest.mark.parametrize("mine", ["canary", "promote", "reject"])
@pytest.mark.parametrize("theirs", ["canary", "promote", "reject"])
def test_who_saw_an_older_state_changes_nothing(mine: str, theirs: str) -> None:
    ledger = Late()
    world = World(ledger)
    world.first(1)
    world.challenge(2)
    ledger.meanwhile = getattr(world, theirs)
    events = len(ledger.events_since())
    with pytest.raises(Conflict):
        getattr(world, mine)()
    expected = World()
    expected.first(1)
    expected.challenge(2)
    getattr(expected, theirs)()
    assert (world.now(), world.statuses()) == (expected.now(), expected.statuses())
    assert len(ledger.events_since()) == events + 1  # theirs alone


def test_of_many_that_decide_at_once_one_is_heard(tmp_path: Path) -> None:
    world = World(SqliteLedger(tmp_path / "ledger.db"))
    world.first(1)
    world.challenge(2)
    gate, said = threading.Barrier(6), []

    def decide(i: int) -> None:
        mine = SqliteLedger(tmp_path / "ledger.db")
        gate.wait()
        try:
            if i % 2:
                promote.promote("late", {}, mine, CLOCK)
            else:
                promote.reject("late", "no", {}, mine, CLOCK)
            said.append("done")
        except Conflict:
            said.append("conflict")

    threads = [threading.Thread(target=decide, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["conflict"] * 5 + ["done"]
    champion = world.now()[0]
    assert world.statuses()[:2] == (["retired", "champion"] if champion == 2 else ["champion", "rejected"])


class Deployments(RuleBasedStateMachine):
    """Any order of commands: what is refused changes nothing, and the record and the statuses never disagree."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(command=st.sampled_from(["canary", "promote", "reject"]))
    def decide(self, command: str) -> None:
        self.attempt(getattr(self.world, command))

    @rule(command=st.sampled_from(["first", "challenge"]), number=st.integers(0, 5))
    def bring(self, command: str, number: int) -> None:
        self.attempt(lambda: getattr(self.world, command)(number))

    def attempt(self, command: Callable[[], object]) -> None:
        before = promote.deployment("late", self.world.ledger), self.world.statuses(), len(self.world.ledger.events_since())
        try:
            command()
        except TreadleError:
            assert (promote.deployment("late", self.world.ledger), self.world.statuses(), len(self.world.ledger.events_since())) == before

    @invariant()
    def record_and_statuses_agree(self) -> None:
        statuses = dict(enumerate(self.world.statuses(), 1))
        record = promote.deployment("late", self.world.ledger)
        champion, challenger = (record["champion"], record["challenger"]) if record else (None, None)
        assert [n for n, s in statuses.items() if s == "champion"] == ([champion] if record else [])
        assert [n for n, s in statuses.items() if s == "challenger"] == ([challenger] if challenger else [])
        assert statuses[4] == "refused"
        assert record is None or (record["stage"] == "none") == (challenger is None)
        assert isinstance(self.world.ledger, MemoryLedger)
        self.world.ledger.verify_chain()


def test_in_any_order_of_commands_the_record_and_the_statuses_agree() -> None:
    run_state_machine_as_test(Deployments, settings=settings(max_examples=40, stateful_step_count=20, deadline=None))
