"""Access: people, groups and what each role may do; who is signed in, and by which tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from treadle.access import groups as group_records
from treadle.access import known, links, people, permissions, sessions, tokens
from treadle.access.known import Group, Person
from treadle.access.permissions import Role
from treadle.access.sessions import Session
from treadle.access.tokens import Token
from treadle.core.errors import NotFound
from treadle.web.console.operation import Asked, Operation

Version = Annotated[int, msgspec.Meta(ge=0)]


class NewPerson(msgspec.Struct, frozen=True, kw_only=True):
    """A person to be added; without a password they sign in by a one-time link or the OpenID provider."""

    name: str
    full: str = ""
    email: str = ""
    password: str = ""
    roles: list[str] = []
    groups: list[str] = []


class ChangedPerson(msgspec.Struct, frozen=True, kw_only=True):
    """What a person holds from now on, as a whole; `expect` is the version that was looked at."""

    expect: Version
    full: str = ""
    email: str = ""
    roles: list[str] = []
    groups: list[str] = []
    disabled: bool = False


class NewPassword(msgspec.Struct, frozen=True, kw_only=True):
    """A new password."""

    password: str


class NewGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group to be made."""

    name: str
    roles: list[str] = []
    members: list[str] = []


class ChangedGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What a group holds from now on, as a whole."""

    expect: Version
    roles: list[str] = []
    members: list[str] = []


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The version that was looked at."""

    expect: Version


class ChangedRole(msgspec.Struct, frozen=True, kw_only=True):
    """What a role holds from now on, as a whole."""

    expect: Version
    title: str
    sentence: str = ""
    permissions: list[str] = []


def access(asked: Asked) -> dict[str, Any]:
    """People, groups and roles."""
    ledger = asked.ws.ledger
    return {
        "people": [_person(p) for p in people.people(ledger)], "groups": [_group(g) for g in people.groups(ledger)],
        "roles": [_role(r) for r in people.roles(ledger).values()], "permissions": dict(permissions.PERMISSIONS),
        "provider": asked.ws.settings["oidc_issuer"],
    }  # fmt: skip


def person(asked: Asked) -> dict[str, Any]:
    """One person: what they may do, where they are signed in, their tokens. Raises NotFound."""
    return _whole(asked, people.get_person(asked["person"], asked.ws.ledger))


def role(asked: Asked) -> dict[str, Any]:
    """One role. Raises NotFound."""
    found = known.find_role(asked["role"], asked.ws.ledger)
    if found is None:
        raise NotFound(f"There is no role {asked['role']!r}.")
    return {**_role(found), "all": dict(permissions.PERMISSIONS)}


def group(asked: Asked) -> dict[str, Any]:
    """One group. Raises NotFound."""
    found = _group(known.find_group(asked["group"], asked.ws.ledger))
    return {**found, "everybody": [p.name for p in people.people(asked.ws.ledger)], "all": sorted(people.roles(asked.ws.ledger))}


def add(asked: Asked) -> dict[str, Any]:
    """Add a person. Raises Conflict, UsageError, NotFound."""
    b, ws = asked.body, asked.ws
    made = people.add_person(
        b.name, ws.ledger, ws.clock, actor=asked.person.name, full=b.full, email=b.email, password=b.password or None, roles=b.roles, groups=b.groups,
        address=asked.address,
    )  # fmt: skip
    return {**_person(made), "goes_to": f"/access/people/{made.name}"}


def change(asked: Asked) -> dict[str, Any]:
    """Change what a person holds. Raises NotFound; Conflict when somebody else was first; Refused for the last administrator."""
    b, ws = asked.body, asked.ws
    return _person(people.change_person(
        asked["person"], ws.ledger, ws.clock, actor=asked.person.name, full=b.full, email=b.email, roles=b.roles, groups=b.groups,
        disabled=b.disabled, expect=b.expect, address=asked.address,
    ))  # fmt: skip


def password(asked: Asked) -> dict[str, Any]:
    """Set a person's password; their sessions end."""
    people.set_password(asked["person"], asked.body.password, asked.ws.ledger, asked.ws.clock, actor=asked.person.name, address=asked.address)
    return {}


def link(asked: Asked) -> dict[str, Any]:
    """A link that signs a person in once, within ten minutes; it is shown this once."""
    ws = asked.ws
    key = links.make_link(asked["person"], ws.ledger, ws.clock, actor=asked.person.name, address=asked.address)
    base = ws.settings["console_url"].rstrip("/")
    return {"secret_shown_once": f"{base}/sign-in/link?key={key}", "what": f"A link that signs {asked['person']} in once, within ten minutes"}


def end(asked: Asked) -> dict[str, Any]:
    """End all sessions of a person."""
    ws = asked.ws
    return {"ended": sessions.end_all(asked["person"], ws.ledger, ws.clock, actor=asked.person.name, address=asked.address)}


def add_group(asked: Asked) -> dict[str, Any]:
    """Make a group."""
    b, ws = asked.body, asked.ws
    made = group_records.add_group(
        b.name, ws.ledger, ws.clock, actor=asked.person.name, roles=b.roles, members=b.members, address=asked.address
    )
    return _group(made)


def change_group(asked: Asked) -> dict[str, Any]:
    """Replace what a group holds and who is in it."""
    b, ws = asked.body, asked.ws
    return _group(group_records.change_group(
        asked["group"], ws.ledger, ws.clock, actor=asked.person.name, roles=b.roles, members=b.members, expect=b.expect, address=asked.address
    ))  # fmt: skip


