"""One retraining for one cause: train, judge, see whether the change is within what was agreed, and let the version challenge, or ask a person.

What is done about a cause is one record (kind `reaction`, its id made from the cause), written before anything starts: a second process, or this one
after a crash, finds it there and goes on with it. Its status is 'started', then one of

    'challenges'   the version runs in shadow            'took over', 'thrown out'   what came of it
    'asks'         it waits for a person                 'rejected', 'expired'       the person said no, or nothing
    'refused'      its gates did not let it through      'failed'                    it could not be trained
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import numpy as np

from treadle.assemble import Workspace
from treadle.core.canonical import digest
from treadle.core.clock import iso, parse_time
from treadle.core.declare.model import Model
from treadle.core.declare.operations import Envelope, Retrain
from treadle.core.errors import Conflict, DataError, NotFound, Refused, StepFailed
from treadle.core.records import Link, Record, Ref
from treadle.features.rows import KNOWN
from treadle.governance.reaction import Cause
from treadle.monitoring import alarms
from treadle.pipelines.run import RUN, mark_interrupted
from treadle.ports.notifier import Message
from treadle.registry import conditions, promote, versions
from treadle.wheel.packaging import feature_lists
from treadle.wheel.start import resume
from treadle.wheel.turn import load_version, turn

KIND = "reaction"
OPEN = ("started", "asks", "challenges")
COMPARED = 5_000  # of the newest rows, on which the change of the answers is measured
Tell = Callable[[str], None]


def reaction_id(cause: Cause) -> str:
    """The id of what is done about a cause; the id of its run has the same digits."""
    return f"reaction-{digest([cause.kind, cause.id])[:12]}"


def retrain(ws: Workspace, model: Model, policy: Retrain, cause: Cause, champion: int, tell: Tell) -> Record | None:
    """Do what a cause asks for, or go on with it; None while another process does.

    Trains on what is known by the moment the cause was first answered, with the champion's settings, and compares with the champion.
    """
    id, run_id = reaction_id(cause), f"run-{digest([cause.kind, cause.id])[:12]}"
    record = ws.ledger.get(KIND, id)
    if record is not None and record["status"] != "started":
        return record
    if record is None:
        body: dict[str, Any] = {
            "model": model.name, "cause": {"kind": cause.kind, "id": cause.id, "text": cause.text}, "also": list(cause.also), "run": run_id,
            "status": "started", "as_of": iso(ws.clock.now()), "version": None, "said": "", "outside": [], "change": None, "answer": None,
            "at": iso(ws.clock.now()), "champion": champion,
        }  # fmt: skip
        try:
            with ws.ledger.transaction():
                record = ws.ledger.put(KIND, id, body, expect=0)
                ws.ledger.append("reaction.started", Ref(KIND, id), {"model": model.name, "cause": cause.kind, "run": run_id})
                _answered(ws, cause, run_id)
        except Conflict:  # another process answers this very cause
            return None
    current = versions.get(model.name, champion, ws.ledger)
    mark_interrupted(ws.ledger, ws.clock)
    run = ws.ledger.get(RUN, run_id)
    if run is not None and run["status"] == "running":
        return None
    try:
        if run is not None and run["status"] in ("interrupted", "cancelled"):  # killed or stopped: the same run goes on where it was
            outcome = resume(ws, run_id, wait=False)
        elif run is not None:  # it ended, and this process was killed before it said so: everything it did is found again
            outcome = _turn(ws, model, policy, record, current, f"{run_id}-{len(ws.ledger.find(RUN, {'cause.id': cause.id}))}")
        else:
            outcome = _turn(ws, model, policy, record, current, run_id)
    except (Conflict, DataError, Refused, StepFailed) as error:
        tell(f"retraining {run_id} could not be done: {error}")
        return _end(ws, record, "failed", f"its retraining {run_id} could not be done: {error}")
    number = int(outcome["register"]["number"])
    made = versions.get(model.name, number, ws.ledger)
    why = cause.id if cause.kind == alarms.KIND else cause.text
    if made["status"] == "refused" and conditions.missing(made, ws.ledger, ws.clock.now()):
        reasons = "; ".join(made["verdict"]["reasons"])
        tell(f"retrained ({why}): version {number} thrown out by its gates: {reasons}")
        return _end(ws, record, "refused", f"retrained, but version {number} was refused: {reasons}", version=number)
    if made["status"] not in ("approved", "refused"):  # the same training was done before, and its version had its chance
        return _end(ws, record, "failed", f"retrained: the same as version {number}, which is {made['status']}", version=number)
    change = changed(ws, model, current, made, outcome["rows"])
    outside = [] if policy.ask == "never" else beyond(policy.envelope, change)
    if policy.ask == "always":
        outside = outside or ["the project asks a person about every retrained version"]
    if outside:
        tell(f"retrained ({why}): version {number} waits for a person: {'; '.join(outside)}")
        asked = _end(ws, record, "asks", f"version {number} waits for a person: {'; '.join(outside)}", version=number, change=change, outside=outside)
        _message(ws, asked, f"{model.name}: version {number} waits for you")
        return asked
    return challenge(ws, model, ws.ledger.get(KIND, id) or record, number, why, tell, change)


def challenge(
    ws: Workspace, model: Model, record: Record, number: int, why: str, tell: Tell, change: Mapping[str, Any] | None = None
) -> Record:  # fmt: skip
    """Put a retrained version beside the champion, if its conditions allow."""
    try:
        promote.challenge(model.name, number, ws.ledger, ws.clock)
    except Conflict as error:
        deployed = promote.deployment(model.name, ws.ledger)
        if deployed is None or deployed["challenger"] != number:  # else it was done before a crash
            tell(f"retrained ({why}): {error.what}")
            return _end(ws, record, "failed", f"retrained: {error.what}", version=number)
    except Refused as error:  # its gate `approved` waits for people
        tell(f"retrained ({why}): {error.what}")
        return _end(ws, record, "refused", f"retrained: {error.what}", version=number)
    tell(f"retrained ({why}): version {number} passed its gates and runs in shadow")
    more = {} if change is None else {"change": dict(change)}
    return _end(ws, record, "challenges", f"version {number} challenges", version=number, **more)


def changed(ws: Workspace, model: Model, champion: Record, made: Record, rows: Any) -> dict[str, float | None]:
    """How a version differs from the champion: in its answers to the newest rows that are known, in what it learned from, in its loss.

    `answers` is None where the two cannot be asked the same.
    """
    import polars as pl

    newest = rows.filter(pl.col(KNOWN).is_not_null()) if rows[KNOWN].null_count() < rows.height else rows
    if made["as_of"]:
        newest = newest.filter(pl.col(KNOWN) <= parse_time(made["as_of"]))
    newest = newest.sort(KNOWN).tail(COMPARED) if newest.height else rows.tail(COMPARED)
    moved: float | None = None
    ours, theirs = load_version(ws, champion), load_version(ws, made)
    if ours.labels == theirs.labels and {f.name for f in (*ours.features, *theirs.features)} <= set(newest.columns) and newest.height:
        said, says = (np.asarray(v.outputs(feature_lists(newest, [f.name for f in v.features])), dtype=np.float64) for v in (ours, theirs))
        if ours.labels:
            moved = float(np.abs(says - said).sum(axis=1).mean() / 2)
        else:
            spread = float(said.std())
            moved = float(np.abs(says - said).mean() / spread) if spread > 0 else None
    against = made["evaluation"].get("against", {}).get("champion")
    loss: float | None = None
    if against is not None:
        mine = made["evaluation"]["metrics"]["model"].get("log_loss") or made["evaluation"]["metrics"]["model"].get("mae")
        if mine and mine["value"] is not None:
            before = mine["value"] + against["better_by"]
            loss = float(against["better_by"] / before) if before > 0 else None
    return {"answers": moved, "rows": made["trained_rows"] / max(1, champion["trained_rows"]), "loss": loss}


def beyond(envelope: Envelope | None, change: Mapping[str, float | None]) -> list[str]:
    """Where a change leaves the envelope, a sentence each."""
    if envelope is None:
        return []
    found, answers, rows, loss = [], change["answers"], change["rows"], change["loss"]
    if envelope.answers is not None and (answers is None or answers > envelope.answers):
        said = "its answers cannot be compared with the champion's" if answers is None else f"its answers change by {answers:.3f} on average"
        found.append(f"{said} (agreed: {envelope.answers:g})")
    if envelope.rows is not None and rows is not None and not 1 / envelope.rows <= rows <= envelope.rows:
        found.append(f"it learned from {rows:.2g} times as many rows as the champion (agreed: {1 / envelope.rows:.2g} to {envelope.rows:g})")
    if envelope.loss is not None and loss is not None and loss > envelope.loss:
        found.append(f"its loss is {loss:.0%} lower than the champion's, which is too good to believe (agreed: {envelope.loss:.0%})")
    return found


def asked(ws: Workspace, model: Model, policy: Retrain, tell: Tell) -> bool:
    """Whether a version waits for a person; one that was answered, or that nobody answered for as long as the budget's span, goes on from here."""
    for record in ws.ledger.find(KIND, {"model": model.name, "status": "asks"}):
        answer, number = record["answer"], int(record["version"])
        if answer is not None and answer["yes"]:
            challenge(ws, model, record, number, f"{answer['by']} said yes", tell)
        elif answer is not None:
            _end(ws, record, "rejected", f"{answer['by']} said no to version {number}" + (f": {answer['reason']}" if answer["reason"] else ""))
        elif ws.clock.now() - parse_time(record["at"]) > max(policy.at_most.per, timedelta(days=7)):
            _end(ws, record, "expired", f"nobody said anything about version {number}")
        else:
            return True
    return False


