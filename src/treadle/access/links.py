"""One-time links: a secret that signs one person in, once, within minutes. For the first start on a laptop, and for whoever forgot a password."""

from __future__ import annotations

from datetime import timedelta

from treadle.access.known import PERSON, Person, find_person, told
from treadle.access.secrets import digest_of, id_of, new_secret, same
from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, NotFound
from treadle.core.records import Ref
from treadle.ports.ledger import Ledger

LINK = "sign_in_link"


def make_link(person: str | Person, ledger: Ledger, clock: Clock, minutes: int = 10, *, actor: str = "treadle", address: str = "") -> str:
    """A secret that signs this person in once within so many minutes. Raises NotFound."""
    name = person.name if isinstance(person, Person) else person
    found = find_person(name, ledger)
    if found is None:
        raise NotFound(f"There is no person {name!r}.", hint="See: treadle access people list")
    secret, now = new_secret(), clock.now()
    body = {"person": found.name, "digest": digest_of(secret), "ends": iso(now + timedelta(minutes=minutes)), "used": "", "by": actor}
    with ledger.transaction():
        ledger.put(LINK, id_of("link", secret), body, expect=0)
        told("access.link.made", Ref(PERSON, found.name), {"minutes": minutes}, ledger, actor=actor, address=address)
    return secret


def use_link(secret: str, ledger: Ledger, clock: Clock) -> Person | None:
    """Whom it signs in. None when it was used, is too old or was never made, or the person is disabled. Of two that use it at once one gets it."""
    record = ledger.get(LINK, id_of("link", secret))
    now = iso(clock.now())
    if record is None or not same(record["digest"], secret) or record["used"] or record["ends"] <= now:
        return None
    person = find_person(record["person"], ledger)
    if person is None or person.disabled:
        return None
    try:
        ledger.put(LINK, record.id, {**record.body, "used": now}, expect=record.version)
    except Conflict:
        return None
    return person
