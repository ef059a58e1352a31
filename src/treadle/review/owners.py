"""Owners: who answers for a thing. The project file declares one; a hand-over that its receiver accepted changes who it is, on record.

A hand-over is an offer. Until the receiver says yes the owner stays who they are, and one thing is offered to one receiver at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, Forbidden, Refused, UsageError
from treadle.core.names import folded
from treadle.core.records import Record, Ref
from treadle.ports.ledger import Ledger
from treadle.review import notes, notices, subjects

KIND = "owner"


def owner_of(ref: Ref, ledger: Ledger, declared: str = "") -> str:
    """Who owns a thing: whom it was handed to last, else who is declared."""
    record = record_of(ref, ledger)
    return str(record["owner"]) if record is not None and record["owner"] else declared


def record_of(ref: Ref, ledger: Ledger) -> Record | None:
    """A thing's `owner`, `since`, `offer` ({'to', 'by', 'at', 'text', 'note'} or None) and `history`; None if it was never offered."""
    return ledger.get(KIND, str(ref))


def about(record: Record) -> Ref:
    """The thing that an owner's record is about."""
    return Ref(record["about"]["kind"], record["about"]["id"])


def history(ref: Ref, ledger: Ledger) -> list[dict[str, Any]]:
    """Each hand-over that ended, oldest first: 'from', 'to', 'by', 'at', 'answer' ('accepted', 'declined', 'taken back'), 'answered', 'text'."""
    record = record_of(ref, ledger)
    return list(record["history"]) if record is not None else []


def offers(ledger: Ledger, *, to: Collection[str] | None = None) -> list[Record]:
    """Hand-overs that wait for an answer, newest first; of all, or to one of these names."""
    found = ledger.find(KIND, {"waits": True}, newest_first=True)
    wanted = None if to is None else {folded(name) for name in to}
    return [record for record in found if wanted is None or record["offer"]["to"] in wanted]


def hand_over(
    ref: Ref, to: str, ledger: Ledger, clock: Clock, *, by: str, text: str = "", declared: str = "", groups: Collection[str] = (),
    anyway: bool = False, expect: int | None = None,
) -> Record:  # fmt: skip
    """Offer a thing to a person or group; they are told.

    Args:
        declared: the owner by the project file; while nobody took it over, whoever offers it may.
        groups: those `by` belongs to.
        anyway: for an administrator: offer what is another's, who may have left.
        expect: the version of the owner's record that was looked at, 0 for none.
    Raises: Forbidden for another's thing; Refused when they own it already; Conflict when it is offered already, or was changed since.
    """
    receiver = subjects.check_name(to.removeprefix("@"))
    subjects.check(ref, ledger)
    record = record_of(ref, ledger)
    if record is not None and record["offer"] is not None:
        raise Conflict(f"{record['offer']['by']} offered {ref} to {record['offer']['to']} already.", hint="Wait for the answer, or take it back.")
    owner = str(record["owner"]) if record is not None else ""
    if receiver == folded(owner or declared):
        raise Refused(f"{to} owns {ref} already.")
    if owner and not anyway and not _is(owner, by, groups):
        hint = f'Ask them: treadle note write {ref} "..." --change'
        raise Forbidden(f"{subjects.titled(ref).capitalize()} is {owner}'s to hand over, not {by}'s.", hint=hint)
    with ledger.transaction():
        note = notes.put(ref, text.strip() or f"Please take over {subjects.titled(ref)}.", ledger, clock, by=by, kind="handover", to=(receiver,))
        offer = {"to": receiver, "by": by, "at": note["at"], "text": text.strip(), "note": note.id, "from": owner or declared}
        body = {
            "owner": "", "since": "", "history": [], **(record.body if record else {}), "on": str(ref), "about": {"kind": ref.kind, "id": ref.id},
            "offer": offer, "waits": True,
        }  # fmt: skip
        made = _put(ref, body, ledger, record, expect)
        ledger.append("owner.offered", ref, {"to": receiver, "note": note.id}, actor=by)
    return made


