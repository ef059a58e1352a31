"""Nothing is promoted around a gate: a failed one counts unless it is waived now, and a version waits for those who must approve it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock
from treadle.core.errors import Conflict, Refused, UsageError
from treadle.core.records import Record
from treadle.registry import conditions, promote, versions

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def clock(days: float = 0) -> ReplayClock:
    return ReplayClock(NOW + timedelta(days=days))


def failed(*gates: str) -> dict[str, Any]:
    findings = [{"gate": g, "passed": False, "reason": f"{g} is not met", "evidence": {}, "waits": False} for g in gates]
    return {"verdict": {"passed": False, "reasons": [f["reason"] for f in findings], "findings": findings}, "status": "refused"}


def waiting(people: int = 1) -> dict[str, Any]:
    finding = {"gate": "approved", "passed": True, "reason": "waits", "evidence": {"people": people}, "waits": True}
    return {"verdict": {"passed": True, "reasons": [], "findings": [finding]}}


def waive(ledger: MemoryLedger, gate: str, days: float = 10, **more: Any) -> Record:
    return conditions.waive("late", gate, ledger, clock(), person="bea", reason="agreed with the desk", until=NOW + timedelta(days=days), **more)


def test_a_refused_version_answers_only_while_every_failed_gate_is_waived(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    version = make(**failed("calibrated", "certain"))
    with pytest.raises(Refused, match="calibrated is not met; certain is not met"):
        promote.first("late", 1, ledger, clock(), actor="anna")
    waive(ledger, "calibrated")
    with pytest.raises(Refused, match="refused by its gates: certain is not met"):
        promote.first("late", 1, ledger, clock(), actor="anna")
    waive(ledger, "certain")
    assert conditions.missing(version, ledger, NOW) == []
    promote.first("late", 1, ledger, clock(), actor="anna")
    assert versions.get("late", 1, ledger)["status"] == "champion"


def test_a_waiver_ends(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    version = make(**failed("calibrated"))
    waive(ledger, "calibrated", days=10)
    assert conditions.missing(version, ledger, NOW + timedelta(days=9)) == []
    assert conditions.missing(version, ledger, NOW + timedelta(days=10)) == ["calibrated is not met"]


def test_a_waiver_that_ended_in_canary_stops_the_promotion(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    make()
    promote.first("late", 1, ledger, clock(), actor="anna")
    make(**failed("calibrated"))
    waive(ledger, "calibrated", days=1)
    promote.challenge("late", 2, ledger, clock())
    with pytest.raises(Refused, match="calibrated is not met"):
        promote.promote("late", {}, ledger, clock(2))


def test_a_waiver_of_one_version_is_none_of_another(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    one, two = make(**failed("certain")), make(**failed("certain"))
    waive(ledger, "certain", number=1)
    assert conditions.missing(one, ledger, NOW) == []
    assert conditions.missing(two, ledger, NOW) == ["certain is not met"]


@pytest.mark.parametrize("gate", ["signal", "beats_baseline", "approved"])
def test_without_signal_or_a_second_person_nothing_is_promoted(gate: str, make: Callable[..., Record], ledger: MemoryLedger) -> None:
    version = make(**failed(gate))
    with pytest.raises(Refused, match="cannot be waived"):
        waive(ledger, gate)
    ledger.put(conditions.WAIVER, "by-hand", {"model": "late", "gate": gate, "number": None, "until": "2099-01-01T00:00:00Z", "by": "x", "reason": "y"})
    assert conditions.missing(version, ledger, NOW)  # even when somebody writes one into the record


def test_a_waiver_needs_a_reason_and_an_end_to_come(ledger: MemoryLedger) -> None:
    with pytest.raises(UsageError, match="needs a reason"):
        conditions.waive("late", "certain", ledger, clock(), person="bea", reason="  ", until=NOW + timedelta(days=1))
    with pytest.raises(UsageError, match="which is past"):
        waive(ledger, "certain", days=-1)


def test_who_waived_what_why_and_until_when_is_in_the_audit_log(ledger: MemoryLedger) -> None:
    waive(ledger, "certain")
    (event,) = ledger.events_since(0, kinds=["gate.waived"])
    assert (event.actor, event.body["reason"], event.body["until"][:10]) == ("bea", "agreed with the desk", "2026-03-11")


def test_a_version_that_asks_for_approval_waits_for_another_person(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    version = make(**waiting())
    with pytest.raises(Refused, match="waits for one person more to approve it"):
        promote.first("late", 1, ledger, clock(), actor="anna")
    with pytest.raises(Refused, match="another person must approve it"):
        conditions.approve(version, ledger, clock(), person="anna")
    conditions.approve(version, ledger, clock(), person="bea", reason="looked at the slices")
    promote.first("late", 1, ledger, clock(), actor="anna")


def test_two_people_are_two_people(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    version = make(**waiting(2))
    conditions.approve(version, ledger, clock(), person="bea")
    with pytest.raises(Conflict):
        conditions.approve(version, ledger, clock(), person="bea")
    assert conditions.missing(version, ledger, NOW) == ["it waits for one person more to approve it (treadle approve late.v1)"]
    conditions.approve(version, ledger, clock(), person="carl")
    assert conditions.missing(version, ledger, NOW) == []


def test_a_no_counts_more_than_a_yes(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    version = make(**waiting())
    conditions.approve(version, ledger, clock(), person="bea")
    conditions.approve(version, ledger, clock(), person="carl", reason="the slices are weak", reject=True)
    assert conditions.missing(version, ledger, NOW) == ["carl rejected it: the slices are weak"]


def test_a_version_that_asks_for_nobody_is_approved_by_nobody(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    with pytest.raises(Conflict, match="asks for no approval"):
        conditions.approve(make(), ledger, clock(), person="bea")
