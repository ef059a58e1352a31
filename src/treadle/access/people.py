"""People: added, changed, disabled, and known by their password. Nobody is ever deleted, so that no name ever means two persons."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from treadle.access.groups import add_group, change_group, remove_group, reset_role, set_role
from treadle.access.known import (
    GROUP,
    KINDS,
    PERSON,
    Group,
    Person,
    changing,
    find_group,
    find_person,
    find_role,
    folded,
    groups,
    has_administrator,
    people,
    roles,
    same_version,
    told,
)  # fmt: skip
from treadle.access.passwords import HASHING, Hashing, check_rule, hashed, matches, outdated
from treadle.access.sessions import end_all
from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, NotFound, StorageError, UsageError
from treadle.core.records import Record, Ref
from treadle.ports.ledger import Ledger

__all__ = [
    "Group", "Person", "add_group", "add_person", "change_group", "change_person", "check_new", "check_password", "find_group", "find_person",
    "get_person", "groups", "has_administrator", "people", "remove_group", "reset_role", "roles", "set_password", "set_role", "version_of",
]  # fmt: skip

PASSWORD = "password"  # the hashes are records of their own: whoever lists people never holds one


def add_person(
    name: str, ledger: Ledger, clock: Clock, *, actor: str, full: str = "", email: str = "", password: str | None = None,
    roles: Iterable[str] = (), groups: Iterable[str] = (), kind: str = "local", address: str = "", hashing: Hashing = HASHING,
) -> Person:  # fmt: skip
    """Make a person. Without a password they sign in by a one-time link or with the OpenID provider.

    Raises: UsageError for a bad name or password; Conflict when the name is taken, in any case or form; NotFound for an unknown role or group.
    """
    roles, groups = tuple(roles), tuple(groups)
    named = check_new(name, roles, groups, ledger)
    if kind not in KINDS[:3]:
        raise UsageError(f"{kind!r} is not a kind of person.", hint=f"Kinds are: {', '.join(KINDS[:3])}.")
    if password is not None:
        check_rule(password, named)
    body = {
        "full": _text(full, "full name"), "email": _text(email, "address"), "kind": kind, "roles": _roles(roles, ledger),
        "groups": _groups(groups, ledger), "disabled": False, "by": actor, "at": iso(clock.now()),
    }  # fmt: skip
    secret = hashed(password, hashing) if password is not None else None
    with changing(ledger):
        check_new(named, roles, groups, ledger)  # again: somebody else may have been quicker
        ledger.put(PERSON, named, body, expect=0)
        if secret is not None:
            ledger.put(PASSWORD, named, {"hash": secret, "at": iso(clock.now())})
        said = {"kind": kind, "roles": body["roles"], "groups": body["groups"], "password": secret is not None}
        told("access.person.added", Ref(PERSON, named), said, ledger, actor=actor, address=address)
    return _found(named, ledger)


def check_new(name: str, roles: Iterable[str], groups: Iterable[str], ledger: Ledger) -> str:
    """The name as it would be kept, if a person of this name, roles and groups could be added now. Raises as `add_person`."""
    named = folded(name, "name of a person")
    if ledger.get(PERSON, named) is not None:
        raise Conflict(f"There is a person {named!r} already.", hint="Names that differ in case or form only are one name.")
    _roles(roles, ledger)
    _groups(groups, ledger)
    return named


def get_person(name: str, ledger: Ledger) -> Person:
    """The person as `find_person`. Raises NotFound."""
    named = folded(name, "name of a person")
    _record(named, ledger)
    return _found(named, ledger)


def change_person(
    name: str, ledger: Ledger, clock: Clock, *, actor: str, full: str | None = None, email: str | None = None, roles: Iterable[str] | None = None,
    groups: Iterable[str] | None = None, disabled: bool | None = None, expect: int | None = None, address: str = "",
) -> Person:  # fmt: skip
    """Change what is given; roles and groups are replaced as a whole. Disabling ends all sessions at once.

    Raises: NotFound; Conflict if `expect` is not the version it has; Refused when nobody would be left who may change access.
    """
    named = folded(name, "name of a person")
    with changing(ledger):
        record = _record(named, ledger)
        same_version(record.version, expect, f"person {named!r}")
        wanted: dict[str, Any] = {
            "full": None if full is None else _text(full, "full name"), "email": None if email is None else _text(email, "address"),
            "roles": None if roles is None else _roles(roles, ledger), "groups": None if groups is None else _groups(groups, ledger),
            "disabled": disabled,
        }  # fmt: skip
        changed = {k: v for k, v in wanted.items() if v is not None and v != record[k]}
        if changed:
            ledger.put(PERSON, named, {**record.body, **changed}, expect=record.version)
            # Full names and addresses are not written into a log that nobody can ever take them out of again.
            said: dict[str, Any] = {k: [record[k], v] for k, v in changed.items() if k not in ("full", "email")}
            said |= {k: "changed" for k in changed if k in ("full", "email")}
            told("access.person.changed", Ref(PERSON, named), said, ledger, actor=actor, address=address)
        if changed.get("disabled"):
            end_all(named, ledger, clock, actor=actor, address=address)
    return _found(named, ledger)


def set_password(
    name: str, password: str, ledger: Ledger, clock: Clock, *, actor: str, address: str = "", hashing: Hashing = HASHING
) -> None:
    """Give a person a new password; all their sessions end. Raises NotFound; UsageError for a password that is not good enough."""
    named = folded(name, "name of a person")
    check_rule(password, named)
    _record(named, ledger)
    secret = hashed(password, hashing)
    with changing(ledger):
        ledger.put(PASSWORD, named, {"hash": secret, "at": iso(clock.now())})
        told("access.password.set", Ref(PERSON, named), {}, ledger, actor=actor, address=address)
        end_all(named, ledger, clock, actor=actor, address=address)


def check_password(name: str, password: str, ledger: Ledger, *, hashing: Hashing = HASHING) -> Person | None:
    """Who it is, if it is their password and they are not disabled. It takes the same time for a name nobody has.

    For sign-in use `signin.with_password`, which also counts wrong ones and writes them down.
    """
    person = find_person(name, ledger)
    record = ledger.get(PASSWORD, person.name) if person is not None else None
    good = matches(record["hash"] if record is not None else "", password, hashing)
    if person is None or record is None or not good or person.disabled:
        return None
    if outdated(record["hash"], hashing):
        with suppress(Conflict, StorageError):  # it was changed this moment, or cannot be: the next sign-in tries again
            ledger.put(PASSWORD, person.name, {**record.body, "hash": hashed(password, hashing)}, expect=record.version)
    return person


def version_of(name: str, ledger: Ledger) -> int:
    """The version of a person's record, for `expect`. Raises NotFound."""
    return _record(folded(name), ledger).version


def _record(name: str, ledger: Ledger) -> Record:
    record = ledger.get(PERSON, name)
    if record is None:
        raise NotFound(f"There is no person {name!r}.", hint="See: treadle access people list")
    return record


def _found(name: str, ledger: Ledger) -> Person:
    person = find_person(name, ledger)
    assert person is not None
    return person


def _roles(names: Iterable[str], ledger: Ledger) -> list[str]:
    for name in (found := sorted(set(names))):
        if find_role(name, ledger) is None:
            raise NotFound(f"There is no role {name!r}.", hint="See: treadle access roles list")
    return found


def _groups(names: Iterable[str], ledger: Ledger) -> list[str]:
    for name in (found := sorted({folded(n, "name of a group") for n in names})):
        record = ledger.get(GROUP, name)
        if record is None or record["gone"]:
            raise NotFound(f"There is no group {name!r}.", hint="See: treadle access groups list")
    return found


def _text(text: str, what: str) -> str:
    if len(text) > 200 or not text.isprintable():
        raise UsageError(f"A person's {what} is one line of at most 200 characters.")
    return text.strip()
