"""`treadle access`: who may do what. People here; groups and roles in `access_roles.py`, tokens and sessions in `access_tokens.py`."""

from __future__ import annotations

import sys
from typing import Any

import click

from treadle.cli import show
from treadle.cli.access_roles import groups, roles
from treadle.cli.access_tokens import sessions, tokens
from treadle.core.errors import UsageError


@click.group(epilog="Example: treadle access people add ada --role administrator")
def access() -> None:
    """Who may do what in the console: people, groups, roles, API tokens, sessions. There is no default password, and nobody is there at first.

    Whoever may run this command can write the ledger, and so is trusted with everything.
    """


@access.group(epilog="Example: treadle access people add ada --role data_scientist")
def people() -> None:
    """People: list, add, change, disable."""


@people.command("list", epilog="Example: treadle access people list --json")
@click.option("--json", "json_", is_flag=True, help="Print them as JSON.")
@click.pass_context
def list_(ctx: click.Context, json_: bool) -> None:
    """List the people: what they are, by themselves and through groups."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    found = room.people(ws.ledger)
    if json_:
        show.as_json([_plain(p) for p in found])
        return
    if not found:
        show.say("There is nobody yet. Make the first with: treadle access people add NAME --role administrator")
        return
    show.table(
        ["name", "full name", "kind", "roles", "groups", ""],
        [[p.name, p.full, p.kind, ", ".join(p.roles), ", ".join(p.groups), "disabled" if p.disabled else ""] for p in found],
    )


@people.command(epilog="Example: treadle access people add ada --full 'Ada Lovelace' --role ml_engineer --group modellers")
@click.argument("name")
@click.option("--full", default="", help="Their full name.")
@click.option("--email", default="", help="Their mail address.")
@click.option("--role", "roles", multiple=True, help="A role they hold; may be given several times.")
@click.option("--group", "groups", multiple=True, help="A group they are in; may be given several times.")
@click.option("--no-password", is_flag=True, help="They sign in by one-time links only, until somebody gives them a password.")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of the input.")
@click.pass_context
def add(
    ctx: click.Context, name: str, full: str, email: str, roles: tuple[str, ...], groups: tuple[str, ...], no_password: bool, password_stdin: bool
) -> None:
    """Add a person. The password is asked for twice and not shown."""
    from treadle.access import people as room

    if no_password and password_stdin:
        raise UsageError("Give either --no-password or --password-stdin.")
    ws = show.workspace(ctx)
    room.check_new(name, roles, groups, ws.ledger)  # before a password is typed for nothing
    password = None if no_password else _password(password_stdin)
    person = room.add_person(
        name, ws.ledger, ws.clock, actor=ws.actor, full=full, email=email, password=password, roles=roles, groups=groups
    )  # fmt: skip
    show.say(f"{person.name} is added" + (f": {', '.join(person.roles)}" if person.roles else ", and may do nothing yet: give a role with --role"))


@people.command(epilog="Example: treadle access people change ada --give ml_engineer --leave interns")
@click.argument("name")
@click.option("--full", help="Their full name.")
@click.option("--email", help="Their mail address.")
@click.option("--give", multiple=True, metavar="ROLE", help="A role they hold from now on.")
@click.option("--take", multiple=True, metavar="ROLE", help="A role they no longer hold.")
@click.option("--join", multiple=True, metavar="GROUP", help="A group they are in from now on.")
@click.option("--leave", multiple=True, metavar="GROUP", help="A group they are no longer in.")
@click.pass_context
def change(
    ctx: click.Context, name: str, full: str | None, email: str | None, give: tuple[str, ...], take: tuple[str, ...], join: tuple[str, ...],
    leave: tuple[str, ...],
) -> None:  # fmt: skip
    """Change a person. It holds with their next request."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    person = room.get_person(name, ws.ledger)
    wanted = _moved(person.own_roles, give, take, "role") if give or take else None
    inside = _moved(person.groups, join, leave, "group") if join or leave else None
    changed = room.change_person(
        name, ws.ledger, ws.clock, actor=ws.actor, full=full, email=email, roles=wanted, groups=inside, expect=person.version
    )  # fmt: skip
    show.say(f"{changed.name}: {', '.join(changed.roles) or 'no role'}" + (f"; in {', '.join(changed.groups)}" if changed.groups else ""))


