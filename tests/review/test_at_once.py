"""Several people at once, on a real ledger: one wins, the others are told, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.clock import SystemClock
from treadle.core.errors import Conflict, TreadleError
from treadle.core.records import Ref
from treadle.registry import conditions
from treadle.review import approvals, notes, notices, owners

MODEL, CLOCK, PEOPLE = Ref("model", "late"), SystemClock(), [f"p{n}" for n in range(6)]


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(tmp_path / "l.db")


def at_once(do: Callable[[str], object]) -> list[object]:
    """What each of the people got: a result, or the error."""

    def one(person: str) -> object:
        try:
            return do(person)
        except TreadleError as error:
            return error

    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        return list(pool.map(one, PEOPLE))


def test_of_many_who_settle_or_offer_or_accept_at_once_one_does(ledger: SqliteLedger) -> None:
    asked = notes.write(MODEL, "drop it", ledger, CLOCK, by="ann", kind="change")
    offered = [
        at_once(lambda who: notes.settle(asked.id, ledger, CLOCK, by=who, how=f"by {who}")),
        at_once(lambda who: owners.hand_over(MODEL, "team", ledger, CLOCK, by=who)),
        at_once(lambda who: owners.accept(MODEL, ledger, CLOCK, by=who, groups=["team"])),
    ]
    for got in offered:
        assert sorted(isinstance(one, Conflict) for one in got) == [False, *[True] * 5]
    assert len([n for n in notes.notes_of(MODEL, ledger) if n["kind"] == "handover"]) == 1
    assert owners.owner_of(MODEL, ledger) == "team"
    ledger.close()


def test_of_many_who_answer_approve_and_read_at_once_nothing_is_lost(ledger: SqliteLedger) -> None:
    asked = notes.write(MODEL, "why? @team", ledger, CLOCK, by="ann", kind="question")
    assert not any(isinstance(got, TreadleError) for got in at_once(lambda who: notes.write(MODEL, who, ledger, CLOCK, by=who, answers=asked.id)))
    assert (len(notes.notes_of(MODEL, ledger)), notes.get(asked.id, ledger)["status"]) == (7, "settled")

    [told] = notices.notices("p0", ledger, groups=["team"])
    at_once(lambda who: notices.read([told.id], who, ledger, CLOCK, groups=["team"]))
    assert [notices.unread(who, ledger, groups=["team"]) for who in PEOPLE] == [0] * 6

    gate = {"gate": "approved", "passed": True, "evidence": {"people": 6}, "waits": True}
    version = ledger.put("model_version", "late.v1", {"model": "late", "status": "approved", "by": "mia", "verdict": {"findings": [gate]}})
    approvals.ask(version, ledger, CLOCK, by="ann")
    got = at_once(lambda who: approvals.answer(version, ledger, CLOCK, by=who, approve=True))
    assert not any(isinstance(one, TreadleError) for one in got)
    assert conditions.waits(version, ledger, CLOCK.now()) == 0
    assert approvals.request_of(version, ledger)["status"] == "answered"  # type: ignore[index]
    ledger.close()
