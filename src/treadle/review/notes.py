"""Notes: what people write about a thing. A comment says something; a question and a request for change are open until they are settled.

A note is one record. Its text is plain: whoever shows it escapes it. `@name` in it addresses a person or a group. Of two who change a note at once,
one wins and the other gets Conflict. The audit log says who wrote about what, and to whom; never the text, which may be taken back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, Forbidden, NotFound, UsageError
from treadle.core.ids import new_id
from treadle.core.names import folded
from treadle.core.records import Link, Record, Ref
from treadle.ports.ledger import Ledger
from treadle.review import notices, subjects

KIND = "note"
KINDS = ("comment", "question", "change", "handover")
SETTLED = ("question", "change", "handover")  # kinds that are open until somebody settles them
LONGEST = 10_000
ADDRESSED = 20  # persons and groups at most
EARLIER = 20  # texts before the present one that are kept
_MENTION = re.compile(r"(?<![\w.@-])@(\w[\w.@-]{0,63})")


def write(
    ref: Ref, text: str, ledger: Ledger, clock: Clock, *, by: str, kind: str = "comment", to: Iterable[str] = (), answers: str = ""
) -> Record:  # fmt: skip
    """Write a note about a thing, and tell whom it addresses. An answer to another person's question settles it.

    Args:
        kind: 'comment', 'question' or 'change'; a hand-over is offered with `owners.hand_over`.
        to: persons or groups, beside those the text mentions.
        answers: the id of a note about the same thing.
    Raises: UsageError, NotFound.
    """
    if kind not in KINDS or kind == "handover":
        hint = "A hand-over is offered with: treadle owner offer THING NAME" if kind == "handover" else "Kinds are: comment, question, change."
        raise UsageError(f"A note cannot be of the kind {kind!r}.", hint=hint)
    return put(ref, text, ledger, clock, by=by, kind=kind, to=to, answers=answers)


def put(ref: Ref, text: str, ledger: Ledger, clock: Clock, *, by: str, kind: str, to: Iterable[str] = (), answers: str = "") -> Record:
    """`write`, for every kind."""
    said = _checked(text)
    subjects.check(ref, ledger)
    addressed = _addressed(said, to)
    id, now = new_id(KIND), iso(clock.now())
    body = {
        "on": str(ref), "about": {"kind": ref.kind, "id": ref.id}, "kind": kind, "text": said, "by": by, "to": addressed, "at": now,
        "answers": answers, "edited": "", "earlier": [], "withdrawn": "", "status": "open" if kind in SETTLED else "", "settled": None,
    }  # fmt: skip
    with ledger.transaction():  # what is answered is read in it: somebody else may be settling it
        asked = get(answers, ledger) if answers else None
        if asked is not None and asked["on"] != str(ref):
            raise UsageError(f"Note {answers} is about {asked['on']}, not about {ref}.", hint="An answer is about the same thing.")
        record = ledger.put(KIND, id, body, expect=0)
        ledger.link(Link(Ref(KIND, id), "is_about", ref))
        ledger.append("note.written", ref, {"note": id, "kind": kind, "to": addressed, "answers": answers}, actor=by)
        _tell(record, addressed, ledger, clock)
        if asked is not None and folded(asked["by"]) != folded(by):
            if folded(asked["by"]) not in addressed:
                notices.tell(ref, [asked["by"]], "answer", f"{by} answered you: {said}", ledger, clock, by=by, because=id)
            if asked["kind"] == "question" and asked["status"] == "open":
                _settled(asked, by, "answered", ledger, clock)
    return record


def edit(id: str, text: str, ledger: Ledger, clock: Clock, *, by: str, expect: int | None = None) -> Record:
    """Change the text of one's own note; who is mentioned now and was not before is told.

    Args:
        expect: the version that was looked at.
    Raises: Forbidden for another's note; Conflict when it was changed since, settled or withdrawn.
    """
    record, said = _mine(id, by, ledger), _checked(text)
    now = iso(clock.now())
    more = [name for name in _addressed(said, ()) if name not in record["to"]]
    earlier = [*record["earlier"], {"text": record["text"], "until": now}][-EARLIER:]
    body = {**record.body, "text": said, "edited": now, "earlier": earlier, "to": [*record["to"], *more]}
    with ledger.transaction():
        changed = _put(record, body, ledger, expect)
        ledger.append("note.edited", about(record), {"note": id, "to": more}, actor=by)
        _tell(changed, more, ledger, clock)
    return changed


def withdraw(id: str, ledger: Ledger, clock: Clock, *, by: str, expect: int | None = None) -> Record:
    """Take back one's own note: its texts are gone, that there was one stays. Raises Forbidden; Conflict."""
    record = _mine(id, by, ledger)
    if record["kind"] == "handover":
        raise Conflict("A hand-over is taken back where it was offered.", hint="Run: treadle owner take-back THING")
    body = {**record.body, "text": "", "earlier": [], "withdrawn": iso(clock.now()), "status": ""}
    with ledger.transaction():
        changed = _put(record, body, ledger, expect)
        ledger.append("note.withdrawn", about(record), {"note": id}, actor=by)
        notices.take_back(id, ledger)
    return changed


