"""Notes: what people write about a thing, to whom, and until when it is open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock
from treadle.core.errors import Conflict, Forbidden, NotFound, UsageError
from treadle.core.records import Ref
from treadle.review import notes, notices

RUN, MODEL = Ref("run", "run-1"), Ref("model", "late")


def test_a_note_is_found_with_its_thing_oldest_first_and_the_log_says_who_wrote_but_not_what(ledger: MemoryLedger, clock: ReplayClock) -> None:
    first = notes.write(RUN, "  it looks\r\nodd  ", ledger, clock, by="ann")
    second = notes.write(RUN, "why?", ledger, clock, by="bob", kind="question", to=("Ann", "@data-team"), answers=first.id)
    notes.write(MODEL, "elsewhere", ledger, clock, by="ann")
    assert notes.notes_of(RUN, ledger) == [first, second]
    assert (first["text"], first["status"], second["to"], second["status"]) == ("it looks\nodd", "", ["ann", "data-team"], "open")
    assert [note.id for note in notes.open_notes(ledger, to=["DATA-team"])] == [second.id] == [note.id for note in notes.open_notes(ledger)]
    assert notes.open_notes(ledger, to=["zed"]) == []
    told = [e for e in ledger.events_since() if e.kind == "note.written"]
    assert [(e.actor, e.subject) for e in told] == [("ann", RUN), ("bob", RUN), ("ann", MODEL)]
    assert "odd" not in repr(told)


@pytest.mark.parametrize(("ref", "text", "more", "error", "says"), [
    (RUN, " \n\x00 ", {}, UsageError, "says nothing"),
    (RUN, "x" * 10_001, {}, UsageError, "10,001 characters"),
    (RUN, "x", {"kind": "shout"}, UsageError, "kind 'shout'"),
    (RUN, "x", {"kind": "handover"}, UsageError, "kind 'handover'"),
    (RUN, "x", {"to": ["a b"]}, UsageError, "no name"),
    (RUN, "x", {"to": [f"p{n}" for n in range(21)]}, UsageError, "20 persons"),
    (RUN, "x", {"answers": "note-0"}, NotFound, "note-0"),
    (Ref("run", "run-2"), "x", {}, NotFound, "run 'run-2'"),
    (Ref("api_key", "k"), "x", {}, UsageError, "kind 'api_key'"),
    (Ref("model", "a\nb"), "x", {}, UsageError, "names no model"),
])  # fmt: skip
def test_what_is_no_note_is_refused_in_one_sentence(
    ledger: MemoryLedger, clock: ReplayClock, ref: Ref, text: str, more: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        notes.write(ref, text, ledger, clock, by="ann", **more)  # type: ignore[arg-type]
    assert ledger.find("note") == []


def test_one_changes_and_withdraws_ones_own_notes_only(ledger: MemoryLedger, clock: ReplayClock) -> None:
    note = notes.write(RUN, "secret: 12345", ledger, clock, by="ann", to=["bob"])
    for change in (lambda: notes.edit(note.id, "mine now", ledger, clock, by="bob"), lambda: notes.withdraw(note.id, ledger, clock, by="bob")):
        with pytest.raises(Forbidden, match="ann's"):
            change()
    edited = notes.edit(note.id, "better, @carl", ledger, clock, by="ANN")
    assert (edited["text"], edited["earlier"][0]["text"], edited["to"]) == ("better, @carl", "secret: 12345", ["bob", "carl"])
    notes.withdraw(note.id, ledger, clock, by="ann")
    assert notes.notes_of(RUN, ledger)[0]["withdrawn"]
    assert "12345" not in repr([*ledger.find("note"), *ledger.find("notice"), *ledger.find("notice_message")])
    assert (notices.notices("bob", ledger), notices.notices("carl", ledger)) == ([], [])
    with pytest.raises(Conflict, match="withdrawn"):
        notes.edit(note.id, "again", ledger, clock, by="ann")


def test_of_two_who_change_a_note_at_once_one_wins_and_the_other_is_told(ledger: MemoryLedger, clock: ReplayClock) -> None:
    note = notes.write(RUN, "please drop a column", ledger, clock, by="ann", kind="change")
    notes.settle(note.id, ledger, clock, by="bob", how="done in run-1", expect=note.version)
    with pytest.raises(Conflict, match="bob settled"):
        notes.settle(note.id, ledger, clock, by="carl", how="declined", expect=note.version)
    with pytest.raises(Conflict, match="bob settled"):
        notes.edit(note.id, "or two", ledger, clock, by="ann", expect=note.version)
    other = notes.write(RUN, "one", ledger, clock, by="ann")
    notes.edit(other.id, "two", ledger, clock, by="ann", expect=1)
    with pytest.raises(Conflict, match="changed note"):
        notes.edit(other.id, "three", ledger, clock, by="ann", expect=1)


def test_a_request_is_open_until_one_it_addresses_or_its_author_settles_it(ledger: MemoryLedger, clock: ReplayClock) -> None:
    asked = notes.write(RUN, "drop a column", ledger, clock, by="ann", kind="change", to=["data-team"])
    with pytest.raises(Forbidden, match="for data-team, or ann, to settle"):
        notes.settle(asked.id, ledger, clock, by="eve", how="done")
    with pytest.raises(UsageError, match="How was it"):
        notes.settle(asked.id, ledger, clock, by="ann", how=" ")
    settled = notes.settle(asked.id, ledger, clock, by="bob", how="declined: it is needed", groups=["Data-Team"])
    assert (settled["status"], settled["settled"]["by"], notes.open_notes(ledger)) == ("settled", "bob", [])
    assert [n["text"] for n in notices.notices("ann", ledger)] == ["bob settled your change: declined: it is needed"]
    comment = notes.write(RUN, "fine", ledger, clock, by="ann")
    with pytest.raises(UsageError, match="which is not settled"):
        notes.settle(comment.id, ledger, clock, by="ann", how="done")


def test_anothers_answer_settles_a_question_and_ones_own_does_not(ledger: MemoryLedger, clock: ReplayClock) -> None:
    asked = notes.write(RUN, "why?", ledger, clock, by="ann", kind="question")
    notes.write(RUN, "anybody?", ledger, clock, by="ann", answers=asked.id)
    assert [n.id for n in notes.open_notes(ledger)] == [asked.id]
    notes.write(RUN, "the holidays", ledger, clock, by="bob", answers=asked.id)
    assert notes.open_notes(ledger) == []
    assert [(n["what"], n["text"]) for n in notices.notices("ann", ledger)] == [("answer", "bob answered you: the holidays")]
    with pytest.raises(UsageError, match=r"about run/run-1, not about model/late"):
        notes.write(MODEL, "wrong place", ledger, clock, by="bob", answers=asked.id)


@given(st.text(alphabet="@ab.-_ \n,A<>é", max_size=60))
def test_whatever_is_written_the_names_it_addresses_are_names(text: str) -> None:
    for name in notes.mentioned(text):
        assert notes.mentioned(f"see @{name}, please") == [name]
        assert f"@{name}" in text.casefold()
