"""The one place that says who may: whose request it is, whether it came from the console's own pages, and what that person holds.

A request shows either an API token (`Authorization: Bearer`), or the cookie of a session. With a cookie a request that changes something must
come from the console's own pages: its Origin is the console's, and it carries the session's secret word (`csrf`). Whoever shows nothing may see nothing.
"""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass

from starlette.requests import Request

from treadle.access import sessions, tokens
from treadle.access.people import Person
from treadle.access.sessions import Session
from treadle.core.errors import Forbidden, TreadleError, Unauthorized
from treadle.core.records import Ref
from treadle.web.console.operation import Operation
from treadle.web.console.site import Site

SAFE = ("GET", "HEAD")
_log = logging.getLogger("treadle.console")


@dataclass(frozen=True)
class Known:
    """Who asks: a person, by a session or by a token."""

    person: Person
    session: Session | None = None


def who(request: Request, site: Site) -> Known:
    """Whose request it is. Raises Unauthorized."""
    ledger, clock = site.ws.ledger, site.ws.clock
    shown = request.headers.get("authorization")
    if shown is not None:  # a cookie beside it is not looked at
        kind, _, text = shown.partition(" ")
        found = tokens.token_of(text.strip(), ledger, clock) if kind.lower() == "bearer" else None
        if found is None:
            raise Unauthorized(
                "This token is not known, has ended or was revoked.", hint="Make one: treadle access token make, or on the page 'You'."
            )
        return Known(found[1])
    secret = request.cookies.get(site.cookie, "")
    known = sessions.session_of(secret, ledger, clock) if secret else None
    if known is None:
        raise Unauthorized("Sign in first." if not secret else "You were signed out: the session has ended.", hint="Open /sign-in, or show a token.")
    return Known(known[1], known[0])


def from_here(request: Request, site: Site) -> None:
    """Refuse what another site's page sent. Raises Forbidden."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin is not None and not site.own(origin, host):
        raise Forbidden("This was sent by a page of another site.", where=origin[:200])
    if origin is None and request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("This was sent by a page of another site.")


def may(known: Known, operation: Operation, request: Request, site: Site, given: str) -> None:
    """Whether this person may do this now. `given` is the secret word that came with the request. Raises Forbidden, which is on record."""
    if request.method not in SAFE and known.session is not None:
        from_here(request, site)
        if not hmac.compare_digest(given.encode(), known.session.csrf.encode()):
            raise Forbidden("The form is from another session.", hint="Load the page again and repeat what you did.")
    if not known.person.may(operation.permission):
        denied(site, known.person, operation.name, request)
        raise Forbidden(
            f"You may not do this: it needs the permission {operation.permission!r}.", hint="Ask an administrator: the page 'Access' says who is one."
        )


def denied(site: Site, person: Person, what: str, request: Request) -> None:
    """Put a refusal on record."""
    about = {"operation": what, "address": address_of(request), "groups": list(person.groups)}
    try:
        site.ws.ledger.append("access.denied", Ref("person", person.name), about, actor=person.name)
    except TreadleError as error:  # a refusal stands also while the record cannot be written
        _log.error("a refusal to %s could not be recorded: %s", person.name, error)


def address_of(request: Request) -> str:
    """Where a request came from."""
    return request.client.host if request.client is not None else ""
