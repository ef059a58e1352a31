"""Owners: a hand-over is an offer, and changes who owns a thing when its receiver says yes."""

from __future__ import annotations

import pytest

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock
from treadle.core.errors import Conflict, Forbidden, NotFound, Refused, UsageError
from treadle.core.records import Ref
from treadle.review import notes, notices, owners

MODEL = Ref("model", "late")


def test_an_offer_changes_nothing_until_its_receiver_accepts(ledger: MemoryLedger, clock: ReplayClock) -> None:
    assert owners.owner_of(MODEL, ledger, "operations desk") == "operations desk"
    owners.hand_over(MODEL, "@Bob", ledger, clock, by="ann", text="I move on", declared="operations desk")
    assert owners.owner_of(MODEL, ledger, "operations desk") == "operations desk"
    assert [(n["what"], n["text"]) for n in notices.notices("bob", ledger)] == [("handover", "ann offers you: I move on")]
    assert [n["kind"] for n in notes.open_notes(ledger, to=["bob"])] == ["handover"]
    assert [owners.about(o) for o in owners.offers(ledger, to=["bob"])] == [MODEL]
    owners.accept(MODEL, ledger, clock, by="bob")
    assert owners.owner_of(MODEL, ledger, "operations desk") == "bob"
    assert (owners.offers(ledger), notes.open_notes(ledger)) == ([], [])
    [told] = owners.history(MODEL, ledger)
    assert (told["from"], told["to"], told["by"], told["answer"]) == ("operations desk", "bob", "ann", "accepted")
    assert [n["text"] for n in notices.notices("ann", ledger)] == ["bob accepted model late"]
    assert [(e.kind, e.actor) for e in ledger.events_since(kinds=["owner."])] == [("owner.offered", "ann"), ("owner.accepted", "bob")]


def test_only_who_owns_a_thing_or_an_administrator_offers_it_and_only_the_receiver_takes_it(ledger: MemoryLedger, clock: ReplayClock) -> None:
    owners.hand_over(MODEL, "data-team", ledger, clock, by="ann")
    with pytest.raises(Forbidden, match="offered to data-team, not to eve"):
        owners.accept(MODEL, ledger, clock, by="eve")
    with pytest.raises(Conflict, match="ann offered model/late to data-team already"):
        owners.hand_over(MODEL, "eve", ledger, clock, by="eve")
    owners.accept(MODEL, ledger, clock, by="bob", groups=["data-team"])
    with pytest.raises(Forbidden, match="data-team's to hand over, not eve's"):
        owners.hand_over(MODEL, "eve", ledger, clock, by="eve")
    with pytest.raises(Refused, match="owns model/late already"):
        owners.hand_over(MODEL, "Data-Team", ledger, clock, by="bob", groups=["data-team"])
    owners.hand_over(MODEL, "eve", ledger, clock, by="root", anyway=True)
    owners.decline(MODEL, ledger, clock, by="eve", text="no time")
    assert owners.owner_of(MODEL, ledger) == "data-team"
    assert notices.notices("bob", ledger, groups=["data-team"])[0]["text"] == "eve declined model late: no time"


def test_an_offer_is_taken_back_by_who_made_it_and_then_nobody_can_accept(ledger: MemoryLedger, clock: ReplayClock) -> None:
    owners.hand_over(MODEL, "bob", ledger, clock, by="ann")
    [note] = notes.open_notes(ledger)
    with pytest.raises(Conflict, match="taken back where it was offered"):
        notes.withdraw(note.id, ledger, clock, by="ann")
    with pytest.raises(UsageError, match="not settled"):
        notes.settle(note.id, ledger, clock, by="ann", how="never mind")
    with pytest.raises(Forbidden):
        owners.take_back(MODEL, ledger, clock, by="bob")
    owners.take_back(MODEL, ledger, clock, by="ann")
    with pytest.raises(Conflict, match="offered to nobody"):
        owners.accept(MODEL, ledger, clock, by="bob")
    assert (notices.notices("bob", ledger), notes.open_notes(ledger), owners.owner_of(MODEL, ledger, "x")) == ([], [], "x")


def test_of_two_who_answer_at_once_one_wins_and_the_other_is_told(ledger: MemoryLedger, clock: ReplayClock) -> None:
    offered = owners.hand_over(MODEL, "data-team", ledger, clock, by="ann", expect=0)
    owners.decline(MODEL, ledger, clock, by="bob", groups=["data-team"], expect=offered.version)
    with pytest.raises(Conflict, match="offered to nobody"):
        owners.accept(MODEL, ledger, clock, by="carl", groups=["data-team"], expect=offered.version)
    with pytest.raises(Conflict, match="changed who owns model/late meanwhile"):
        owners.hand_over(MODEL, "carl", ledger, clock, by="ann", expect=offered.version)
    assert len(ledger.find("note")) == 1  # the note of the one that lost went with it


def test_what_is_not_there_is_offered_to_nobody(ledger: MemoryLedger, clock: ReplayClock) -> None:
    with pytest.raises(NotFound):
        owners.hand_over(Ref("run", "run-2"), "bob", ledger, clock, by="ann")
    with pytest.raises(UsageError, match="no name"):
        owners.hand_over(MODEL, "two words", ledger, clock, by="ann")
