"""Approval of versions: asked for, answered by another person with the evidence in view, and no longer counted when it has ended."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock
from treadle.core.errors import Conflict, Refused, UsageError
from treadle.core.records import Record
from treadle.registry import conditions, promote
from treadle.review import approvals, notices


def version(ledger: MemoryLedger, *, people: int = 1, **more: Any) -> Record:
    gate = {"gate": "approved", "passed": True, "reason": "waits", "evidence": {"people": people, **more}, "waits": True}
    body = {
        "model": "late", "number": 1, "status": "approved", "by": "mia", "run": "run-1", "evaluation": {"auc": 0.7},
        "package": {"digest": "d"}, "verdict": {"passed": True, "reasons": [], "findings": [gate]},
    }  # fmt: skip
    return ledger.put("model_version", "late.v1", body)


def test_a_version_is_asked_for_answered_and_may_answer_then(ledger: MemoryLedger, clock: ReplayClock) -> None:
    v = version(ledger)
    approvals.ask(v, ledger, clock, by="ann", to=["@Bob"], text="ready for June")
    assert [n["text"] for n in notices.notices("bob", ledger)] == ["ann asks you to approve late.v1: ready for June"]
    assert [w.id for w in approvals.versions_waiting(["late"], ledger, clock.now())] == ["late.v1"]
    said = approvals.answer(v, ledger, clock, by="bob", approve=True, reason="slices are fine", evidence=approvals.evidence_of(v))
    assert (said["answer"], said["evidence"]) == ("approved", approvals.evidence_of(v))
    assert approvals.request_of(v, ledger)["status"] == "answered"  # type: ignore[index]
    assert approvals.versions_waiting(["late"], ledger, clock.now()) == []
    promote.first("late", 1, ledger, clock, actor="ann")
    assert [n["text"] for n in notices.notices("ann", ledger)] == ["bob approved late.v1: slices are fine"]
    assert [e.actor for e in ledger.events_since(kinds=["approval.", "version.approved_by"])] == ["ann", "bob"]


@pytest.mark.parametrize(("who", "why"), [
    ("ann", "ann asked for late.v1 to be approved"), ("ANN ", "ann asked"), ("ａｎｎ", "ann asked"), ("mia", "mia made late.v1"),
    ("Rosa", "rosa started the run"), ("tom", "tom started the run"), ("rob", "rob started the run"),
])  # fmt: skip
def test_nobody_approves_what_is_their_own(ledger: MemoryLedger, clock: ReplayClock, who: str, why: str) -> None:
    ledger.put("run", "run-1", {"cause": {"kind": "person", "by": "tom"}, "by": "rosa", "resumed_by": ["rob"]})
    v = version(ledger)
    approvals.ask(v, ledger, clock, by="ann")
    assert why in approvals.may_not(v, who, ledger)
    with pytest.raises(Refused, match=why):
        approvals.answer(v, ledger, clock, by=who, approve=True)
    assert (approvals.may_not(v, "bob", ledger), conditions.waits(v, ledger, clock.now())) == ("", 1)


def test_who_asked_cannot_approve_after_taking_the_question_back_or_before_asking_it(ledger: MemoryLedger, clock: ReplayClock) -> None:
    v = version(ledger, people=2)
    approvals.ask(v, ledger, clock, by="ann", to=["bob"])
    approvals.withdraw(v, ledger, clock, by="ann")
    assert notices.notices("bob", ledger) == []
    with pytest.raises(Refused, match="ann asked"):
        approvals.answer(v, ledger, clock, by="ann", approve=True)
    approvals.answer(v, ledger, clock, by="bob", approve=True)
    assert conditions.waits(v, ledger, clock.now()) == 1
    approvals.ask(v, ledger, clock, by="bob")
    assert conditions.waits(v, ledger, clock.now()) == 2  # it is bob's own request now
    with pytest.raises(Conflict, match=r"bob asks for late\.v1 to be approved already"):
        approvals.ask(v, ledger, clock, by="carl")
    with pytest.raises(Conflict, match="carl does not ask"):
        approvals.withdraw(v, ledger, clock, by="carl")


def test_one_person_in_two_spellings_is_one_person(ledger: MemoryLedger, clock: ReplayClock) -> None:
    v = version(ledger, people=2)
    approvals.answer(v, ledger, clock, by="Bob", approve=True)
    with pytest.raises(Conflict):
        approvals.answer(v, ledger, clock, by="bob", approve=True)
    ledger.put(conditions.APPROVAL, "late.v1:BOB", {"version": "late.v1", "by": "BOB", "answer": "approved", "reason": "", "at": ""})  # as of old
    assert conditions.waits(v, ledger, clock.now()) == 1


def test_evidence_that_changed_since_it_was_shown_is_not_approved(ledger: MemoryLedger, clock: ReplayClock) -> None:
    v = version(ledger)
    shown = approvals.evidence_of(v)
    changed = ledger.put("model_version", v.id, {**v.body, "evaluation": {"auc": 0.6}})
    with pytest.raises(Conflict, match="not what you looked at"):
        approvals.answer(changed, ledger, clock, by="bob", approve=True, evidence=shown)
    assert ledger.find(conditions.APPROVAL) == []


@pytest.mark.parametrize(("gate", "lasts"), [({"lasts": 86400 * 30}, None), ({}, timedelta(days=30)), ({"lasts": 86400 * 30}, timedelta(days=90))])
def test_an_approval_ends_and_can_be_given_again(ledger: MemoryLedger, clock: ReplayClock, gate: dict[str, Any], lasts: timedelta | None) -> None:
    v = version(ledger, **gate)
    approvals.answer(v, ledger, clock, by="bob", approve=True, lasts=lasts)
    clock.set(clock.now() + timedelta(days=29))
    assert conditions.missing(v, ledger, clock.now()) == []
    clock.set(clock.now() + timedelta(days=1))
    with pytest.raises(Refused, match="waits for one person more"):
        promote.first("late", 1, ledger, clock, actor="ann")
    approvals.answer(v, ledger, clock, by="bob", approve=True)
    promote.first("late", 1, ledger, clock, actor="ann")


def test_what_answers_or_has_answered_stays_approved_so_that_a_rollback_works(ledger: MemoryLedger, clock: ReplayClock) -> None:
    v = version(ledger)
    approvals.answer(v, ledger, clock, by="bob", approve=True, lasts=timedelta(days=1))
    retired = ledger.put("model_version", v.id, {**v.body, "status": "retired"})
    clock.set(clock.now() + timedelta(days=400))
    assert conditions.missing(retired, ledger, clock.now()) == []
    with pytest.raises(UsageError, match="lasts no time"):
        approvals.answer(v, ledger, clock, by="carl", approve=True, lasts=timedelta(0))


def test_a_no_ends_the_request_and_is_told(ledger: MemoryLedger, clock: ReplayClock) -> None:
    v = version(ledger, people=2)
    approvals.ask(v, ledger, clock, by="ann")
    approvals.answer(v, ledger, clock, by="bob", approve=False, reason="weak slices")
    assert approvals.request_of(v, ledger)["status"] == "answered"  # type: ignore[index]
    assert [n["text"] for n in notices.notices("mia", ledger)] == ["bob rejected late.v1: weak slices"]
    with pytest.raises(Conflict, match="waits for no approval"):
        approvals.ask(v, ledger, clock, by="ann")