def accept(
    ref: Ref, ledger: Ledger, clock: Clock, *, by: str, groups: Collection[str] = (), expect: int | None = None
) -> Record:  # fmt: skip
    """Take over what was offered. Raises Forbidden when it was offered to another, Conflict when it is not offered (any longer)."""
    record = _offered(ref, ledger)
    if not _is(record["offer"]["to"], by, groups):
        raise Forbidden(f"{ref} was offered to {record['offer']['to']}, not to {by}.")
    return _answered(ref, record, "accepted", "", by, ledger, clock, expect)


def decline(
    ref: Ref, ledger: Ledger, clock: Clock, *, by: str, text: str = "", groups: Collection[str] = (), expect: int | None = None
) -> Record:  # fmt: skip
    """Say no to what was offered; the owner stays. Raises as `accept` does."""
    record = _offered(ref, ledger)
    if not _is(record["offer"]["to"], by, groups):
        raise Forbidden(f"{ref} was offered to {record['offer']['to']}, not to {by}.")
    return _answered(ref, record, "declined", text, by, ledger, clock, expect)


def take_back(ref: Ref, ledger: Ledger, clock: Clock, *, by: str, anyway: bool = False, expect: int | None = None) -> Record:
    """Offer it no longer: whoever offered it may say so. Raises as `accept` does."""
    record = _offered(ref, ledger)
    if not anyway and folded(record["offer"]["by"]) != folded(by):
        raise Forbidden(f"{record['offer']['by']} offered {ref}, not {by}.")
    return _answered(ref, record, "taken back", "", by, ledger, clock, expect)


def _offered(ref: Ref, ledger: Ledger) -> Record:
    record = record_of(ref, ledger)
    if record is None or record["offer"] is None:
        raise Conflict(f"{ref} is offered to nobody.", hint="It may have been answered or taken back meanwhile.")
    return record


def _answered(ref: Ref, record: Record, answer: str, text: str, by: str, ledger: Ledger, clock: Clock, expect: int | None) -> Record:
    offer, now = record["offer"], iso(clock.now())
    if len(text) > notes.LONGEST:
        raise UsageError(f"The text has {len(text):,} characters; {notes.LONGEST:,} are allowed.")
    ended = {"from": offer["from"], "to": offer["to"], "by": offer["by"], "at": offer["at"], "answer": answer, "answered": now, "text": text.strip()}
    body = {**record.body, "offer": None, "waits": False, "history": [*record["history"], ended]}
    if answer == "accepted":
        body |= {"owner": offer["to"], "since": now}
    with ledger.transaction():
        made = _put(ref, body, ledger, record, expect)
        note = notes.get(offer["note"], ledger)
        how = {"by": by, "how": answer + (f": {text.strip()}" if text.strip() else ""), "at": now}
        ledger.put(notes.KIND, note.id, {**note.body, "status": "settled", "settled": how}, expect=note.version)
        ledger.append(f"owner.{answer.replace(' ', '_')}", ref, {"from": offer["from"], "to": offer["to"], "note": note.id}, actor=by)
        if answer == "taken back":
            notices.take_back(note.id, ledger)
        else:
            said = f"{by} {answer} {subjects.titled(ref)}" + (f": {text.strip()}" if text.strip() else "")
            others = [name for name in (offer["by"], record["owner"]) if name and folded(name) != folded(by)]
            notices.tell(ref, others, "answer", said, ledger, clock, by=by, because=f"{note.id}:{answer}")
    return made


def _put(ref: Ref, body: Mapping[str, Any], ledger: Ledger, record: Record | None, expect: int | None) -> Record:
    stands = record.version if record is not None else 0
    try:
        return ledger.put(KIND, str(ref), body, expect=stands if expect is None else expect)
    except Conflict:
        raise Conflict(f"Somebody changed who owns {ref} meanwhile.", hint="Look at it again, then decide.") from None


def _is(name: str, person: str, groups: Collection[str]) -> bool:
    return folded(name) in {folded(one) for one in (person, *groups)}
