"""`treadle access groups` and `treadle access roles`: who holds roles together, and what a role holds."""

from __future__ import annotations

import click

from treadle.cli import show
from treadle.core.errors import NotFound


@click.group(epilog="Example: treadle access groups add modellers --role data_scientist --member ada")
def groups() -> None:
    """Groups that hold roles together: list, add, change, remove."""


@groups.command("list", epilog="Example: treadle access groups list")
@click.option("--json", "json_", is_flag=True, help="Print them as JSON.")
@click.pass_context
def list_(ctx: click.Context, json_: bool) -> None:
    """List the groups with their roles and members."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    found = room.groups(ws.ledger)
    if json_:
        show.as_json([{"name": g.name, "roles": list(g.roles), "members": list(g.members)} for g in found])
        return
    if not found:
        show.say("There are no groups. Make one with: treadle access groups add NAME --role ROLE")
        return
    show.table(["group", "roles", "members"], [[g.name, ", ".join(g.roles), ", ".join(g.members)] for g in found])


@groups.command(epilog="Example: treadle access groups add modellers --role data_scientist --member ada")
@click.argument("name")
@click.option("--role", "roles", multiple=True, help="A role its members hold; may be given several times.")
@click.option("--member", "members", multiple=True, help="Somebody in it; may be given several times.")
@click.pass_context
def add(ctx: click.Context, name: str, roles: tuple[str, ...], members: tuple[str, ...]) -> None:
    """Make a group."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    group = room.add_group(name, ws.ledger, ws.clock, actor=ws.actor, roles=roles, members=members)
    show.say(_said(group))


@groups.command(epilog="Example: treadle access groups change modellers --remove ada --give ml_engineer")
@click.argument("name")
@click.option("--give", multiple=True, metavar="ROLE", help="A role its members hold from now on.")
@click.option("--take", multiple=True, metavar="ROLE", help="A role they no longer hold through it.")
@click.option("--add", "more", multiple=True, metavar="PERSON", help="Somebody who is in it from now on.")
@click.option("--remove", "less", multiple=True, metavar="PERSON", help="Somebody who is no longer in it.")
@click.pass_context
def change(ctx: click.Context, name: str, give: tuple[str, ...], take: tuple[str, ...], more: tuple[str, ...], less: tuple[str, ...]) -> None:
    """Change a group's roles and members."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    group = room.find_group(name, ws.ledger)
    for wrong in (*(r for r in take if r not in group.roles), *(p for p in less if p not in group.members)):
        raise NotFound(f"Group {group.name!r} does not have {wrong!r}.", hint="See: treadle access groups list")
    changed = room.change_group(
        name, ws.ledger, ws.clock, actor=ws.actor, roles=[r for r in (*group.roles, *give) if r not in take],
        members=[m for m in (*group.members, *more) if m not in less], expect=group.version,
    )  # fmt: skip
    show.say(_said(changed))


@groups.command(epilog="Example: treadle access groups remove modellers")
@click.argument("name")
@click.pass_context
def remove(ctx: click.Context, name: str) -> None:
    """Take a group away; its members lose what it gave them."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    room.remove_group(name, ws.ledger, ws.clock, actor=ws.actor)
    show.say(f"group {name} is removed")


@click.group(epilog="Example: treadle access roles show ml_engineer")
def roles() -> None:
    """Roles, which are profiles of permissions: list, show, set, reset."""


@roles.command("list", epilog="Example: treadle access roles list")
@click.option("--json", "json_", is_flag=True, help="Print them as JSON.")
@click.pass_context
def list_roles(ctx: click.Context, json_: bool) -> None:
    """List the roles."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    found = room.roles(ws.ledger).values()
    if json_:
        said = [{"name": r.name, "title": r.title, "sentence": r.sentence, "permissions": sorted(r.permissions), "edited": r.edited} for r in found]
        show.as_json(said)
        return
    show.table(
        ["role", "permissions", "", "what it is about"],
        [[r.name, len(r.permissions), "edited" if r.edited else "" if r.built_in else "own", r.sentence] for r in found],
    )


@roles.command("show", epilog="Example: treadle access roles show ml_engineer")
@click.argument("name")
@click.pass_context
def show_(ctx: click.Context, name: str) -> None:
    """Say what a role may do."""
    from treadle.access import people as room
    from treadle.access.permissions import PERMISSIONS

    ws = show.workspace(ctx)
    role = room.roles(ws.ledger).get(name)
    if role is None:
        raise NotFound(f"There is no role {name!r}.", hint="See: treadle access roles list")
    show.say(f"{role.title}: {role.sentence}")
    show.columns([[p, sentence] for p, sentence in PERMISSIONS.items() if p in role.permissions])


@roles.command("set", epilog="Example: treadle access roles set auditor --title Auditor --allow audit.see --allow audit.export")
@click.argument("name")
@click.option("--title", default="", help="What it is called; as it was if not given.")
@click.option("--about", default="", help="One sentence; as it was if not given.")
@click.option("--allow", "allowed", multiple=True, metavar="PERMISSION", required=True, help="What it allows; all of it, each with its own --allow.")
@click.pass_context
def set_(ctx: click.Context, name: str, title: str, about: str, allowed: tuple[str, ...]) -> None:
    """Say what a role holds: one that comes with Treadle, or one of your own. Whoever holds it has it with the next request."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    before = room.roles(ws.ledger).get(name)
    role = room.set_role(
        name, title or (before.title if before else name), about or (before.sentence if before else ""), allowed, ws.ledger, ws.clock,
        actor=ws.actor, expect=before.version if before else 0,
    )  # fmt: skip
    show.say(f"role {role.name} allows {', '.join(sorted(role.permissions))}")


@roles.command(epilog="Example: treadle access roles reset ml_engineer")
@click.argument("name")
@click.pass_context
def reset(ctx: click.Context, name: str) -> None:
    """Give a role that comes with Treadle its profile back, or take one of your own away."""
    from treadle.access import people as room

    ws = show.workspace(ctx)
    room.reset_role(name, ws.ledger, ws.clock, actor=ws.actor)
    show.say(f"role {name} is as it came" if name in room.roles(ws.ledger) else f"role {name} is gone")


def _said(group: object) -> str:
    from treadle.access.known import Group

    assert isinstance(group, Group)
    return f"group {group.name}: {', '.join(group.roles) or 'no role'}; {', '.join(group.members) or 'nobody in it'}"
