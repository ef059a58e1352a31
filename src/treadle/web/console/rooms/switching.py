"""What a person changes about what answers: deploy, promote, reject, roll back, stop, go on. Each with a reason, which is on record.

A form carries the version of the deployment it was made from: where somebody else, or the evidence, changed it meanwhile, nothing is done. The kill
switch alone asks nothing of the kind.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from treadle.core.errors import Conflict, UsageError
from treadle.core.records import Record
from treadle.live import retraining, rollout, switch
from treadle.registry import promote, versions
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.rooms import commands

NEEDED = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class Because(msgspec.Struct, frozen=True, kw_only=True):
    """Why. `expect` is the version of the deployment that was looked at; 0 is whichever it is."""

    reason: NEEDED
    expect: int = 0


class Back(Because, frozen=True, kw_only=True):
    """Why, and to which version; to the one before if 0."""

    to: int = 0


class Deploy(msgspec.Struct, frozen=True, kw_only=True):
    """Which version (the newest that may if 0), why, and whether it replaces the champion at once instead of going through shadow and canary."""

    reason: NEEDED
    version: int = 0
    now: bool = False


def promoted(asked: Asked) -> dict[str, Any]:
    """The challenger becomes champion, by a person's word. Raises Refused when it may not answer."""
    ws, now = asked.ws, _expected(asked)
    model = ws.model(now.id)
    champion, challenger = now["champion"], now["challenger"]
    evidence = {"by": "a person", "reason": _reason(asked)}
    made = promote.promote(model.name, evidence, ws.ledger, ws.clock, actor=asked.person.name, trial=rollout.on_trial(ws, model))
    retraining.settled(ws, model, int(challenger), "took over", f"{asked.person.name} let version {challenger} replace version {champion}")
    return _told(made)


def rejected(asked: Asked) -> dict[str, Any]:
    """Throw the challenger out."""
    ws, now = asked.ws, _expected(asked)
    challenger, reason = now["challenger"], _reason(asked)
    made = promote.reject(now.id, reason, {"by": "a person"}, ws.ledger, ws.clock, actor=asked.person.name)
    retraining.settled(ws, ws.model(now.id), int(challenger), "thrown out", f"{asked.person.name} threw version {challenger} out: {reason}")
    return _told(made)


def rolled_back(asked: Asked) -> dict[str, Any]:
    """Take out the version that was brought in last, or go back to the one named."""
    now = _expected(asked)
    done = switch.rollback(asked.ws, asked.ws.model(now.id), _reason(asked), to=asked.body.to or None)
    return {**_told(done.record), "seconds": done.seconds, "how": done.how}


def stopped(asked: Asked) -> dict[str, Any]:
    """The kill switch: nothing answers from now on."""
    done = switch.stop(asked.ws, asked.ws.model(asked["model"]), _reason(asked))
    return {**_told(done.record), "seconds": done.seconds, "how": done.how}


def resumed(asked: Asked) -> dict[str, Any]:
    """Let a stopped model answer again."""
    now = _expected(asked)
    done = switch.resume(asked.ws, asked.ws.model(now.id), _reason(asked))
    return {**_told(done.record), "seconds": done.seconds, "how": done.how}


def deploy(asked: Asked) -> dict[str, Any]:
    """Begin to deploy a version: serving is proved to equal training, the online store filled, the endpoint started. A command does it."""
    from treadle.core.records import Ref

    ws, body = asked.ws, asked.body
    model = ws.model(asked["model"])
    if body.version:
        promote.eligible(model.name, body.version, ws.ledger, ws.clock)
    argv = ["deploy", model.name, *(["--version", str(body.version)] if body.version else []), *(["--now"] if body.now else [])]
    begun = commands.start(asked, argv)
    says = {"version": body.version, "now": body.now, "reason": _reason(asked), "command": begun["id"]}
    ws.ledger.append("deployment.asked", Ref(versions.DEPLOYMENT, model.name), says, actor=asked.person.name)
    return begun


def _expected(asked: Asked) -> Record:
    """The deployment as whoever asks saw it. Raises Conflict when it is another by now, NotFound before the first."""
    now = promote.required(asked["model"], asked.ws.ledger)
    expect = asked.body.expect
    if expect and expect != now.version:
        raise Conflict(f"The deployment of {now.id!r} was changed since you looked at it.", hint="Load the page again, look at it, then decide.")
    return now


def _reason(asked: Asked) -> str:
    said = str(asked.body.reason).strip()
    if not said:
        raise UsageError("This needs a reason.", where="reason")
    return said


def _told(record: Record) -> dict[str, Any]:
    return {"model": record.id, "version": record.version, **{k: record[k] for k in ("champion", "challenger", "stage", "share", "since")},
            "stopped": record.get("stopped")}  # fmt: skip


_ONE = "/deployments/{model}"
_MAY = "deployments.change"
OPERATIONS = [
    Operation("deployments.promote", _ONE + "/promote", _MAY, promoted, "The challenger becomes champion.", method="POST", body=Because,
              done="The challenger is the champion now."),
    Operation("deployments.reject", _ONE + "/reject", _MAY, rejected, "Throw the challenger out.", method="POST", body=Because,
              done="The challenger was thrown out."),
    Operation("deployments.roll_back", _ONE + "/rollback", _MAY, rolled_back, "Take out the version that was brought in last.", method="POST",
              body=Back, done="It was rolled back."),
    Operation("deployments.stop", _ONE + "/stop", _MAY, stopped, "The kill switch: nothing answers from now on.", method="POST", body=Because,
              done="It is stopped: nothing answers."),
    Operation("deployments.resume", _ONE + "/resume", _MAY, resumed, "Let a stopped model answer again.", method="POST", body=Because,
              done="It may answer again."),
    Operation("deployments.deploy", _ONE + "/deploy", _MAY, deploy, "Begin to deploy a version.", method="POST", body=Deploy,
              done="The version is being deployed; this is what it says.", status=202),
]  # fmt: skip
