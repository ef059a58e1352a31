"""One cause is one alarm; nobody is told twice, nothing is lost, and a person can take it on, put it off and close it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from treadle.assemble import Workspace
from treadle.backends.memory_ledger import MemoryLedger
from treadle.cli.main import cli, main
from treadle.core.clock import ReplayClock
from treadle.core.errors import Conflict, NotFound, Unavailable, UsageError
from treadle.monitoring import alarms, care, telling
from treadle.monitoring.findings import Finding
from treadle.monitoring.suspect import CONCEPT, HARM, PIPELINE, POPULATION, SEASON, suspect
from treadle.ports.notifier import Message

DAY = 86_400_000_000
NOW = datetime(2024, 3, 1, tzinfo=UTC)
TODAY = int(NOW.timestamp() * 1e6)


def finding(kind: Any = "input", day: int = 0, **changes: Any) -> Finding:
    made = Finding(kind, "psi", 0.4, 0.25, TODAY + (day - 7) * DAY, TODAY + day * DAY, (("temp", 0.4),), f"Since training 'temp' moved ({kind}).")
    return replace(made, **changes)


@dataclass
class Receiver:
    """Keeps what it gets, and fails as often as it is told to."""

    failures: int = 0
    repeats: bool = False
    got: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("the receiver is away")
        self.got.append(message)


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def clock() -> ReplayClock:
    return ReplayClock(NOW)


def watched(ledger: MemoryLedger, opened: list[str], day: int) -> None:
    before = ledger.get("watch_state", "m")
    ledger.put("watch_state", "m", {"version": 1, "next": TODAY + day * DAY, "state": {"open": opened}}, expect=before.version if before else 0)


def test_a_storm_of_a_thousand_findings_is_one_alarm_and_one_message(ledger: MemoryLedger, clock: ReplayClock) -> None:
    raised = [alarms.raise_alarm("m", 1, finding(day=i), ledger, clock) for i in range(1_000)]
    assert sum(a is not None for a in raised) == 1
    [alarm] = alarms.open_alarms("m", ledger)
    assert alarm["times"] == 1_000
    assert len(alarm["again"]) == 50
    receiver = Receiver()
    for _ in range(3):
        telling.deliver(ledger, [receiver])
    assert len(receiver.got) == 1


def test_findings_of_one_block_are_told_together(ledger: MemoryLedger, clock: ReplayClock) -> None:
    first, second, later = (alarms.raise_alarm("m", 1, f, ledger, clock) for f in (finding("data_quality"), finding("quality"), finding("volume", 1)))
    assert first is not None
    assert second is not None
    assert later is not None
    assert first["group"] == second["group"] == first.id != later["group"]
    receiver = Receiver()
    telling.deliver(ledger, [receiver])
    assert [m.id for m in receiver.got] == [first.id, later.id]
    assert "Also quality" in receiver.got[0].text
    assert not ledger.find(alarms.KIND, {"told": False})


def test_each_receiver_is_told_once_however_often_another_fails(ledger: MemoryLedger, clock: ReplayClock) -> None:
    alarms.raise_alarm("m", 1, finding(), ledger, clock)
    well, away = Receiver(), Receiver(failures=5)
    assert [telling.deliver(ledger, [well, away]) for _ in range(7)] == [0, 0, 0, 0, 0, 1, 0]
    assert (len(well.got), len(away.got)) == (1, 1)
    assert sum(e.kind == "alarm.not_sent" for e in ledger.events_since(0)) == 5


def test_receivers_that_forget_are_told_again_and_of_the_end(ledger: MemoryLedger, clock: ReplayClock) -> None:
    alarm = alarms.raise_alarm("m", 1, finding(), ledger, clock)
    assert alarm is not None
    forgetful, usual = Receiver(repeats=True), Receiver()
    for _ in range(3):
        telling.deliver(ledger, [forgetful, usual])
    fresh = ledger.get(alarms.KIND, alarm.id)
    assert fresh is not None
    alarms.resolve(fresh, "repaired", ledger, clock)
    for _ in range(3):
        telling.deliver(ledger, [forgetful, usual])
    assert [m.state for m in forgetful.got] == ["firing"] * 3 + ["resolved"]
    assert [m.state for m in usual.got] == ["firing"]


def test_what_went_away_is_resolved_and_what_comes_back_soon_is_the_same_alarm(ledger: MemoryLedger, clock: ReplayClock) -> None:
    alarm = alarms.raise_alarm("m", 1, finding(), ledger, clock)
    assert alarm is not None
    worse = alarms.raise_alarm("m", 1, finding("quality"), ledger, clock)
    assert worse is not None
    watched(ledger, ["input:temp"], 1)
    assert alarms.gone(ledger, clock) == []
    watched(ledger, [], 2)
    assert [a.id for a in alarms.gone(ledger, clock)] == [alarm.id]  # what became worse waits for an answer
    assert alarms.raise_alarm("m", 1, finding(day=4), ledger, clock) is None
    again = ledger.get(alarms.KIND, alarm.id)
    assert again is not None
    assert (again["status"], again["times"]) == ("open", 2)
    watched(ledger, [], 5)
    alarms.gone(ledger, clock)
    assert alarms.raise_alarm("m", 1, finding(day=30), ledger, clock) is not None


def test_an_alarm_asks_three_addressees_and_its_end_answers_them(ledger: MemoryLedger, clock: ReplayClock) -> None:
    alarm = alarms.raise_alarm("m", 1, finding(), ledger, clock)
    assert alarm is not None
    assert {f["for"] for f in ledger.find(alarms.FEEDBACK, {"status": "open"})} == {"experimentation", "data engineering", "scheduler"}
    alarms.resolve(alarm, "repaired", ledger, clock)
    assert {f["answer"] for f in ledger.find(alarms.FEEDBACK, {"status": "closed"})} == {"repaired"}


def test_a_person_takes_it_on_puts_it_off_and_closes_it(ledger: MemoryLedger, clock: ReplayClock) -> None:
    alarm = alarms.raise_alarm("m", 1, finding(), ledger, clock)
    assert alarm is not None
    found = care.find(alarm.id[:12], ledger)
    found = care.acknowledge(found, "ada", "calling", ledger, clock)
    assert found["acknowledged"]["by"] == "ada"
    with pytest.raises(Conflict):  # somebody else read the older one
        care.acknowledge(alarm, "bob", "", ledger, clock)
    found = care.snooze(found, NOW + timedelta(hours=4), "ada", ledger, clock)
    receiver = Receiver()
    telling.deliver(ledger, [receiver], clock)
    assert not receiver.got
    telling.deliver(ledger, [receiver], ReplayClock(NOW + timedelta(hours=5)))
    assert len(receiver.got) == 1
    with pytest.raises(UsageError, match="past"):
        care.snooze(care.find(alarm.id, ledger), NOW, "ada", ledger, clock)
    with pytest.raises(UsageError, match="reason"):
        care.close(care.find(alarm.id, ledger), " ", "ada", ledger, clock)
    closed = care.close(care.find(alarm.id, ledger), "the feed was repaired", "ada", ledger, clock)
    with pytest.raises(UsageError, match="is resolved"):
        care.acknowledge(closed, "ada", "", ledger, clock)
    with pytest.raises(NotFound):
        care.find("alarm-nope", ledger)
    assert [e.kind for e in ledger.events_since(0)] == ["alarm.raised", "alarm.acknowledged", "alarm.snoozed", "alarm.resolved"]


@pytest.mark.parametrize(
    ("kind", "others", "seasonal", "expected"),
    [
        ("data_quality", [], None, PIPELINE), ("quality", ["data_quality"], None, PIPELINE), ("input", [], 0.02, SEASON), ("input", [], 0.6, POPULATION),
        ("input", [], None, POPULATION), ("quality", ["input"], None, HARM), ("quality", [], None, CONCEPT), ("calibration", ["quality"], None, CONCEPT),
    ],
)
def test_the_suspected_kind_follows_from_what_was_measured(kind: str, others: list[str], seasonal: float | None, expected: str) -> None:
    found = suspect(kind, "psi", others, seasonal, ["temp"])
    assert found.kind == expected
    assert found.evidence


def test_the_commands_list_show_and_change_alarms(tiny: Workspace) -> None:
    alarm = alarms.raise_alarm("m", 1, finding(suspected="pipeline bug", evidence=("it jumped",), slices=(("carrier = UA", 0.6),)), tiny.ledger, tiny.clock)
    assert alarm is not None
    there = ["-C", str(tiny.folder), "alarms"]

    def say(*arguments: str) -> str:
        run = CliRunner().invoke(cli, [*there, *arguments], catch_exceptions=False)
        assert run.exit_code == 0, run.output
        return run.output

    assert alarm.id in say("list")
    assert json.loads(say("list", "--json"))[0]["kind"] == "input"
    assert "sources, units" in say("list", "--for", "data engineering")
    shown = say("show", alarm.id)
    assert "because it jumped" in shown
    assert "carrier = UA (60%)" in shown
    say("ack", alarm.id, "--note", "on it")
    say("snooze", alarm.id, "--for", "2h")
    assert "snoozed" in say("list")
    say("resolve", alarm.id, "--because", "repaired")
    assert "no open alarms" in say("list")
    assert "repaired" in say("show", alarm.id)
    assert main([*there, "show", "nope"]) == 5
    assert main([*there, "list", "--for", "nobody"]) == 2
    assert main([*there, "resolve", alarm.id]) == 2
