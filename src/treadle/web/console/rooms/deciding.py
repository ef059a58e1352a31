"""What people decide about a version: asking for its approval, answering that with the evidence in view, waiving a gate for a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from treadle.core.clock import parse_time, span
from treadle.core.errors import UsageError
from treadle.registry import conditions, versions
from treadle.review import approvals, subjects
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.rooms.models import known_version


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Of whom it is asked: names of persons and groups with commas between; of anybody who may if empty. And what they should know."""

    to: str = ""
    text: str = ""


def ask(asked: Asked) -> dict[str, Any]:
    """Ask for a version to be approved."""
    ws, found = asked.ws, known_version(asked.ws, asked["model"], asked["number"])
    to = [subjects.check_name(n.strip().removeprefix("@")) for n in asked.body.to.split(",") if n.strip()]
    made = approvals.ask(found, ws.ledger, ws.clock, by=asked.person.name, to=to, text=asked.body.text)
    return {"version": found.id, "status": made["status"], "to": made["to"]}


def withdraw(asked: Asked) -> dict[str, Any]:
    """Ask no longer."""
    ws, found = asked.ws, known_version(asked.ws, asked["model"], asked["number"])
    return {"version": found.id, "status": approvals.withdraw(found, ws.ledger, ws.clock, by=asked.person.name)["status"]}


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. `evidence` is the digest that was shown with the version; `lasts` a length of time such as 30d."""

    answer: Literal["approve", "reject"]
    evidence: str
    reason: str = ""
    lasts: str = ""


def answer(asked: Asked) -> dict[str, Any]:
    """Approve a version or reject it, on the evidence that was shown. Raises Conflict when that is another by now, Refused for one's own."""
    ws, found = asked.ws, known_version(asked.ws, asked["model"], asked["number"])
    body = asked.body
    if not body.evidence:
        raise UsageError("Say which evidence you looked at.", where="evidence", hint="It stands in the version's 'review'.")
    approve = body.answer == "approve"
    if not approve and not body.reason.strip():
        raise UsageError("A rejection needs a reason.", where="reason")
    approvals.answer(
        found, ws.ledger, ws.clock, by=asked.person.name, approve=approve, reason=body.reason.strip(), evidence=body.evidence,
        lasts=span(body.lasts) if body.lasts else None,
    )  # fmt: skip
    return {"version": found.id, "answer": "approved" if approve else "rejected", "missing": conditions.missing(found, ws.ledger, ws.clock.now())}


class Waiver(msgspec.Struct, frozen=True, kw_only=True):
    """A gate that shall not count: why, and until when (a date, or a length of time such as 14d). `number` 0 is every version of the model."""

    gate: str
    reason: str
    until: str
    number: int = 0


def waive(asked: Asked) -> dict[str, Any]:
    """Let a version answer although a gate does not pass, until a moment. Raises Refused for a gate that cannot be waived."""
    ws, body = asked.ws, asked.body
    declared = ws.model(asked["model"])
    gates = [g.name for g in declared.gates]
    if body.gate not in gates:
        raise UsageError(f"{declared.name!r} has no gate {body.gate[:60]!r}.", where="gate", hint=f"Its gates are: {', '.join(gates)}.")
    if body.number:
        versions.get(declared.name, body.number, ws.ledger)
    made = conditions.waive(
        declared.name, body.gate, ws.ledger, ws.clock, person=asked.person.name, reason=body.reason, until=until(body.until, ws.clock.now()),
        number=body.number or None,
    )  # fmt: skip
    return {"id": made.id, **made.body}


def until(text: str, now: datetime) -> datetime:
    """A date (its end), a time, or a length of time from now. Raises UsageError."""
    try:
        return now + span(text)
    except UsageError:
        moment = parse_time(text)
        return moment + timedelta(days=1, seconds=-1) if len(text.strip()) == 10 else moment
    except OverflowError:
        raise UsageError(f"{text[:60]!r} is too far away.", where="until") from None


_ONE = "/models/{model}/versions/{number}"
OPERATIONS = [
    Operation("models.ask", _ONE + "/ask", "models.ask", ask, "Ask for a version to be approved.", method="POST", body=Ask,
              done="You have asked for approval."),
    Operation("models.withdraw", _ONE + "/withdraw", "models.ask", withdraw, "Ask no longer.", method="POST", done="You no longer ask for approval."),
    Operation("models.answer", _ONE + "/answer", "models.approve", answer, "Approve or reject a version.", method="POST", body=Said,
              done="Your answer is on record."),
    Operation("models.waive", "/models/{model}/waive", "models.waive", waive, "Waive a gate for a time.", method="POST", body=Waiver,
              done="The gate is waived, on record."),
]  # fmt: skip
