"""Signing in: by password or by a one-time link. Each try is counted before it is looked at, and what was refused is written down."""

from __future__ import annotations

import math

from treadle.access import throttle
from treadle.access.known import PERSON, Person, find_person, told
from treadle.access.links import use_link
from treadle.access.passwords import HASHING, Hashing
from treadle.access.people import check_password
from treadle.access.sessions import Session, open_session
from treadle.core.clock import Clock
from treadle.core.errors import TooMany, Unauthorized
from treadle.core.records import Ref
from treadle.ports.ledger import Ledger


def with_password(
    name: str, password: str, ledger: Ledger, clock: Clock, *, address: str, hashing: Hashing = HASHING
) -> tuple[str, Session, Person]:
    """The secret for the browser, the session, and who it is.

    Raises: TooMany with the seconds to wait; Unauthorized in one and the same words for a wrong name, a wrong password and somebody disabled.
    """
    _enter(name, address, ledger, clock)
    person = check_password(name, password, ledger, hashing=hashing)
    if person is None:
        known = find_person(name, ledger)  # a name nobody has is not written down: it may be a password typed into the wrong field
        refused(known.name if known else "", "password", ledger, address=address)
        raise Unauthorized("The name or the password is wrong.")
    throttle.succeeded(name, address, ledger, clock)
    secret, session = open_session(person, ledger, clock, how="password", address=address)
    return secret, session, person


def with_link(link: str, ledger: Ledger, clock: Clock, *, address: str) -> tuple[str, Session, Person]:
    """As `with_password`. Raises Unauthorized for a link that was used, is too old, or never was; TooMany."""
    _enter("", address, ledger, clock)
    person = use_link(link, ledger, clock)
    if person is None:
        refused("", "link", ledger, address=address)
        raise Unauthorized("This link was used already, or is too old.", hint="Make another with: treadle access link NAME")
    throttle.succeeded("", address, ledger, clock)
    secret, session = open_session(person, ledger, clock, how="link", address=address)
    return secret, session, person


def _enter(name: str, address: str, ledger: Ledger, clock: Clock) -> None:
    wait = throttle.enter(name, address, ledger, clock)
    if wait > 0:
        raise TooMany(f"Too many wrong sign-ins: try again in {math.ceil(wait)} s.", hint="An administrator can make it shorter.", after=wait)


def refused(name: str, how: str, ledger: Ledger, *, address: str, why: str = "") -> None:
    """Write down a sign-in that was refused. `name` is '' for somebody who is not known."""
    body = {"how": how, **({"why": why} if why else {})}
    told("access.refused", Ref(PERSON, name or "unknown"), body, ledger, actor=name or "unknown", address=address)
