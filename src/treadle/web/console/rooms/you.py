"""You: whoever is signed in, what they may do, and the tokens that act for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from treadle.access import people, sessions, signin, tokens
from treadle.core.errors import Forbidden, NotFound, Unauthorized, UsageError
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.rooms.access import token


class NewToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token to be made; with all that its person may do if no permissions are named."""

    name: str
    permissions: list[str] = []
    days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 90.0


class OwnPassword(msgspec.Struct, frozen=True, kw_only=True):
    """A new password, and the one until now."""

    old: str
    new: str


def you(asked: Asked) -> dict[str, Any]:
    """Who is asking."""
    me, ws = asked.person, asked.ws
    roles = people.roles(ws.ledger)
    held = [{"name": n, "title": roles[n].title, "sentence": roles[n].sentence} for n in me.roles if n in roles]
    return {
        "name": me.name, "full": me.full, "email": me.email, "kind": me.kind, "groups": list(me.groups), "roles": list(me.roles), "held": held,
        "permissions": sorted(me.permissions), "tokens": [token(t) for t in tokens.tokens(ws.ledger, me.name)],
        "session": {"opened": asked.session.opened, "ends": asked.session.ends, "how": asked.session.how} if asked.session else None,
        "sessions": len(sessions.sessions(ws.ledger, ws.clock, person=me.name)),
    }  # fmt: skip


def make_token(asked: Asked) -> dict[str, Any]:
    """A token of one's own. It is shown this once."""
    b, ws = asked.body, asked.ws
    text, made = tokens.make_token(
        asked.person.name, b.name, ws.ledger, ws.clock, actor=asked.person.name, permissions=b.permissions or None, days=b.days, address=asked.address
    )
    return {**token(made), "secret_shown_once": text, "what": f"The token {made.name!r}"}


def revoke(asked: Asked) -> dict[str, Any]:
    """Revoke a token of one's own. Raises NotFound."""
    ws = asked.ws
    found = tokens.find_token(asked["token"], ws.ledger)
    if found is None or found.person != asked.person.name:
        raise NotFound(f"You have no token {asked['token']!r}.")
    return token(tokens.revoke(found.id, ws.ledger, ws.clock, actor=asked.person.name, address=asked.address))


def password(asked: Asked) -> dict[str, Any]:
    """Change one's own password; all sessions end, this one too. Raises UsageError when the old one is wrong; TooMany after some of these."""
    ws, me = asked.ws, asked.person
    if asked.session is None:
        raise Forbidden("A token cannot change a password.")
    try:  # it only proves that the old password is known
        _, session, _ = signin.with_password(me.name, asked.body.old, ws.ledger, ws.clock, address=asked.address)
    except Unauthorized:
        raise UsageError("The password until now is wrong.", where="old") from None
    sessions.end_session(session.id, ws.ledger, ws.clock, actor=me.name)
    people.set_password(me.name, asked.body.new, ws.ledger, ws.clock, actor=me.name, address=asked.address)
    return {"goes_to": "/sign-in"}


def end_others(asked: Asked) -> dict[str, Any]:
    """Sign out everywhere else."""
    ws = asked.ws
    kept = asked.session.id if asked.session is not None else ""
    return {"ended": sessions.end_all(asked.person.name, ws.ledger, ws.clock, actor=asked.person.name, keep=kept, address=asked.address)}


def _page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    from treadle.access.permissions import PERMISSIONS

    return "you.html", {"y": given, "sentences": PERMISSIONS}


OPERATIONS = [
    Operation("you.see", "/you", "home.see", you, "Who is asking: roles, permissions, tokens.", page=_page),
    Operation(
        "you.make_token", "/you/tokens", "home.see", make_token, "Make a token of one's own.", method="POST", body=NewToken, secret=True,
        done="The token is below. It is shown this once.",
    ),
    Operation(
        "you.revoke_token", "/you/tokens/{token}/revoke", "home.see", revoke, "Revoke a token of one's own.", method="POST",
        done="The token was revoked.",
    ),
    Operation(
        "you.set_password", "/you/password", "home.see", password, "Change one's own password.", method="POST", body=OwnPassword, secret=True,
        done="The password was changed. Sign in with the new one.",
    ),
    Operation(
        "you.end_others", "/you/end", "home.see", end_others, "Sign out everywhere else.", method="POST", done="You are signed out everywhere else."
    ),
]  # fmt: skip