def settle(
    id: str, ledger: Ledger, clock: Clock, *, by: str, how: str, groups: Collection[str] = (), expect: int | None = None
) -> Record:  # fmt: skip
    """Say that a question or a request for change is done with, and how; whoever wrote it is told.

    Args:
        groups: those `by` belongs to. A note that addresses somebody is settled by them or by its author.
    Raises: UsageError for what is never open, or without `how`; Forbidden; Conflict when somebody else was first.
    """
    record = get(id, ledger)
    if record["kind"] == "handover" or record["kind"] not in SETTLED:
        answers = "A hand-over is answered with: treadle owner accept THING, or decline"
        hint = answers if record["kind"] == "handover" else "Questions and requests for change are."
        raise UsageError(f"Note {id} is a {record['kind']}, which is not settled.", hint=hint)
    if not how.strip():
        raise UsageError("How was it settled?", hint='Say it in a sentence, such as "done in run-1" or "declined: the column is needed".')
    if record["status"] != "open":
        raise Conflict(_why_closed(record), hint="Look at it again.")
    may = {folded(record["by"]), *record["to"]}
    if record["to"] and not may & {folded(name) for name in (by, *groups)}:
        raise Forbidden(f"Note {id} is for {', '.join(record['to'])}, or {record['by']}, to settle.")
    return _settled(record, by, _checked(how), ledger, clock, expect)


def get(id: str, ledger: Ledger) -> Record:
    """A note. Raises NotFound."""
    record = ledger.get(KIND, id)
    if record is None:
        raise NotFound(f"There is no note {id!r}.", hint="List them: treadle note list")
    return record


def about(record: Record) -> Ref:
    """The thing a note is about."""
    return Ref(record["about"]["kind"], record["about"]["id"])


def notes_of(ref: Ref, ledger: Ledger) -> list[Record]:
    """Every note about a thing, oldest first; of those withdrawn only that they were there."""
    return ledger.find(KIND, {"on": str(ref)})


def open_notes(ledger: Ledger, *, to: Collection[str] | None = None, limit: int | None = None) -> list[Record]:
    """What waits to be settled, newest first.

    Args:
        to: a person's name and groups: only what addresses one of them; everything if None.
    """
    found = ledger.find(KIND, {"status": "open"}, newest_first=True)
    if to is not None:
        wanted = {folded(name) for name in to}
        found = [note for note in found if wanted & set(note["to"])]
    return found[:limit]


def mentioned(text: str) -> list[str]:
    """The names that a text addresses, folded, in their order.

    >>> mentioned("@Ann, see what @data-team wrote (@ann). Not me@example.org.")
    ['ann', 'data-team']
    """
    names = (folded(name.rstrip(".-@")) for name in _MENTION.findall(text))
    return list(dict.fromkeys(name for name in names if name))


def _checked(text: str) -> str:
    said = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "").strip()
    if not said:
        raise UsageError("A note without text says nothing.", hint="Write something.")
    if len(said) > LONGEST:
        raise UsageError(f"The text has {len(said):,} characters; {LONGEST:,} are allowed.", hint="Say it shorter, or link to a document.")
    return said


def _addressed(text: str, to: Iterable[str]) -> list[str]:
    names = list(dict.fromkeys([*(subjects.check_name(name.removeprefix("@")) for name in to), *mentioned(text)]))
    if len(names) > ADDRESSED:
        raise UsageError(f"A note addresses {ADDRESSED} persons and groups at most, not {len(names)}.", hint="Address a group.")
    return names


def _mine(id: str, by: str, ledger: Ledger) -> Record:
    record = get(id, ledger)
    if folded(record["by"]) != folded(by):
        raise Forbidden(f"Note {id} is {record['by']}'s.", hint="Answer it instead.")
    if record["withdrawn"] or record["settled"]:
        raise Conflict(_why_closed(record), hint="Write another one.")
    return record


def _why_closed(record: Record) -> str:
    if record["withdrawn"]:
        return f"Note {record.id} was withdrawn on {record['withdrawn'][:16]}."
    settled = record["settled"]
    return f"{settled['by']} settled note {record.id} already: {settled['how']}." if settled else f"Note {record.id} is not open."


def _put(record: Record, body: Mapping[str, Any], ledger: Ledger, expect: int | None) -> Record:
    try:
        return ledger.put(KIND, record.id, body, expect=record.version if expect is None else expect)
    except Conflict:
        raise Conflict(f"Somebody changed note {record.id} meanwhile.", hint="Look at it again, then decide.") from None


def _settled(record: Record, by: str, how: str, ledger: Ledger, clock: Clock, expect: int | None = None) -> Record:
    body = {**record.body, "status": "settled", "settled": {"by": by, "how": how, "at": iso(clock.now())}}
    with ledger.transaction():
        changed = _put(record, body, ledger, expect)
        ledger.append("note.settled", about(record), {"note": record.id, "kind": record["kind"]}, actor=by)
        if how != "answered" and folded(by) != folded(record["by"]):
            told = f"{by} settled your {record['kind']}: {how}"
            notices.tell(about(record), [record["by"]], "settled", told, ledger, clock, by=by, because=f"{record.id}:settled")
    return changed


def _tell(record: Record, names: Iterable[str], ledger: Ledger, clock: Clock) -> None:
    verb = {"comment": "wrote to you", "question": "asks you", "change": "asks you for a change", "handover": "offers you"}[record["kind"]]
    what = "mention" if record["kind"] == "comment" else record["kind"]
    others = [name for name in names if name != folded(record["by"])]
    notices.tell(about(record), others, what, f"{record['by']} {verb}: {record['text']}", ledger, clock, by=record["by"], because=record.id)
