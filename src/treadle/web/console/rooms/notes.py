"""Notes: what people say about the things of the project and ask of each other, and what each was told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from treadle.access import known
from treadle.access.known import Person
from treadle.assemble import Workspace
from treadle.core.errors import Forbidden, NotFound, UsageError
from treadle.core.names import folded
from treadle.core.records import Record, Ref
from treadle.report.things import find_thing
from treadle.review import notes, notices, owners, subjects
from treadle.web.console.operation import Asked, Operation, Pages, listed
from treadle.web.console.places import page_of, permission_of

SHOWN = 20  # newest notes of a thing on its page
MANY = 50  # of each list on the page of notes
Version = Annotated[int, msgspec.Meta(ge=0)]


class Wanted(Pages, frozen=True, kw_only=True):
    """Which notes: of whom, about what ('run/run-1'), of which kind or status; all if empty."""

    by: str = ""
    on: str = ""
    kind: str = ""
    status: str = ""


class Thing(msgspec.Struct, frozen=True, kw_only=True):
    """A thing, as 'run/run-1' or by its id, and how many of its newest notes."""

    on: str
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 200


class NewNote(msgspec.Struct, frozen=True, kw_only=True):
    """A note about the thing `on`. `to`: names of persons and groups with commas between, beside those the text mentions as @name."""

    on: str
    text: str
    kind: Literal["comment", "question", "change"] = "comment"
    to: str = ""
    answers: str = ""


class ChangedText(msgspec.Struct, frozen=True, kw_only=True):
    """The new text; `expect` is the version that was looked at."""

    text: str
    expect: Version


class LookedAt(msgspec.Struct, frozen=True, kw_only=True):
    """The version that was looked at."""

    expect: Version


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """How it was settled, in a sentence."""

    how: str
    expect: Version


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Which notices; only the unread if `unread`."""

    unread: bool = False
    limit: Annotated[int, msgspec.Meta(ge=1, le=200)] = 50


