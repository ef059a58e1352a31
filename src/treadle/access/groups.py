"""Groups that hold roles together, and what a role holds: built-in profiles as a project changed them, and its own."""

from __future__ import annotations

from collections.abc import Iterable

from treadle.access.known import (
    GROUP,
    PERSON,
    ROLE,
    Group,
    changing,
    find_group,
    find_role,
    folded,
    people,
    role_name,
    same_version,
    told,
)  # fmt: skip
from treadle.access.permissions import ADMINISTRATOR, PERMISSIONS, ROLES, Role
from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, NotFound, Refused, UsageError
from treadle.core.records import Ref
from treadle.ports.ledger import Ledger


def add_group(
    name: str, ledger: Ledger, clock: Clock, *, actor: str, roles: Iterable[str] = (), members: Iterable[str] = (), address: str = ""
) -> Group:
    """Make a group. Raises Conflict when there is one of that name; NotFound for an unknown role or member."""
    named = folded(name, "name of a group")
    with changing(ledger):
        record = ledger.get(GROUP, named)
        if record is not None and not record["gone"]:
            raise Conflict(f"There is a group {named!r} already.")
        body = {"roles": _known(roles, ledger), "gone": False, "by": actor, "at": iso(clock.now())}
        ledger.put(GROUP, named, body, expect=record.version if record is not None else 0)
        inside = _let_in(named, members, ledger)
        told("access.group.added", Ref(GROUP, named), {"roles": body["roles"], "members": inside}, ledger, actor=actor, address=address)
    return find_group(named, ledger)


def change_group(
    name: str, ledger: Ledger, clock: Clock, *, actor: str, roles: Iterable[str] | None = None, members: Iterable[str] | None = None,
    expect: int | None = None, address: str = "",
) -> Group:  # fmt: skip
    """Replace a group's roles, its members, or both. Raises NotFound; Conflict if `expect` is not its version; Refused as for people."""
    named = folded(name, "name of a group")
    with changing(ledger):
        group = find_group(named, ledger)
        same_version(group.version, expect, f"group {named!r}")
        said: dict[str, object] = {}
        kept = list(group.roles) if roles is None else _known(roles, ledger)
        if kept != list(group.roles):
            said["roles"] = [list(group.roles), kept]
        if members is not None:
            inside = _let_in(named, members, ledger)
            if inside != list(group.members):
                said["members"] = [list(group.members), inside]
        if said:  # also when members alone changed: whoever looked at the group before is told
            body = {"roles": kept, "gone": False, "by": actor, "at": iso(clock.now())}
            ledger.put(GROUP, named, body, expect=group.version)
            told("access.group.changed", Ref(GROUP, named), said, ledger, actor=actor, address=address)
    return find_group(named, ledger)


def remove_group(name: str, ledger: Ledger, clock: Clock, *, actor: str, expect: int | None = None, address: str = "") -> None:
    """Take a group away; its members lose what it gave them. Raises NotFound, Conflict, Refused."""
    named = folded(name, "name of a group")
    with changing(ledger):
        group = find_group(named, ledger)
        same_version(group.version, expect, f"group {named!r}")
        _let_in(named, (), ledger)
        ledger.put(GROUP, named, {"roles": [], "gone": True, "by": actor, "at": iso(clock.now())}, expect=group.version)
        said = {"roles": list(group.roles), "members": list(group.members)}
        told("access.group.removed", Ref(GROUP, named), said, ledger, actor=actor, address=address)


def set_role(
    name: str, title: str, sentence: str, permissions: Iterable[str], ledger: Ledger, clock: Clock, *, actor: str, expect: int | None = None,
    address: str = "",
) -> Role:  # fmt: skip
    """Say what a role holds: one that comes with Treadle, or one of the project's own. Whoever holds it has it with the next request.

    Args:
        expect: the role's `version`, 0 for one that nobody changed yet.
    Raises: UsageError for an unknown permission; Refused for the administrator's, or when nobody would be left who may change access.
    """
    role_name(name)
    wanted = sorted(set(permissions))
    unknown = [p for p in wanted if p not in PERMISSIONS]
    if unknown:
        raise UsageError(f"There is no permission {unknown[0]!r}.", hint=f"Permissions are: {', '.join(PERMISSIONS)}.")
    if not title.strip() or any(len(t) > 300 or not t.isprintable() for t in (title, sentence)):
        raise UsageError("A role needs a title, and says in a sentence what it is about: one line of at most 300 characters each.")
    with changing(ledger):
        _put_role(name, {"title": title.strip(), "sentence": sentence.strip(), "permissions": wanted, "gone": False}, ledger, clock, actor, expect)
        before = find_role(name, ledger)
        told("access.role.changed", Ref(ROLE, name), {"permissions": wanted}, ledger, actor=actor, address=address)
    assert before is not None
    return before


def reset_role(name: str, ledger: Ledger, clock: Clock, *, actor: str, expect: int | None = None, address: str = "") -> None:
    """Give a built-in role its profile back, or take a role of the project's own away. Raises NotFound; Refused while somebody holds it."""
    with changing(ledger):
        if find_role(name, ledger) is None:
            raise NotFound(f"There is no role {name!r}.", hint="See: treadle access roles list")
        if name not in ROLES:
            held = [p.name for p in people(ledger) if name in p.roles] + [r.id for r in ledger.find(GROUP, {"gone": False}) if name in r["roles"]]
            if held:
                raise Refused(f"Role {name!r} is held by {held[0]!r}.", hint="Take it from people and groups first.")
        _put_role(name, {"title": "", "sentence": "", "permissions": [], "gone": True}, ledger, clock, actor, expect)
        told("access.role.reset", Ref(ROLE, name), {}, ledger, actor=actor, address=address)


def _put_role(name: str, body: dict[str, object], ledger: Ledger, clock: Clock, actor: str, expect: int | None) -> None:
    if name == ADMINISTRATOR:
        raise Refused("The administrator's role holds everything and cannot be changed.", hint="Make a role of your own with what you want.")
    record = ledger.get(ROLE, name)
    version = record.version if record is not None else 0
    same_version(0 if record is not None and record["gone"] else version, expect, f"role {name!r}")
    ledger.put(ROLE, name, {**body, "by": actor, "at": iso(clock.now())}, expect=version)


def _let_in(group: str, members: Iterable[str], ledger: Ledger) -> list[str]:
    """Make exactly these the members; returns their names."""
    wanted = sorted({folded(m, "name of a person") for m in members})
    for name in wanted:
        if ledger.get(PERSON, name) is None:
            raise NotFound(f"There is no person {name!r}.", hint="See: treadle access people list")
    for record in ledger.find(PERSON):
        inside = group in record["groups"]
        if inside != (record.id in wanted):
            left = [g for g in record["groups"] if g != group]
            ledger.put(PERSON, record.id, {**record.body, "groups": left if inside else sorted([*left, group])}, expect=record.version)
    return wanted


def _known(names: Iterable[str], ledger: Ledger) -> list[str]:
    for name in (found := sorted(set(names))):
        if find_role(name, ledger) is None:
            raise NotFound(f"There is no role {name!r}.", hint="See: treadle access roles list")
    return found
