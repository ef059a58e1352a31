"""What people do about runs: start one, go on with one, stop one, answer one that asks."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from treadle.core.errors import NotFound, UsageError
from treadle.pipelines import approvals, stopping
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.rooms.runs import known


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What is run: a model or pipeline, a pipeline's parameters as NAME=VALUE, a line each; a moment before which truth was known; the last step."""

    target: str
    params: str = ""
    as_of: str = ""
    until: str = ""


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why, for the record."""

    reason: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Yes or no to the question of a step, and why."""

    step: str
    answer: Literal["approve", "reject"]
    reason: str = ""


def start(asked: Asked) -> dict[str, Any]:
    """Run a model or pipeline, in a process of its own."""
    given, project = asked.body, asked.ws.project
    if given.target not in project.models and given.target not in project.pipelines:
        names = ", ".join([*project.models, *project.pipelines])
        raise NotFound(f"There is no model or pipeline {given.target[:100]!r}.", hint=f"The project declares: {names or 'nothing'}.")
    argv = ["run", given.target]
    for line in filter(None, map(str.strip, given.params.splitlines())):
        name, equals, _ = line.partition("=")
        if not equals or not name.strip().isidentifier():
            raise UsageError(f"{line[:60]!r} is no NAME=VALUE.", where="params", hint="Write one parameter a line.")
        argv.append(f"--set={line}")
    argv += [f"--as-of={given.as_of.strip()}"] if given.as_of.strip() else []
    argv += [f"--until={given.until.strip()}"] if given.until.strip() else []
    return _command(asked, argv)


def resume(asked: Asked) -> dict[str, Any]:
    """Go on with a run that was interrupted, stopped, failed, or was answered."""
    return _command(asked, ["resume", known(asked).id])


def stop(asked: Asked) -> dict[str, Any]:
    """Stop a run that is under way or waits. Raises Conflict for one that has ended."""
    record = known(asked)
    now = stopping.stop(record, asked.ws.ledger, asked.ws.clock, by=asked.person.name, reason=asked.body.reason.strip())
    return {"run": record.id, "status": now}


def answer(asked: Asked) -> dict[str, Any]:
    """Approve or reject what a step asks; approved, the run goes on when it is resumed. Raises Conflict when somebody was first."""
    given, ws = asked.body, asked.ws
    made = approvals.answer(
        known(asked), given.step, ws.ledger, ws.clock, approve=given.answer == "approve", by=asked.person.name, reason=given.reason.strip()
    )
    return {"run": made["run"], "step": made["step"], "status": made["status"], "by": made["by"]}


def _command(asked: Asked, argv: list[str]) -> dict[str, Any]:
    from treadle.web.console.rooms import commands

    return commands.start(asked, argv)


OPERATIONS = [
    Operation("runs.start", "/runs/start", "runs.start", start, "Run a model or pipeline.", method="POST", body=Start,
              done="The run begins.", status=202),
    Operation("runs.resume", "/runs/{run}/resume", "runs.start", resume, "Go on with a run.", method="POST", done="The run goes on.", status=202),
    Operation("runs.stop", "/runs/{run}/stop", "runs.stop", stop, "Stop a run; what had finished is kept.", method="POST", body=Why,
              done="The run is told to stop."),
    Operation("runs.answer", "/runs/{run}/answer", "runs.start", answer, "Answer a step that asks a person.", method="POST", body=Answer,
              done="Your answer is on record."),
]  # fmt: skip
