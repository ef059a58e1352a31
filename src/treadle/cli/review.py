"""What people say to each other about the things of a project: `note`, `owner`, `notices`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from treadle.cli import show

if TYPE_CHECKING:
    from treadle.assemble import Workspace
    from treadle.core.records import Record

_group = click.option("--group", "groups", multiple=True, metavar="NAME", help="A group you act for; may be given more than once.")
_json = click.option("--json", "json_", is_flag=True, help="Print as JSON.")


@click.group(epilog='Example: treadle note write late-arrival.v3 "Why is JFK so weak? @bob" --question')
def note() -> None:
    """Notes about runs, versions, data sets, alarms, ...: comments, questions, requests for change.

    A THING is an id (run-..., late.v3, alarm-..., p-...), `last` for the newest run, a declared name, or KIND/ID.
    """


@note.command("write", epilog='Example: treadle note write last "Took twice as long, see the joins. @data-team" --change')
@click.argument("thing")
@click.argument("text")
@click.option("--question", "kind", flag_value="question", help="A question; open until somebody answers.")
@click.option("--change", "kind", flag_value="change", help="A request for change; open until it is settled.")
@click.option("--to", multiple=True, metavar="NAME", help="Whom it addresses, beside every @name of the text; may be given more than once.")
@click.option("--answers", default="", metavar="NOTE", help="The note that this answers.")
@_json
@click.pass_context
def write(ctx: click.Context, thing: str, text: str, kind: str | None, to: Sequence[str], answers: str, json_: bool) -> None:
    """Write a note about a thing; whom it addresses is told."""
    from treadle.report.things import find_thing
    from treadle.review import notes

    ws = show.workspace(ctx)
    made = notes.write(find_thing(thing, ws), text, ws.ledger, ws.clock, by=ws.actor, kind=kind or "comment", to=to, answers=answers)
    _tell(ws)
    _done(made, json_, f"{made.id}: {made['kind']} about {made['on']}" + (f", told: {', '.join(made['to'])}" if made["to"] else ""))


@note.command("list", epilog="Example: treadle note list late-arrival.v3")
@click.argument("thing", default="")
@click.option("--mine", is_flag=True, help="Only what is open and addresses you.")
@_group
@_json
@click.pass_context
def list_(ctx: click.Context, thing: str, mine: bool, groups: Sequence[str], json_: bool) -> None:
    """List the notes about a thing, oldest first; without one, the questions and requests that are open."""
    from treadle.report.things import find_thing
    from treadle.review import notes

    ws = show.workspace(ctx)
    found = notes.notes_of(find_thing(thing, ws), ws.ledger) if thing else notes.open_notes(ws.ledger)
    if mine:
        to = {note.id for note in notes.open_notes(ws.ledger, to=[ws.actor, *groups])}
        found = [note for note in found if note.id in to]
    if json_:
        show.as_json([_told(note) for note in found])
        return
    show.table(
        ["note", "at", "about", "by", "to", "kind", "text"],
        [(n.id, n["at"][:16], n["on"], n["by"], ", ".join(n["to"]), _state(n), "(withdrawn)" if n["withdrawn"] else n["text"]) for n in found],
    )
    if not found:
        show.say("no notes" if thing else "nothing is open")


@note.command("edit", epilog='Example: treadle note edit note-01m7... "Took twice as long: the joins."')
@click.argument("note")
@click.argument("text")
@click.option("--version", "expect", type=int, help="Only if the note still has this version.")
@click.pass_context
def edit(ctx: click.Context, note: str, text: str, expect: int | None) -> None:
    """Change the text of a note of yours."""
    from treadle.review import notes

    ws = show.workspace(ctx)
    changed = notes.edit(note, text, ws.ledger, ws.clock, by=ws.actor, expect=expect)
    _tell(ws)
    show.say(f"{changed.id}: changed")


@note.command("withdraw", epilog="Example: treadle note withdraw note-01m7...")
@click.argument("note")
@click.pass_context
def withdraw(ctx: click.Context, note: str) -> None:
    """Take back a note of yours: its text is gone, that there was one stays."""
    from treadle.review import notes

    ws = show.workspace(ctx)
    show.say(f"{notes.withdraw(note, ws.ledger, ws.clock, by=ws.actor).id}: withdrawn")


@note.command("settle", epilog='Example: treadle note settle note-01m7... "done in run-01m8..."')
@click.argument("note")
@click.argument("how")
@click.option("--version", "expect", type=int, help="Only if the note still has this version.")
@_group
@click.pass_context
def settle(ctx: click.Context, note: str, how: str, expect: int | None, groups: Sequence[str]) -> None:
    """Say that a question or a request for change is done with, and how."""
    from treadle.review import notes

    ws = show.workspace(ctx)
    settled = notes.settle(note, ws.ledger, ws.clock, by=ws.actor, how=how, groups=groups, expect=expect)
    _tell(ws)
    show.say(f"{settled.id}: settled by {settled['settled']['by']}: {show.one_line(settled['settled']['how'])}")


@click.group(epilog="Example: treadle owner show late-arrival")
def owner() -> None:
    """Who owns a thing, and handing it over: an offer that its receiver accepts or declines."""


@owner.command("show", epilog="Example: treadle owner show late-arrival")
@click.argument("thing", default="")
@_json
@click.pass_context
def show_(ctx: click.Context, thing: str, json_: bool) -> None:
    """Say who owns a thing and who did before; without one, list the hand-overs that wait for an answer."""
    from treadle.report.things import find_thing
    from treadle.review import owners

    ws = show.workspace(ctx)
    if not thing:
        waiting = owners.offers(ws.ledger)
        if json_:
            show.as_json([{"on": o["on"], **o["offer"]} for o in waiting])
            return
        show.table(["thing", "to", "by", "since", "text"], [_offer(o) for o in waiting])
        if not waiting:
            show.say("nothing is offered")
        return
    ref = find_thing(thing, ws)
    record = owners.record_of(ref, ws.ledger)
    now = owners.owner_of(ref, ws.ledger, ws.project.owner)
    if json_:
        show.as_json({"on": str(ref), "owner": now, "offer": record["offer"] if record else None, "history": owners.history(ref, ws.ledger)})
        return
    show.say(f"{ref}: {show.one_line(now) or 'nobody is declared'}")
    if record is not None and record["offer"]:
        show.say(f"  offered to {record['offer']['to']} by {record['offer']['by']} on {record['offer']['at'][:16]}")
    for told in owners.history(ref, ws.ledger):
        before, said = show.one_line(told["from"]) or "nobody", show.one_line(told["text"])
        show.say(f"  {told['answered'][:16]}  {before} to {told['to']}: {told['answer']} {said}".rstrip())


@owner.command("offer", epilog='Example: treadle owner offer late-arrival bob --text "I move to another desk"')
@click.argument("thing")
@click.argument("to")
@click.option("--text", default="", help="What its new owner should know.")
@click.option("--anyway", is_flag=True, help="Offer what is another's: who has left cannot offer it.")
@_group
@click.pass_context
def offer(ctx: click.Context, thing: str, to: str, text: str, anyway: bool, groups: Sequence[str]) -> None:
    """Offer a thing to a person or group; it stays with its owner until they accept."""
    from treadle.report.things import find_thing
    from treadle.review import owners

    ws = show.workspace(ctx)
    made = owners.hand_over(
        find_thing(thing, ws), to, ws.ledger, ws.clock, by=ws.actor, text=text, declared=ws.project.owner, groups=groups, anyway=anyway
    )
    _tell(ws)
    show.say(f"{made['on']}: offered to {made['offer']['to']}")


@owner.command("accept", epilog="Example: treadle owner accept late-arrival")
@click.argument("thing")
@_group
@click.pass_context
def accept(ctx: click.Context, thing: str, groups: Sequence[str]) -> None:
    """Take over what was offered to you or a group of yours."""
    from treadle.report.things import find_thing
    from treadle.review import owners

    ws = show.workspace(ctx)
    made = owners.accept(find_thing(thing, ws), ws.ledger, ws.clock, by=ws.actor, groups=groups)
    _tell(ws)
    show.say(f"{made['on']}: owned by {made['owner']}")


@owner.command("decline", epilog='Example: treadle owner decline late-arrival --text "no time before June"')
@click.argument("thing")
@click.option("--text", default="", help="Why not.")
@_group
@click.pass_context
def decline(ctx: click.Context, thing: str, text: str, groups: Sequence[str]) -> None:
    """Say no to what was offered to you or a group of yours; its owner stays."""
    from treadle.report.things import find_thing
    from treadle.review import owners

    ws = show.workspace(ctx)
    made = owners.decline(find_thing(thing, ws), ws.ledger, ws.clock, by=ws.actor, text=text, groups=groups)
    _tell(ws)
    show.say(f"{made['on']}: declined")


@owner.command("take-back", epilog="Example: treadle owner take-back late-arrival")
@click.argument("thing")
@click.pass_context
def take_back(ctx: click.Context, thing: str) -> None:
    """Offer a thing no longer."""
    from treadle.report.things import find_thing
    from treadle.review import owners

    ws = show.workspace(ctx)
    show.say(f"{owners.take_back(find_thing(thing, ws), ws.ledger, ws.clock, by=ws.actor)['on']}: offered no longer")


@click.command(epilog="Example: treadle notices --waiting")
@click.option("--all", "every", is_flag=True, help="Also what you have read.")
@click.option("--read", "mark", is_flag=True, help="Mark what is listed as read.")
@click.option("--waiting", "waits", is_flag=True, help="List what waits for your answer instead: approvals, hand-overs, questions, requests.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many.")
@_group
@_json
@click.pass_context
def notices(ctx: click.Context, every: bool, mark: bool, waits: bool, limit: int, groups: Sequence[str], json_: bool) -> None:
    """List what you were told, the unread first; or what waits for your answer."""
    from treadle.review import notices as room

    ws = show.workspace(ctx)
    if waits:
        _waiting(ws, groups, json_)
        return
    found = room.notices(ws.actor, ws.ledger, groups=groups, unread=not every, limit=limit)
    if json_:
        show.as_json([{"id": n.id, **n.body, "unread": not room.is_read(n, ws.actor)} for n in found])
    else:
        show.table(
            ["", "at", "about", "what"], [("" if room.is_read(n, ws.actor) else "•", n["at"][:16], n["on"], n["text"]) for n in found]
        )  # fmt: skip
        if not found:
            show.say("nothing new" if not every else "nothing")
    if mark:
        room.read([n.id for n in found], ws.actor, ws.ledger, ws.clock, groups=groups)


def _waiting(ws: Workspace, groups: Sequence[str], json_: bool) -> None:
    from treadle.report.waiting import waiting

    found = waiting(ws, person=ws.actor, groups=groups)
    if json_:
        show.as_json([{**vars(w), "about": str(w.about), "not_by": dict(w.not_by)} for w in found])
        return
    rows = [
        (
            w.kind, f"{w.about.id} {w.id}" if w.kind == "step" else w.id, w.since[:16], w.by, ", ".join(w.to),
            ": ".join(filter(None, (w.title, w.text))),
        )
        for w in found
    ]
    show.table(["kind", "id", "since", "by", "to", "what"], rows)
    if not found:
        show.say("nothing waits for you")


def _tell(ws: Workspace) -> None:
    from treadle.review import notices as room

    room.deliver(ws.ledger, ws.notifiers)


def _done(record: Record, json_: bool, text: str) -> None:
    if json_:
        show.as_json(_told(record))
    else:
        show.say(text)


def _told(record: Record) -> dict[str, Any]:
    return {"id": record.id, "version": record.version, **record.body}


def _state(record: Record) -> str:
    if record["settled"]:
        return f"{record['kind']}, settled by {record['settled']['by']}: {record['settled']['how']}"
    return f"{record['kind']}, open" if record["status"] == "open" else str(record["kind"])


def _offer(record: Record) -> tuple[str, ...]:
    offered = record["offer"]
    return (record["on"], offered["to"], offered["by"], offered["at"][:16], offered["text"])