def remove_group(asked: Asked) -> dict[str, Any]:
    """Take a group away."""
    ws = asked.ws
    group_records.remove_group(asked["group"], ws.ledger, ws.clock, actor=asked.person.name, expect=asked.body.expect, address=asked.address)
    return {"goes_to": "/access"}


def set_role(asked: Asked) -> dict[str, Any]:
    """Say what a role holds; a new one if there is none of this name."""
    b, ws = asked.body, asked.ws
    return _role(group_records.set_role(
        asked["role"], b.title, b.sentence, b.permissions, ws.ledger, ws.clock, actor=asked.person.name, expect=b.expect, address=asked.address
    ))  # fmt: skip


def reset_role(asked: Asked) -> dict[str, Any]:
    """Give a built-in role its profile back, or take one of the project's own away."""
    ws = asked.ws
    group_records.reset_role(asked["role"], ws.ledger, ws.clock, actor=asked.person.name, expect=asked.body.expect, address=asked.address)
    return {"goes_to": "/access"}


def _whole(asked: Asked, found: Person) -> dict[str, Any]:
    ledger, clock = asked.ws.ledger, asked.ws.clock
    return {
        **_person(found), "sessions": [_session(s) for s in sessions.sessions(ledger, clock, person=found.name)],
        "tokens": [token(t) for t in tokens.tokens(ledger, found.name)], "all_roles": [_role(r) for r in people.roles(ledger).values()],
        "all_groups": [g.name for g in people.groups(ledger)],
    }  # fmt: skip


def _person(p: Person) -> dict[str, Any]:
    return {
        "name": p.name, "full": p.full, "email": p.email, "kind": p.kind, "groups": list(p.groups), "roles": list(p.roles),
        "own_roles": list(p.own_roles), "permissions": sorted(p.permissions), "disabled": p.disabled, "version": p.version,
    }  # fmt: skip


def _group(g: Group) -> dict[str, Any]:
    return {"name": g.name, "roles": list(g.roles), "members": list(g.members), "version": g.version}


def _role(r: Role) -> dict[str, Any]:
    return {
        "name": r.name, "title": r.title, "sentence": r.sentence, "permissions": sorted(r.permissions), "built_in": r.built_in, "edited": r.edited,
        "version": r.version,
    }  # fmt: skip


def _session(s: Session) -> dict[str, Any]:
    return {"id": s.id, "how": s.how, "opened": s.opened, "used": s.used, "ends": s.ends, "address": s.address}


def token(t: Token) -> dict[str, Any]:
    """A token without its secret."""
    wanted = None if t.permissions is None else sorted(t.permissions)
    return {"id": t.id, "name": t.name, "permissions": wanted, "made": t.made, "ends": t.ends, "used": t.used, "revoked": t.revoked}


def _shows(name: str) -> Any:
    def shown(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
        return name, {"a": given}

    return shown


SEE, CHANGE = "access.see", "access.change"
OPERATIONS = [
    Operation("access.see", "/access", SEE, access, "People, groups and roles.", page=_shows("access.html")),
    Operation("access.person", "/access/people/{person}", SEE, person, "One person: roles, sessions, tokens.", page=_shows("person.html")),
    Operation("access.role", "/access/roles/{role}", SEE, role, "What one role may do.", page=_shows("role.html")),
    Operation("access.group", "/access/groups/{group}", SEE, group, "One group.", page=_shows("group.html")),
    Operation(
        "access.add_person", "/access/people", CHANGE, add, "Add a person.", method="POST", body=NewPerson, done="The person was added.", secret=True
    ),
    Operation(
        "access.change_person", "/access/people/{person}", CHANGE, change, "Say what a person holds; all of it is replaced.", method="POST",
        body=ChangedPerson, done="The person was changed; it counts with their next request.",
    ),
    Operation(
        "access.set_password", "/access/people/{person}/password", CHANGE, password, "Set a password; the person's sessions end.", method="POST",
        body=NewPassword, done="The password was set, and the person's sessions ended.", secret=True,
    ),
    Operation(
        "access.make_link", "/access/people/{person}/link", CHANGE, link, "A link that signs a person in once.", method="POST",
        done="The link is below. It is shown this once.", secret=True,
    ),
    Operation(
        "access.end_sessions", "/access/people/{person}/end", CHANGE, end, "End a person's sessions.", method="POST", done="The sessions ended."
    ),
    Operation("access.add_group", "/access/groups", CHANGE, add_group, "Make a group.", method="POST", body=NewGroup, done="The group was made."),
    Operation(
        "access.change_group", "/access/groups/{group}", CHANGE, change_group, "Say what a group holds and who is in it.", method="POST",
        body=ChangedGroup, done="The group was changed.",
    ),
    Operation(
        "access.remove_group", "/access/groups/{group}/remove", CHANGE, remove_group, "Take a group away.", method="POST", body=Seen,
        done="The group was taken away.",
    ),
    Operation(
        "access.set_role", "/access/roles/{role}", CHANGE, set_role, "Say what a role holds.", method="POST", body=ChangedRole,
        done="The role was changed; it counts with the next request of whoever holds it.",
    ),
    Operation(
        "access.reset_role", "/access/roles/{role}/reset", CHANGE, reset_role, "Give a built-in role its profile back, or take one away.",
        method="POST", body=Seen, done="The role is as it came, or gone.",
    ),
]  # fmt: skip