@people.command(epilog="Example: treadle access people password ada")
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of the input.")
@click.pass_context
def password(ctx: click.Context, name: str, password_stdin: bool) -> None:
    """Give a person a new password; all their sessions end."""
    from treadle.access import people as room
    from treadle.access import throttle

    ws = show.workspace(ctx)
    person = room.get_person(name, ws.ledger)
    room.set_password(person.name, _password(password_stdin), ws.ledger, ws.clock, actor=ws.actor)
    throttle.forget(person.name, ws.ledger, ws.clock)
    show.say(f"{person.name} has a new password; their sessions have ended")


@people.command(epilog="Example: treadle access people disable ada")
@click.argument("name")
@click.pass_context
def disable(ctx: click.Context, name: str) -> None:
    """Let a person in no more: their sessions end and their tokens stop at once."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    room.change_person(name, ws.ledger, ws.clock, actor=ws.actor, disabled=True)
    show.say(f"{name} is disabled")


@people.command(epilog="Example: treadle access people enable ada")
@click.argument("name")
@click.pass_context
def enable(ctx: click.Context, name: str) -> None:
    """Let a person in again."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    room.change_person(name, ws.ledger, ws.clock, actor=ws.actor, disabled=False)
    show.say(f"{name} is enabled")


@people.command(epilog="Example: treadle access people unlock ada")
@click.argument("name")
@click.pass_context
def unlock(ctx: click.Context, name: str) -> None:
    """Forget the wrong sign-ins with this name, so that nobody has to wait."""
    from treadle.access import people as room
    from treadle.access import throttle

    ws = show.workspace(ctx)
    person = room.get_person(name, ws.ledger)
    throttle.forget(person.name, ws.ledger, ws.clock)
    show.say(f"{person.name} may try at once")


@access.command(epilog="Example: treadle access link ada --minutes 30")
@click.argument("name", default="")
@click.option("--minutes", type=click.IntRange(1, 1440), default=10, show_default=True, help="How long it is good.")
@click.option("--port", type=click.IntRange(1, 65535), default=8800, show_default=True, help="The console's port, where it is on this machine only.")
@click.pass_context
def link(ctx: click.Context, name: str, minutes: int, port: int) -> None:
    """Print a link that signs a person in once; yourself, on this machine, if no name is given."""
    from treadle.access import laptop
    from treadle.access.links import make_link

    ws = show.workspace(ctx)
    person = name or laptop.owner(ws.actor, ws.ledger, ws.clock).name
    base = ws.settings["console_url"].rstrip("/") or f"http://127.0.0.1:{port}"
    print(f"{base}/sign-in/link?key={make_link(person, ws.ledger, ws.clock, minutes, actor=ws.actor)}")
    show.say(f"This link signs {person} in once within {minutes} minutes. It is shown this once.")


@access.command("who-may", epilog="Example: treadle access who-may deployments.change")
@click.argument("permission")
@click.option("--json", "json_", is_flag=True, help="Print them as JSON.")
@click.pass_context
def who_may(ctx: click.Context, permission: str, json_: bool) -> None:
    """List who may do one thing, and by which roles."""
    from treadle.access import people as room
    from treadle.access.permissions import PERMISSIONS

    if permission not in PERMISSIONS:
        raise UsageError(f"There is no permission {permission!r}.", hint=f"Permissions are: {', '.join(PERMISSIONS)}.")
    ws = show.workspace(ctx)
    known = room.roles(ws.ledger)
    found = [(p, [r for r in p.roles if permission in known[r].permissions]) for p in room.people(ws.ledger) if p.may(permission)]
    if json_:
        show.as_json([{"name": p.name, "by": by} for p, by in found])
        return
    if not found:
        show.say(f"Nobody may {permission}.")
    show.table(["name", "by"], [[p.name, ", ".join(by)] for p, by in found])


access.add_command(groups)
access.add_command(roles)
access.add_command(tokens)
access.add_command(sessions)


def _password(from_input: bool) -> str:
    if from_input:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask for the password.", hint="Use --password-stdin.")
    return str(click.prompt("Password", hide_input=True, confirmation_prompt="The same again"))


def _moved(now: tuple[str, ...], more: tuple[str, ...], less: tuple[str, ...], what: str) -> list[str]:
    for name in less:
        if name not in now:
            raise UsageError(f"They have no {what} {name!r} of their own.", hint=f"They have: {', '.join(now) or 'none'}.")
    return [n for n in (*now, *more) if n not in less]


def _plain(person: Any) -> dict[str, Any]:
    return {
        "name": person.name, "full": person.full, "email": person.email, "kind": person.kind, "roles": list(person.roles),
        "own_roles": list(person.own_roles), "groups": list(person.groups), "permissions": sorted(person.permissions), "disabled": person.disabled,
    }  # fmt: skip
