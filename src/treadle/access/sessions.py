"""Sessions: who is signed in where, and until when. The browser holds the secret, the record its hash."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from treadle.access.known import PERSON, Person, find_person, told
from treadle.access.secrets import digest_of as _digest
from treadle.access.secrets import id_of, new_secret, same
from treadle.core.clock import Clock, iso, parse_time
from treadle.core.errors import Conflict, Forbidden, NotFound, StorageError
from treadle.core.records import Record, Ref
from treadle.ports.ledger import Ledger

SESSION = "session"
HOW = ("password", "link", "oidc")
_EVERY = timedelta(minutes=1)  # how often a use is written down


@dataclass(frozen=True)
class Lasting:
    """How long a session lasts: unused, and in all."""

    unused: timedelta = timedelta(hours=12)
    in_all: timedelta = timedelta(days=7)


LASTING = Lasting()


@dataclass(frozen=True)
class Session:
    """One sign-in of one person.

    Attributes:
        csrf: what a form of this session must send back. how: 'password', 'link' or 'oidc'. opened, used, ends: ISO times.
        address: where the sign-in came from. ended: when it was ended by somebody, '' if it was not.
    """

    id: str
    person: str
    csrf: str
    opened: str
    ends: str
    how: str
    address: str
    used: str = ""
    ended: str = ""

    def __repr__(self) -> str:  # the CSRF token is a secret too
        return f"Session({self.id}, {self.person!r}, {self.how}, until {self.ends})"


def open_session(person: str | Person, ledger: Ledger, clock: Clock, *, how: str, address: str, lasting: Lasting = LASTING) -> tuple[str, Session]:
    """Sign a person in: the secret for the browser, which is not stored, and the session. Raises NotFound; Forbidden for somebody disabled."""
    name = person.name if isinstance(person, Person) else person
    found = find_person(name, ledger)
    if found is None:
        raise NotFound(f"There is no person {name!r}.")
    if found.disabled:
        raise Forbidden(f"{found.name} is disabled.", hint="An administrator can enable them again.")
    secret, now = new_secret(), clock.now()
    body = {
        "person": found.name, "digest": _digest(secret), "csrf": new_secret(), "opened": iso(now), "used": iso(now),
        "ends": iso(min(now + lasting.unused, now + lasting.in_all)), "how": how, "address": address, "ended": "",
    }  # fmt: skip
    with ledger.transaction():
        record = ledger.put(SESSION, id_of(SESSION, secret), body, expect=0)
        told("access.signed_in", Ref(PERSON, found.name), {"how": how, "session": record.id}, ledger, actor=found.name, address=address)
    return secret, _session(record)


def session_of(secret: str, ledger: Ledger, clock: Clock, *, lasting: Lasting = LASTING) -> tuple[Session, Person] | None:
    """Whose session it is, with what they may do now; None when there is none, it has ended, or the person is disabled."""
    while True:
        record = ledger.get(SESSION, id_of(SESSION, secret))
        if record is None or not same(record["digest"], secret) or record["ended"]:
            return None
        now = clock.now()
        used, opened = parse_time(record["used"]), parse_time(record["opened"])
        if now >= min(used + lasting.unused, opened + lasting.in_all):
            return None
        person = find_person(record["person"], ledger)
        if person is None or person.disabled:
            return None
        if now - used < _EVERY:
            return _session(record), person
        body = {**record.body, "used": iso(now), "ends": iso(min(now + lasting.unused, opened + lasting.in_all))}
        try:
            return _session(ledger.put(SESSION, record.id, body, expect=record.version)), person
        except Conflict:
            continue  # another request wrote it down, or the session was ended: look again
        except StorageError:
            return _session(record), person  # a full disk does not sign people out; unused sessions then end a little early


def end_session(id: str, ledger: Ledger, clock: Clock, *, actor: str, address: str = "") -> None:
    """Sign out, or end somebody's session. Ending it again changes nothing. Raises NotFound."""
    while True:
        record = ledger.get(SESSION, id)
        if record is None:
            raise NotFound(f"There is no session {id!r}.", hint="See: treadle access sessions list")
        if record["ended"]:
            return
        with suppress(Conflict), ledger.transaction():
            ledger.put(SESSION, id, {**record.body, "ended": iso(clock.now()), "csrf": ""}, expect=record.version)
            kind = "access.signed_out" if actor == record["person"] else "access.session.ended"
            told(kind, Ref(PERSON, record["person"]), {"session": id}, ledger, actor=actor, address=address)


def end_all(person: str, ledger: Ledger, clock: Clock, *, actor: str, keep: str = "", address: str = "") -> int:
    """End all sessions of a person but `keep`; returns how many were open."""
    found = [s.id for s in sessions(ledger, clock, person=person) if s.id != keep]
    for id in found:
        end_session(id, ledger, clock, actor=actor, address=address)
    return len(found)


def sessions(ledger: Ledger, clock: Clock, *, person: str = "") -> list[Session]:
    """The sessions that are open now, newest first, of one person or of all."""
    now = iso(clock.now())
    where = {"ended": "", **({"person": person} if person else {})}
    return [_session(r) for r in ledger.find(SESSION, where, newest_first=True) if r["ends"] > now]


def _session(record: Record) -> Session:
    b = record.body
    return Session(record.id, b["person"], b["csrf"], b["opened"], b["ends"], b["how"], b["address"], b["used"], b["ended"])
