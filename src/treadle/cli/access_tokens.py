"""`treadle access tokens` and `treadle access sessions`: what programs and browsers hold of people, and taking it back."""

from __future__ import annotations

from dataclasses import asdict

import click

from treadle.cli import show


@click.group(epilog="Example: treadle access tokens make nightly-export --person ada --permission audit.export")
def tokens() -> None:
    """API tokens of people: list, make, revoke. For keys of endpoints see: treadle keys"""


@tokens.command("list", epilog="Example: treadle access tokens list --person ada")
@click.option("--person", default="", help="Whose; all if not given.")
@click.option("--json", "json_", is_flag=True, help="Print them as JSON.")
@click.pass_context
def list_(ctx: click.Context, person: str, json_: bool) -> None:
    """List the tokens. Secrets are not stored."""
    from treadle.access import tokens as room

    ws = show.workspace(ctx)
    found = room.tokens(ws.ledger, person)
    if json_:
        show.as_json([{**asdict(t), "permissions": None if t.permissions is None else sorted(t.permissions)} for t in found])
        return
    if not found:
        show.say("There are no tokens. Make one with: treadle access tokens make NAME --person PERSON")
        return
    show.table(
        ["token", "name", "person", "may", "last used", "until"],
        [
            [t.id, t.name, t.person, "all theirs" if t.permissions is None else ", ".join(sorted(t.permissions)), t.used[:16],
             "revoked" if t.revoked else t.ends[:16]]
            for t in found
        ],
    )  # fmt: skip


@tokens.command(epilog="Example: treadle access tokens make nightly-export --person ada --permission audit.export --days 30")
@click.argument("name")
@click.option("--person", required=True, help="Whose token it is: it may never do more than they may at that moment.")
@click.option("--permission", "permissions", multiple=True, help="What it may do; may be given several times. All that the person may if not given.")
@click.option("--days", type=click.FloatRange(0, 3650, min_open=True), default=90, show_default=True, help="How long it is good.")
@click.option("--json", "json_", is_flag=True, help="Print it as JSON.")
@click.pass_context
def make(ctx: click.Context, name: str, person: str, permissions: tuple[str, ...], days: float, json_: bool) -> None:
    """Make a token and print it, this once. Only its hash is stored."""
    from treadle.access import tokens as room

    ws = show.workspace(ctx)
    text, token = room.make_token(person, name, ws.ledger, ws.clock, actor=ws.actor, permissions=permissions or None, days=days)
    if json_:
        show.as_json({"token": text, **asdict(token), "permissions": None if token.permissions is None else sorted(token.permissions)})
        return
    print(text)
    show.say(f"This is token {token.id} of {token.person}, until {token.ends[:16]}: it is shown this once. Send: Authorization: Bearer TOKEN")


@tokens.command(epilog="Example: treadle access tokens revoke abcdefgh")
@click.argument("id")
@click.pass_context
def revoke(ctx: click.Context, id: str) -> None:
    """Take a token back: it stops with the next request."""
    from treadle.access import tokens as room

    ws = show.workspace(ctx)
    token = room.revoke(id, ws.ledger, ws.clock, actor=ws.actor)
    show.say(f"token {token.id} of {token.person} is taken back")


@click.group(epilog="Example: treadle access sessions list")
def sessions() -> None:
    """Who is signed in: list, end."""


@sessions.command("list", epilog="Example: treadle access sessions list --person ada")
@click.option("--person", default="", help="Whose; all if not given.")
@click.option("--json", "json_", is_flag=True, help="Print them as JSON.")
@click.pass_context
def list_sessions(ctx: click.Context, person: str, json_: bool) -> None:
    """List the sessions that are open now."""
    from treadle.access import sessions as room

    ws = show.workspace(ctx)
    found = room.sessions(ws.ledger, ws.clock, person=person)
    if json_:
        show.as_json([{k: v for k, v in asdict(s).items() if k != "csrf"} for s in found])
        return
    if not found:
        show.say("Nobody is signed in.")
    show.table(
        ["session", "person", "by", "from", "since", "last used", "until"],
        [[s.id, s.person, s.how, s.address, s.opened[:16], s.used[:16], s.ends[:16]] for s in found],
    )


@sessions.command(epilog="Example: treadle access sessions end --person ada")
@click.argument("id", default="")
@click.option("--person", default="", help="End all sessions of this person.")
@click.pass_context
def end(ctx: click.Context, id: str, person: str) -> None:
    """Sign somebody out: one session, or all of a person."""
    from treadle.access import people
    from treadle.access import sessions as room
    from treadle.core.errors import UsageError

    if bool(id) == bool(person):
        raise UsageError("Name either a session or a --person.")
    ws = show.workspace(ctx)
    if id:
        room.end_session(id, ws.ledger, ws.clock, actor=ws.actor)
        show.say(f"session {id} has ended")
        return
    name = people.get_person(person, ws.ledger).name
    count = room.end_all(name, ws.ledger, ws.clock, actor=ws.actor)
    show.say(f"{count} sessions of {name} have ended")
