"""Owners: a thing is offered to somebody, who accepts or declines; until then its owner stays who it is."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from treadle.core.errors import UsageError
from treadle.review import owners
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.rooms.notes import declared_owner, names, panel, thing


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A thing, whom it is offered to (one person or group), and the version of its owner's record that was looked at (0 for none)."""

    on: str
    to: str
    expect: Annotated[int, msgspec.Meta(ge=0)]
    text: str = ""


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """The thing that is offered, and the version of its owner's record that was looked at."""

    on: str
    expect: Annotated[int, msgspec.Meta(ge=0)]
    text: str = ""


def offer(asked: Asked) -> dict[str, Any]:
    """Offer a thing to somebody."""
    b, me, ws = asked.body, asked.person, asked.ws
    ref, to = thing(b.on, asked), names(b.to, ws)
    if len(to) != 1:
        raise UsageError("A thing is offered to one person or group.", where="to")
    owners.hand_over(
        ref, to[0], ws.ledger, ws.clock, by=me.name, text=b.text, declared=declared_owner(ref, ws), groups=me.groups,
        anyway=me.may("access.change"), expect=b.expect,
    )  # fmt: skip
    return panel(ref, "", ws, me)


def accept(asked: Asked) -> dict[str, Any]:
    """Take over what was offered."""
    me, ws, ref = asked.person, asked.ws, thing(asked.body.on, asked)
    owners.accept(ref, ws.ledger, ws.clock, by=me.name, groups=me.groups, expect=asked.body.expect)
    return panel(ref, "", ws, me)


def decline(asked: Asked) -> dict[str, Any]:
    """Say no to what was offered."""
    me, ws, ref = asked.person, asked.ws, thing(asked.body.on, asked)
    owners.decline(ref, ws.ledger, ws.clock, by=me.name, text=asked.body.text, groups=me.groups, expect=asked.body.expect)
    return panel(ref, "", ws, me)


def take_back(asked: Asked) -> dict[str, Any]:
    """Offer it no longer."""
    me, ws, ref = asked.person, asked.ws, thing(asked.body.on, asked)
    owners.take_back(ref, ws.ledger, ws.clock, by=me.name, anyway=me.may("access.change"), expect=asked.body.expect)
    return panel(ref, "", ws, me)


OPERATIONS = [
    Operation("owners.offer", "/owners/offer", "notes.write", offer, "Offer a thing to somebody: a hand-over.",
              method="POST", body=Offered, done="The hand-over is offered."),
    Operation("owners.accept", "/owners/accept", "notes.write", accept, "Accept a hand-over.", method="POST", body=Offer, done="It is yours now."),
    Operation("owners.decline", "/owners/decline", "notes.write", decline, "Decline a hand-over.",
              method="POST", body=Offer, done="You declined the hand-over."),
    Operation("owners.take_back", "/owners/take-back", "notes.write", take_back, "Take back a hand-over that was offered.",
              method="POST", body=Offer, done="The hand-over is taken back."),
]  # fmt: skip