def say(ws: Workspace, id: str, *, yes: bool, reason: str = "") -> Record:
    """Answer for a person what a reaction asks. Raises NotFound; Conflict when it asks nothing, or was answered."""
    record = ws.ledger.get(KIND, id)
    if record is None:
        raise NotFound(f"There is no reaction {id!r}.", hint="See: treadle reactions")
    if record["status"] != "asks":
        raise Conflict(f"Reaction {id} asks nothing: it {record['status']}.", hint="See: treadle reactions")
    if record["answer"] is not None:
        raise Conflict(f"{record['answer']['by']} answered reaction {id} before.", hint="See: treadle reactions")
    answer = {"yes": yes, "by": ws.actor, "reason": reason, "at": iso(ws.clock.now())}
    with ws.ledger.transaction():
        answered = ws.ledger.put(KIND, id, {**record.body, "answer": answer}, expect=record.version)
        ws.ledger.append("reaction.approved" if yes else "reaction.rejected", Ref(KIND, id), {"reason": reason}, actor=ws.actor)
    return answered


def settled(ws: Workspace, model: Model, number: int, status: str, said: str) -> None:
    """Record what came of a challenger, and resolve the alarms it was made for: what they said is answered now, one way or the other."""
    for record in ws.ledger.find(KIND, {"model": model.name, "version": number}):
        if record["status"] == "challenges" or (record["status"], status) == ("took over", "rolled back"):
            _end(ws, record, status, said)
    version = versions.get(model.name, number, ws.ledger)
    if version["cause"].get("kind") == alarms.KIND:  # also of a version that a person made for an alarm
        _resolve(ws, [version["cause"]["id"]], said)


