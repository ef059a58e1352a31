"""The quarantine: rows that broke their contract, with reasons; correct one, let one in as it is, take a decision back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from treadle.core.errors import Forbidden, Refused, UsageError
from treadle.core.masking import masked, personal_columns
from treadle.data import quarantine, set_aside
from treadle.report import data_shown
from treadle.web.console.operation import LONGEST, Asked, Operation


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows, after how many."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=LONGEST)] = 50
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0


class Fix(msgspec.Struct, frozen=True, kw_only=True):
    """A row by its digest, and corrections: COLUMN=VALUE, one a line; an empty value makes it missing."""

    row: str
    values: str
    reason: str = ""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A row by its digest, and why it is right as it is."""

    row: str
    reason: str


class Undo(msgspec.Struct, frozen=True, kw_only=True):
    """The row of a decision, and why it is taken back."""

    row: str
    reason: str = ""


def rows(asked: Asked) -> dict[str, Any]:
    """The rows set aside, a part of them, personal values masked; since when, and what was decided about them. Raises NotFound."""
    ws, declared = asked.ws, data_shown.dataset(asked.ws, asked["dataset"])
    frame = set_aside.table(declared, ws.ledger, ws.tables)
    decisions = quarantine.standing(declared.name, ws.ledger)
    total = frame.height if frame is not None else 0
    part = frame.slice(asked.query.skip, asked.query.limit) if frame is not None else None
    found = set_aside.rows(declared, part, decisions) if part is not None else []
    since = set_aside.since(declared, found, ws.ledger, ws.tables) if found else {}
    personal = personal_columns([declared])
    state = data_shown.in_short(ws, declared)
    return {
        "dataset": declared.name, "total": total, "skip": asked.query.skip, "limit": asked.query.limit, "version": state["version"],
        "columns": list(found[0].shown) if found else [],
        "items": [
            {"row": r.row, "reason": r.reason, "since": since.get(r.row, ""), "decided": r.decision,
             "hard": quarantine.hard_reasons(r.reason, declared),
             "key": [masked(v, personal.get(k, "")) for k, v in zip(declared.key, map(data_shown.cell, r.key))],
             "values": {k: data_shown.cell(v) for k, v in r.shown.items()}}
            for r in found
        ],
        "decisions": [
            {"row": d.row, "action": d.action, "values": {c: masked(v, personal.get(c, "")) for c, v in d.values.items()}, "reason": d.reason,
             "by": d.actor, "at": d.at, "applied": d.applied}
            for d in decisions[-LONGEST:]
        ],
    }  # fmt: skip


def fix(asked: Asked) -> dict[str, Any]:
    """Correct values of a row; the corrected row is held to its contract again. Raises DataError when it still breaks it."""
    ws, (declared, frame, row) = asked.ws, _row(asked, asked.body.row)
    values = _assigned(asked.body.values)
    quarantine.check_fix(frame.row(row.number, named=True), values, declared, dict(frame.schema), ws.clock.now())
    quarantine.decide([set_aside.decision_for(row, declared, "fix", values, asked.body.reason.strip(), asked.person.name)], ws.ledger, ws.clock)
    return {"dataset": declared.name, "row": row.row, "decided": "fix"}


def release(asked: Asked) -> dict[str, Any]:
    """Let a row in as it is. Raises Refused for one without its key, or the second of its key."""
    ws, (declared, _, row) = asked.ws, _row(asked, asked.body.row)
    if not asked.body.reason.strip():
        raise UsageError("The reason is empty.", where="reason", hint="Say why the row is right as it is.")
    hard = quarantine.hard_reasons(row.reason, declared)
    if hard:
        raise Refused(f"This row cannot be let in as it is: {'; '.join(hard)}.", where=f"data set {declared.name!r}", hint="Correct it instead.")
    quarantine.decide([set_aside.decision_for(row, declared, "release", {}, asked.body.reason.strip(), asked.person.name)], ws.ledger, ws.clock)
    return {"dataset": declared.name, "row": row.row, "decided": "release"}


def undo(asked: Asked) -> dict[str, Any]:
    """Take a decision back; the next run is without it. Raises NotFound."""
    name = data_shown.dataset(asked.ws, asked["dataset"]).name
    return {"dataset": name, "undone": quarantine.undo(name, asked.body.row, asked.person.name, asked.body.reason.strip(), asked.ws.ledger)}


def _row(asked: Asked, digest: str) -> tuple[Any, Any, set_aside.SetAside]:
    if not asked.person.may("data.rows"):  # whoever corrects a row learns of it
        raise Forbidden("You may not do this: it needs the permission 'data.rows', too.", hint="Ask an administrator.")
    declared = data_shown.dataset(asked.ws, asked["dataset"])
    frame = set_aside.table(declared, asked.ws.ledger, asked.ws.tables)
    found = set_aside.rows(declared, frame) if frame is not None else []
    return declared, frame, set_aside.find(declared, digest, found)


def _assigned(text: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{line[:60]!r} says no COLUMN=VALUE.", where="values", hint="For example: amount=12.50")
        found[name.strip()] = value.strip() or None
    if not found:
        raise UsageError("Nothing is corrected.", where="values", hint="Write COLUMN=VALUE, one a line.")
    return found


def _page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "quarantine.html", {"d": given}


# What a row holds may be about a person, who may want it forgotten: nothing of it is kept for the case that a call is made twice.
OPERATIONS = [
    Operation("quarantine.list", "/data/{dataset}/quarantine", "data.rows", rows, "Rows that broke their contract, with reasons.",
              query=Part, page=_page),
    Operation("quarantine.fix", "/data/{dataset}/quarantine/fix", "data.fix", fix, "Correct values of a row that was set aside.",
              method="POST", body=Fix, done="The correction is on record; the next run applies it.", secret=True),
    Operation("quarantine.release", "/data/{dataset}/quarantine/release", "data.fix", release, "Let a row in as it is.", method="POST", body=Release,
              done="The row is let in with the next run.", secret=True),
    Operation("quarantine.undo", "/data/{dataset}/quarantine/undo", "data.fix", undo, "Take a decision about a row back.", method="POST", body=Undo,
              done="The decision is taken back.", secret=True),
]  # fmt: skip
