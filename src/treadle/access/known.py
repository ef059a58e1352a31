"""Who there is, as of now: people, groups and roles read from the record each time, so that a change holds with the next request."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from treadle.access.permissions import ADMINISTRATOR, PERMISSIONS, ROLES, Role
from treadle.core.errors import Conflict, NotFound, Refused, UsageError
from treadle.core.records import Record, Ref
from treadle.ports.ledger import Ledger

PERSON, GROUP, ROLE, STATE = "person", "group", "role", "access_state"
KINDS = ("local", "oidc", "laptop", "token")
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
_ROLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
CHANGE = "access.change"


@dataclass(frozen=True)
class Person:
    """Somebody who may sign in, or acts by a token.

    Attributes:
        kind: 'local', 'oidc', 'laptop', or 'token' for a person whose token acts.
        groups, roles: sorted; roles are their own and those of their groups. own_roles: theirs alone.
        permissions: what all roles together allow; nothing when disabled.
        version: of the record, for `expect`.
    """

    name: str
    full: str = ""
    email: str = ""
    kind: str = "local"
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    permissions: frozenset[str] = frozenset()
    disabled: bool = False
    own_roles: tuple[str, ...] = ()
    version: int = 0

    def may(self, permission: str) -> bool:
        """Whether this is allowed. Raises KeyError for a permission there is not, so that a misspelt one is found by the first test."""
        PERMISSIONS[permission]
        return permission in self.permissions


@dataclass(frozen=True)
class Group:
    """People who hold roles together. `members` and `roles` are sorted; `version` is for `expect`."""

    name: str
    roles: tuple[str, ...]
    members: tuple[str, ...]
    version: int


def folded(name: str, what: str = "name") -> str:
    """A name as it is kept: compatible forms of Unicode and upper case are one and the same. Raises UsageError if it breaks the grammar."""
    text = unicodedata.normalize("NFKC", name).casefold()
    if not _NAME.fullmatch(text):
        shown = name if len(name) <= 60 else name[:57] + "..."
        raise UsageError(f"{shown!r} is not a {what}.", hint="Use 1 to 64 letters a-z, digits, and . _ @ - after the first.")
    return text


def role_name(name: str) -> str:
    """A role's name, else UsageError."""
    if not _ROLE_NAME.fullmatch(name):
        shown = name if len(name) <= 60 else name[:57] + "..."
        raise UsageError(f"{shown!r} is not a name of a role.", hint="Use 1 to 64 lower-case letters, digits and _, a letter first.")
    return name


def find_person(name: str, ledger: Ledger) -> Person | None:
    """The person with their roles and permissions of this moment; None for nobody. Somebody disabled is found, without permissions."""
    try:
        record = ledger.get(PERSON, folded(name))
    except UsageError:
        return None
    if record is None:
        return None
    known: dict[str, Role | None] = {}

    def role(named: str) -> Role | None:
        if named not in known:
            known[named] = find_role(named, ledger)
        return known[named]

    found = [(g, r) for g in record["groups"] if (r := ledger.get(GROUP, g)) is not None and not r["gone"]]
    return _person(record, {g: r["roles"] for g, r in found}, role)


def people(ledger: Ledger) -> list[Person]:
    """Everybody, by name."""
    kept, held = roles(ledger), {r.id: r["roles"] for r in ledger.find(GROUP, {"gone": False})}
    return sorted((_person(r, held, kept.get) for r in ledger.find(PERSON)), key=lambda p: p.name)


def groups(ledger: Ledger) -> list[Group]:
    """The groups, by name."""
    members: dict[str, list[str]] = {}
    for record in ledger.find(PERSON):
        for group in record["groups"]:
            members.setdefault(group, []).append(record.id)
    found = ledger.find(GROUP, {"gone": False})
    return sorted((Group(r.id, tuple(r["roles"]), tuple(sorted(members.get(r.id, []))), r.version) for r in found), key=lambda g: g.name)


def find_group(name: str, ledger: Ledger) -> Group:
    """One group. Raises NotFound."""
    named = folded(name, "name of a group")
    for group in groups(ledger):
        if group.name == named:
            return group
    raise NotFound(f"There is no group {named!r}.", hint="See: treadle access groups list")


def roles(ledger: Ledger) -> dict[str, Role]:
    """The roles by name: those that come with Treadle, as this project changed them, then its own."""
    found = dict(ROLES)
    for record in ledger.find(ROLE):
        role = _role(record)
        if role is not None:
            found[role.name] = role
        elif record.id not in ROLES:
            found.pop(record.id, None)
    return found


def find_role(name: str, ledger: Ledger) -> Role | None:
    """One role as it is now, or None."""
    if name == ADMINISTRATOR:
        return ROLES[name]
    record = ledger.get(ROLE, name)
    return (_role(record) if record is not None else None) or ROLES.get(name)


def _role(record: Record) -> Role | None:
    if record["gone"] or record.id == ADMINISTRATOR:
        return None
    built_in = record.id in ROLES
    allowed = frozenset(record["permissions"]) & PERMISSIONS.keys()
    return Role(record.id, record["title"], record["sentence"], allowed, built_in=built_in, edited=built_in, version=record.version)


def _person(record: Record, held: Mapping[str, Iterable[str]], role: Any) -> Person:
    mine = [g for g in record["groups"] if g in held]
    names = sorted({*record["roles"], *(r for g in mine for r in held[g])})
    all_roles = {n: r for n in names if (r := role(n)) is not None}
    disabled = bool(record["disabled"])
    allowed = frozenset[str]() if disabled else frozenset[str]().union(*(r.permissions for r in all_roles.values()))
    return Person(
        record.id, record["full"], record["email"], record["kind"], tuple(sorted(mine)), tuple(all_roles), allowed, disabled,
        tuple(n for n in sorted(record["roles"]) if n in all_roles), record.version,
    )  # fmt: skip


def has_administrator(ledger: Ledger) -> bool:
    """Whether somebody may say who may do what. Where nobody may, the first one is made on the machine: treadle access people add."""
    return any(person.may(CHANGE) for person in people(ledger))


@contextmanager
def changing(ledger: Ledger) -> Iterator[None]:
    """A change of who may do what: one at a time, whole or not at all, and never one that leaves nobody who may make the next.

    Raises Refused for that.
    """
    with ledger.transaction():
        ledger.put(STATE, "changes", {})  # a second change waits here for the first, so that two cannot each take away the other's last administrator
        before = has_administrator(ledger)
        yield
        if before and not has_administrator(ledger):
            raise Refused("Nobody would be left who may change access.", hint="Make somebody else an administrator first.")


def same_version(found: int, expect: int | None, what: str) -> None:
    """Raises Conflict when somebody changed it since it was looked at."""
    if expect is not None and found != expect:
        raise Conflict(f"Somebody else changed {what} first.", hint="Look at it again, then change it.")


def told(kind: str, ref: Ref, body: Mapping[str, Any], ledger: Ledger, *, actor: str, address: str = "") -> None:
    """Write down who did it, and from where."""
    ledger.append(kind, ref, {**body, **({"address": address} if address else {})}, actor=actor)