def _turn(ws: Workspace, model: Model, policy: Retrain, record: Record, champion: Record, run_id: str) -> Any:
    settings = {"family": champion["family"], "params": champion["params"]}
    if policy.window is not None:
        settings["window"] = policy.window.total_seconds()
    as_of = parse_time(record["as_of"])
    return turn(ws, model, cause=record["cause"], as_of=as_of, run_id=run_id, champion=champion, settings=settings)


def _end(ws: Workspace, record: Record, status: str, said: str, **more: Any) -> Record:
    """Record a status; the alarms are resolved by all that end it, and stay open while it challenges or asks."""
    now = ws.ledger.get(KIND, record.id) or record
    with ws.ledger.transaction():
        ended = ws.ledger.put(KIND, record.id, {**now.body, "status": status, "said": said, **more}, expect=now.version)
        ws.ledger.append(f"reaction.{status.replace(' ', '_')}", Ref(KIND, record.id), {"version": ended["version"]})
        if ended["version"] is not None:
            ws.ledger.link(Link(Ref(KIND, record.id), "made", Ref(versions.KIND, versions.version_id(ended["model"], int(ended["version"])))))
        if status not in OPEN:
            _resolve(ws, _alarms_of(ended), said)
    return ended


def _alarms_of(record: Record) -> list[str]:
    return [record["cause"]["id"], *record["also"]] if record["cause"]["kind"] == alarms.KIND else []


def _resolve(ws: Workspace, ids: list[str], said: str) -> None:
    for id in ids:
        alarm = ws.ledger.get(alarms.KIND, id)
        if alarm is not None and alarm["status"] == "open":
            alarms.resolve(alarm, said, ws.ledger, ws.clock)


def _answered(ws: Workspace, cause: Cause, run_id: str) -> None:
    for id in (cause.id, *cause.also) if cause.kind == alarms.KIND else ():
        alarm = ws.ledger.get(alarms.KIND, id)
        if alarm is not None:
            ws.ledger.put(alarms.KIND, id, {**alarm.body, "reaction": run_id}, expect=alarm.version)
            ws.ledger.append("alarm.answered", Ref(alarms.KIND, id), {"run": run_id})


def _message(ws: Workspace, record: Record, title: str) -> None:
    from treadle.core.errors import TreadleError

    for notifier in ws.notifiers:
        try:
            hint = f" Say yes or no: treadle reactions approve {record.id}, or treadle reactions reject {record.id}."
            notifier.send(Message(f"{record.id}-asks", title, record["said"] + "." + hint, "medium"))
        except TreadleError as error:
            ws.ledger.append("reaction.not_told", Ref(KIND, record.id), {"error": str(error)})
