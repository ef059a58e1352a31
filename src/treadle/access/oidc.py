"""Sign-in with an OpenID provider: authorization code with PKCE, state and nonce (OpenID Connect Core 1.0; RFC 7636).

A person is known by issuer and subject, never by a name or address that a provider lets people choose. They are made at their first sign-in, with no
role unless the setting `oidc_roles` gives one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from treadle.access import throttle
from treadle.access.id_token import checked
from treadle.access.known import Person, find_person
from treadle.access.people import add_person, change_person
from treadle.access.provider import client_of, configured, discover, exchange, key_set
from treadle.access.secrets import new_secret
from treadle.access.signin import refused
from treadle.core.clock import Clock, SystemClock
from treadle.core.errors import Conflict, Forbidden, NotFound, Unauthorized, UsageError
from treadle.ports.ledger import Ledger
from treadle.settings import Settings

__all__ = ["begin", "configured", "finish"]

IDENTITY = "identity"
_MINUTES = 10  # how long somebody may take at the provider


def begin(settings: Settings, redirect_uri: str, *, clock: Clock | None = None) -> tuple[str, str]:
    """Where to send the browser, and what to keep until it comes back: in a cookie that scripts cannot read and that this site alone gets.

    Raises: UsageError for settings that cannot be; Unavailable when the provider does not answer.
    """
    client = client_of(settings)
    provider = discover(client)
    state, nonce, verifier = new_secret(), new_secret(), new_secret()
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    query = {
        "response_type": "code", "client_id": client.id, "redirect_uri": redirect_uri, "scope": "openid profile email", "state": state,
        "nonce": nonce, "code_challenge": challenge, "code_challenge_method": "S256",
    }  # fmt: skip
    at = (clock or SystemClock()).now().timestamp()
    kept = {"state": state, "nonce": nonce, "verifier": verifier, "redirect_uri": redirect_uri, "at": at}
    joint = "&" if "?" in provider.authorize else "?"
    return provider.authorize + joint + urlencode(query), base64.urlsafe_b64encode(json.dumps(kept).encode()).decode()


def finish(settings: Settings, kept: str, query: Mapping[str, str], ledger: Ledger, clock: Clock, *, address: str = "") -> Person:
    """Who came back from the provider. The session is the caller's to open (`how='oidc'`).

    Args:
        kept: what `begin` gave. query: the parameters the browser came back with.
    Raises: Unauthorized for what is not right in any way, which is written down; Forbidden for somebody disabled; Unavailable.
    """
    try:
        return _finish(settings, kept, query, ledger, clock, address)
    except (Unauthorized, Forbidden) as error:
        # Whoever calls this again and again fills no log with it, nor bars the way for passwords from there.
        if throttle.enter("", f"oidc {address}", ledger, clock) == 0:
            refused("", "oidc", ledger, address=address, why=error.what)
        raise


def _finish(settings: Settings, kept: str, query: Mapping[str, str], ledger: Ledger, clock: Clock, address: str) -> Person:
    client, rules = client_of(settings), mapping(settings["oidc_roles"])
    try:
        begun = json.loads(base64.urlsafe_b64decode(kept.encode()))
        state, nonce, verifier, redirect_uri = (str(begun[k]) for k in ("state", "nonce", "verifier", "redirect_uri"))
        at = float(begun["at"])
    except (ValueError, TypeError, KeyError):
        raise Unauthorized("This sign-in was not begun here.", hint="Start the sign-in again.") from None
    if not hmac.compare_digest(state.encode(), query.get("state", "").encode("utf-8", "replace")):
        raise Unauthorized("This sign-in was not begun here.", hint="Start the sign-in again.")
    if not 0 <= clock.now().timestamp() - at < _MINUTES * 60:
        raise Unauthorized(f"This sign-in took longer than {_MINUTES} minutes.", hint="Start the sign-in again.")
    if query.get("error"):
        said = re.sub(r"[^a-z_]", "", query["error"][:60])
        raise Unauthorized(f"The provider did not sign you in ({said}).", hint="Start the sign-in again.")
    if query.get("iss", client.issuer) != client.issuer:  # RFC 9207
        raise Unauthorized("Another provider answered.", hint="Start the sign-in again.")
    if not query.get("code"):
        raise Unauthorized("The provider sent no code.", hint="Start the sign-in again.")
    provider = discover(client)
    token = exchange(provider, client, query["code"], verifier, redirect_uri)
    claims = checked(token, key_set(provider, client), issuer=client.issuer, client=client.id, nonce=nonce, now=clock.now())
    person = _person(claims, client.issuer, rules, ledger, clock, address)
    if person.disabled:
        raise Forbidden(f"{person.name} is disabled.", hint="An administrator can enable them again.")
    return person


def mapping(text: str) -> list[tuple[str, str, str]]:
    """(claim, value, target) of each part of 'groups:ops=devops_engineer, groups:ML team=@modellers'; a target with @ is a group, else a role.

    Raises UsageError for what is not of this shape.
    """
    found = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"([^:=]+):(.+)=(@?[a-z0-9][a-z0-9._@-]*)", part)
        if match is None:
            raise UsageError(f"The setting oidc_roles has {part!r}, which is not claim:value=role.", hint="For example groups:ops=devops_engineer")
        found.append((match[1].strip(), match[2].strip(), match[3]))
    return found


def _person(claims: Mapping[str, Any], issuer: str, rules: list[tuple[str, str, str]], ledger: Ledger, clock: Clock, address: str) -> Person:
    subject = claims["sub"]
    id = hashlib.sha256(json.dumps([issuer, subject]).encode()).hexdigest()[:40]
    given = {target for claim, value, target in rules if value in _values(claims, claim)}
    ruled = {target for _, _, target in rules}
    record = ledger.get(IDENTITY, id)
    if record is None:
        with suppress(Conflict), ledger.transaction():  # Conflict: the same person signs in twice at this moment
            name = _free_name(claims, id, ledger)
            ledger.put(IDENTITY, id, {"issuer": issuer, "subject": subject, "person": name}, expect=0)
            full, email = _line(claims.get("name")), _line(claims.get("email"))
            add_person(name, ledger, clock, actor=issuer, full=full, email=email, kind="oidc", address=address)
        record = ledger.get(IDENTITY, id)
        if record is None:
            raise Unauthorized("Somebody else took this name at the same moment.", hint="Start the sign-in again.")
    person = find_person(record["person"], ledger)
    if person is None:
        raise Unauthorized("This person is no longer known.")
    if person.disabled or not ruled:
        return person
    # What the mapping speaks of is as the provider says, each time; what an administrator gave besides is kept.
    roles = {r for r in person.own_roles if r not in ruled} | {t for t in given if not t.startswith("@")}
    groups = {g for g in person.groups if f"@{g}" not in ruled} | {t[1:] for t in given if t.startswith("@")}
    try:
        return change_person(person.name, ledger, clock, actor=issuer, roles=roles, groups=groups, address=address)
    except NotFound as error:
        raise UsageError(f"The setting oidc_roles names what there is not: {error.what}", hint="An administrator can correct it.") from None


def _values(claims: Mapping[str, Any], claim: str) -> list[str]:
    """What a claim says; of an address that nobody verified nothing, since people may write there whose they like."""
    if claim == "email" and claims.get("email_verified") is not True:
        return []
    value = claims.get(claim)
    return [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str)]


def _line(value: Any) -> str:
    return "".join(c for c in value if c.isprintable())[:200] if isinstance(value, str) else ""


def _free_name(claims: Mapping[str, Any], id: str, ledger: Ledger) -> str:
    """A name that nobody has: as the provider calls the person; with part of the identity's hash if somebody else is called that."""
    said = next((c for k in ("preferred_username", "email", "sub") if isinstance(c := claims.get(k), str) and c), "")
    plain = re.sub(r"[^a-z0-9._@-]+", "-", unicodedata.normalize("NFKC", said).casefold()).strip("._@-")[:55] or "person"
    return plain if find_person(plain, ledger) is None else f"{plain}-{id[:8]}"
