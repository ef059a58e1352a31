"""API tokens: `trd_<id>_<secret>`, of which the hash is stored. A token may what its person may at that moment, or a part of it."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from treadle.access.known import PERSON, Person, find_person, told
from treadle.access.permissions import PERMISSIONS
from treadle.access.secrets import digest_of, new_secret, same
from treadle.core.clock import Clock, iso, parse_time
from treadle.core.errors import Conflict, Forbidden, NotFound, StorageError, UsageError
from treadle.core.records import Record, Ref
from treadle.ports.ledger import Ledger

TOKEN = "access_token"
DAYS, LONGEST = 90, 3650
_EVERY = timedelta(minutes=1)  # how often a use is written down


@dataclass(frozen=True)
class Token:
    """One token, without its secret.

    Attributes:
        permissions: the part of the person's permissions it has; None for all of them.
        made, ends, used, revoked: ISO times, '' for never.
    """

    id: str
    name: str
    person: str
    permissions: frozenset[str] | None
    made: str
    ends: str
    used: str = ""
    revoked: str = ""


def make_token(
    person: str | Person, name: str, ledger: Ledger, clock: Clock, *, actor: str, permissions: Iterable[str] | None = None, days: float = DAYS,
    address: str = "",
) -> tuple[str, Token]:  # fmt: skip
    """Make a token: its text, which is shown this once, and what is known of it.

    Raises: UsageError for a bad name, time or permission; NotFound; Forbidden for what the person may not do, or somebody disabled.
    """
    if not re.fullmatch(r"[\w .@-]{1,100}", name):
        raise UsageError("A token needs a name of letters, digits, blanks and . @ - _, which says what it is for.")
    if not 0 < days <= LONGEST:
        raise UsageError(f"A token lasts more than 0 and at most {LONGEST:,} days.")
    named = person.name if isinstance(person, Person) else person
    owner = find_person(named, ledger)
    if owner is None:
        raise NotFound(f"There is no person {named!r}.", hint="See: treadle access people list")
    if owner.disabled:
        raise Forbidden(f"{owner.name} is disabled.")
    wanted = None if permissions is None else sorted(set(permissions))
    for permission in wanted or ():
        if permission not in PERMISSIONS:
            raise UsageError(f"There is no permission {permission!r}.", hint=f"Permissions are: {', '.join(PERMISSIONS)}.")
        if permission not in owner.permissions:
            raise Forbidden(f"{owner.name} may not do {permission!r}, so no token of theirs may.")
    id, secret, now = base64.b32encode(secrets.token_bytes(5)).decode().lower(), new_secret(), clock.now()
    text = f"trd_{id}_{secret}"
    body = {
        "name": name.strip(), "person": owner.name, "permissions": wanted, "digest": digest_of(text), "made": iso(now),
        "ends": iso(now + timedelta(days=days)), "used": "", "revoked": "", "by": actor,
    }  # fmt: skip
    with ledger.transaction():
        record = ledger.put(TOKEN, id, body, expect=0)
        said = {"token": id, "name": body["name"], "permissions": wanted, "ends": body["ends"]}
        told("access.token.made", Ref(PERSON, owner.name), said, ledger, actor=actor, address=address)
    return text, _token(record)


def token_of(text: str, ledger: Ledger, clock: Clock) -> tuple[Token, Person] | None:
    """Whose token it is, with what it may do now; None when it is not known, has ended, was revoked, or the person is disabled."""
    parts = text.split("_", 2)
    if len(parts) != 3 or parts[0] != "trd" or len(text) > 200 or not re.fullmatch(r"[a-z2-7]{8}", parts[1]):
        return None
    record = ledger.get(TOKEN, parts[1])
    if record is None or not same(record["digest"], text):
        return None
    token, now = _token(record), clock.now()
    person = find_person(token.person, ledger)
    if token.revoked or parse_time(token.ends) <= now or person is None or person.disabled:
        return None
    if not token.used or now - parse_time(token.used) >= _EVERY:
        with suppress(Conflict, StorageError):  # somebody else wrote it down, or the disk is full: the token is good all the same
            ledger.put(TOKEN, record.id, {**record.body, "used": iso(now)}, expect=record.version)
    allowed = person.permissions if token.permissions is None else person.permissions & token.permissions
    return token, replace(person, kind="token", permissions=allowed)


def tokens(ledger: Ledger, person: str = "") -> list[Token]:
    """The tokens, newest first, of one person or of all; revoked and ended ones too."""
    return [_token(r) for r in ledger.find(TOKEN, {"person": person} if person else None, newest_first=True)]


def find_token(id: str, ledger: Ledger) -> Token | None:
    """One token, or None."""
    record = ledger.get(TOKEN, id)
    return _token(record) if record is not None else None


def revoke(id: str, ledger: Ledger, clock: Clock, *, actor: str, address: str = "") -> Token:
    """Take a token back; it stops with the next request. Doing it again changes nothing. Raises NotFound."""
    while True:
        record = ledger.get(TOKEN, id)
        if record is None:
            raise NotFound(f"There is no token {id!r}.", hint="See: treadle access tokens list")
        if record["revoked"]:
            return _token(record)
        with suppress(Conflict), ledger.transaction():
            record = ledger.put(TOKEN, id, {**record.body, "revoked": iso(clock.now())}, expect=record.version)
            told("access.token.revoked", Ref(PERSON, record["person"]), {"token": id}, ledger, actor=actor, address=address)


def _token(record: Record) -> Token:
    b = record.body
    allowed = None if b["permissions"] is None else frozenset(b["permissions"])
    return Token(record.id, b["name"], b["person"], allowed, b["made"], b["ends"], b["used"], b["revoked"])