class NoticesRead(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of the notices that were read."""

    ids: list[str]


# Seeing


def every(asked: Asked) -> dict[str, Any]:
    """The newest notes about anything that whoever asks may see."""
    q = asked.query
    on = str(thing(q.on, asked)) if q.on else ""
    where = {k: v for k, v in (("by", q.by), ("on", on), ("kind", q.kind), ("status", q.status)) if v}
    found = listed(asked.ws, notes.KIND, where or None, q, lambda r: r)
    return {"items": [note(r, asked.person) for r in found["items"] if asked.person.may(permission_of(notes.about(r)))], "next": found["next"]}


def mine(asked: Asked) -> dict[str, Any]:
    """What is open between whoever asks and others: asked of them, asked by them, hand-overs offered to them and by them."""
    me, ledger = asked.person, asked.ws.ledger
    asked_of = [n for n in notes.open_notes(ledger, to=[me.name, *me.groups]) if n["kind"] != "handover"]
    by_me = [n for n in ledger.find(notes.KIND, {"status": "open", "by": me.name}, newest_first=True) if n["kind"] != "handover"]
    offers = owners.offers(ledger)
    to_me = [o for o in offers if folded(o["offer"]["to"]) in {folded(n) for n in (me.name, *me.groups)}]
    of_me = [o for o in offers if folded(o["offer"]["by"]) == folded(me.name)]
    return {
        "asked_of_me": [note(n, me) for n in asked_of[:MANY]], "asked_by_me": [note(n, me) for n in by_me[:MANY]],
        "offered_to_me": [_offer(o) for o in to_me[:MANY]], "offered_by_me": [_offer(o) for o in of_me[:MANY]],
        "left_out": sum(max(0, len(found) - MANY) for found in (asked_of, by_me, to_me, of_me)),
    }  # fmt: skip


def about(asked: Asked) -> dict[str, Any]:
    """Everything said about a thing: its owner, a hand-over that is offered, the newest notes."""
    return panel(thing(asked.query.on, asked), "", asked.ws, asked.person, asked.query.limit)


def panel(ref: Ref, declared: str, ws: Workspace, person: Person, limit: int = SHOWN) -> dict[str, Any]:
    """The same for the foot of the thing's own page: a few short questions of the record, whatever its length."""
    record, declared = owners.record_of(ref, ws.ledger), declared or declared_owner(ref, ws)
    count = ws.ledger.count(notes.KIND, {"on": str(ref)})
    found = ws.ledger.find(notes.KIND, {"on": str(ref)}, newest_first=True, limit=limit) if count else []
    return {
        "on": str(ref), "title": subjects.titled(ref), "link": page_of(ref),
        "owner": str(record["owner"]) if record is not None and record["owner"] else declared, "declared": declared,
        "since": record["since"] if record is not None else "", "version": record.version if record is not None else 0,

        "offer": _offer(record, person) if record is not None and record["offer"] else None,
        "history": list(record["history"])[-SHOWN:] if record else [],
        "may_offer": record is None or not record["owner"] or _theirs(record["owner"], person) or person.may("access.change"),
        "notes": [note(n, person) for n in found], "count": count,
    }  # fmt: skip


def one(asked: Asked) -> dict[str, Any]:
    """A note with its earlier texts, and what was answered to it."""
    found = _known(asked)
    answers = asked.ws.ledger.find(notes.KIND, {"answers": found.id}, limit=SHOWN)
    return {**note(found, asked.person), "earlier": found["earlier"], "replies": [note(a, asked.person) for a in answers]}


def note(record: Record, person: Person) -> dict[str, Any]:
    """A note, and what this person may do about it."""
    wanted = ("on", "kind", "text", "by", "to", "at", "answers", "edited", "withdrawn", "status", "settled")
    ref, own, still = notes.about(record), folded(record["by"]) == folded(person.name), not record["withdrawn"] and not record["settled"]
    names = {folded(n) for n in (person.name, *person.groups)}
    return {
        "id": record.id, "version": record.version, **{k: record[k] for k in wanted}, "title": subjects.titled(ref), "link": page_of(ref),
        "may_edit": own and still, "may_withdraw": own and still and record["kind"] != "handover",
        "may_settle": record["status"] == "open" and record["kind"] != "handover" and (own or not record["to"] or bool(names & set(record["to"]))),
    }  # fmt: skip


def _offer(record: Record, person: Person | None = None) -> dict[str, Any]:
    ref, offer = owners.about(record), record["offer"]
    shown = {"on": str(ref), "title": subjects.titled(ref), "link": page_of(ref), "version": record.version, **offer}
    return shown | ({"mine": _theirs(offer["to"], person), "by_me": folded(offer["by"]) == folded(person.name)} if person is not None else {})


def told(asked: Asked) -> dict[str, Any]:
    """What whoever asks was told, the unread first."""
    me, q = asked.person, asked.query
    found = notices.notices(me.name, asked.ws.ledger, groups=me.groups, unread=q.unread, limit=q.limit)
    return {"items": [_notice(n, me) for n in found], "next": None, "unread": notices.unread(me.name, asked.ws.ledger, groups=me.groups)}


def _notice(record: Record, person: Person) -> dict[str, Any]:
    wanted = ("on", "what", "text", "by", "at")
    return {"id": record.id, **{k: record[k] for k in wanted}, "read": notices.is_read(record, person.name), "link": page_of(Ref(**record["about"]))}


# Doing


def write(asked: Asked) -> dict[str, Any]:
    """Write a note."""
    b, ws = asked.body, asked.ws
    to = names(b.to, ws)
    made = notes.write(thing(b.on, asked), b.text, ws.ledger, ws.clock, by=asked.person.name, kind=b.kind, to=to, answers=b.answers)
    return note(made, asked.person)


def edit(asked: Asked) -> dict[str, Any]:
    """Change one's own note."""
    ws, found = asked.ws, _known(asked)
    return note(notes.edit(found.id, asked.body.text, ws.ledger, ws.clock, by=asked.person.name, expect=asked.body.expect), asked.person)


def withdraw(asked: Asked) -> dict[str, Any]:
    """Take back one's own note."""
    ws, found = asked.ws, _known(asked)
    return note(notes.withdraw(found.id, ws.ledger, ws.clock, by=asked.person.name, expect=asked.body.expect), asked.person)


def settle(asked: Asked) -> dict[str, Any]:
    """Settle a question or a request for change."""
    ws, me, found = asked.ws, asked.person, _known(asked)
    done = notes.settle(found.id, ws.ledger, ws.clock, by=me.name, how=asked.body.how, groups=me.groups, expect=asked.body.expect)
    return note(done, me)


def read(asked: Asked) -> dict[str, Any]:
    """Mark notices as read."""
    me, ws = asked.person, asked.ws
    return {"read": notices.read(asked.body.ids, me.name, ws.ledger, ws.clock, groups=me.groups)}


def thing(text: str, asked: Asked) -> Ref:
    """The thing that is meant. Raises NotFound; Forbidden for what whoever asks may not see."""
    ref = find_thing(text, asked.ws)
    if not asked.person.may(permission_of(ref)):
        raise Forbidden(f"You may not see this: it needs the permission {permission_of(ref)!r}.")
    return ref


def names(text: str, ws: Workspace) -> list[str]:
    """Names with commas between. Raises UsageError for one that nobody here has, who would never be told."""
    found = [subjects.check_name(n.strip().removeprefix("@")) for n in text.split(",") if n.strip()]
    groups: Iterable[str] = [g.name for g in known.groups(ws.ledger)] if found else []
    for name in found:
        if name not in groups and known.find_person(name, ws.ledger) is None:
            raise UsageError(f"There is no person or group {name!r} here.", where="to", hint="The page Access lists them.")
    return found


def declared_owner(ref: Ref, ws: Workspace) -> str:
    """Who owns a thing by the project file; '' where it says nothing of it."""
    project = ws.project
    if ref.kind in ("dataset", "view"):
        found: Any = (project.datasets if ref.kind == "dataset" else project.views).get(ref.id)
        return str(found.owner) if found is not None else ""
    return project.owner if ref.kind in ("project", "model", "deployment", "pipeline", "model_version") else ""


def _known(asked: Asked) -> Record:
    found = notes.get(asked["note"], asked.ws.ledger)
    if not asked.person.may(permission_of(notes.about(found))):
        raise NotFound(f"There is no note {found.id!r}.")
    return found


def _theirs(name: str, person: Person) -> bool:
    return folded(name) in {folded(n) for n in (person.name, *person.groups)}


# Pages


def _list(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    first = not asked.query.after
    own = {"mine": mine(asked), "told": told(Asked(asked.ws, asked.person, query=Told(limit=SHOWN)))} if first else {"mine": None, "told": None}
    return "notes.html", {"notes": given["items"], "next": given["next"], **own}


def _about(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "notes_about.html", {"p": given, "panel": given}


def _one(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "note.html", {"n": given}


OPERATIONS = [
    Operation("notes.list", "/notes", "home.see", every, "The notes about everything, newest first.", query=Wanted, page=_list),
    Operation("notes.mine", "/notes/mine", "home.see", mine, "What is open between whoever asks and others: questions, requests, hand-overs."),
    Operation("notes.about", "/notes/about", "home.see", about, "The owner of a thing, its hand-overs and its newest notes.",
              query=Thing, page=_about),
    Operation("notes.see", "/notes/{note}", "home.see", one, "A note, with its earlier texts and its answers.", page=_one),
    Operation("notes.write", "/notes", "notes.write", write, "Write a comment, a question or a request for change.",
              method="POST", body=NewNote, done="Your note is written."),
    Operation("notes.edit", "/notes/{note}/edit", "notes.write", edit, "Change one's own note.",
              method="POST", body=ChangedText, done="Your note is changed."),
    Operation("notes.withdraw", "/notes/{note}/withdraw", "notes.write", withdraw, "Take back one's own note.",
              method="POST", body=LookedAt, done="Your note is withdrawn."),
    Operation("notes.settle", "/notes/{note}/settle", "notes.write", settle, "Settle a question or a request for change.",
              method="POST", body=Settled, done="It is settled."),
    Operation("notices.list", "/notices", "home.see", told, "What whoever asks was told, the unread first.", query=Told),
    Operation("notices.read", "/notices/read", "home.see", read, "Mark notices as read.", method="POST", body=NoticesRead, done="Marked as read."),
]  # fmt: skip
