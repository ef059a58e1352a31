"""When this happens, do that: the one page that closes the loop.

    served features that the recorded data do not give  ->  an alarm, until a later sample agrees
    an open alarm of a kind the project retrains on  ->  one retraining, with the alarm as its cause
    no retraining for as long as the project allows   ->  one retraining, with the calendar as its cause
    a retrained version that passed its gates         ->  challenger, in shadow
    enough evidence in shadow, in canary, on trial    ->  canary, champion, or out and back (see `rollout`)
    an alarm whose cause was answered                 ->  resolved
    a data set whose contract is broken, or kept again  ->  an alarm to its owner, or its end

Each step first looks at what is recorded, so that a step that is killed, or done by two processes, does nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable

from treadle import feature_checks
from treadle.assemble import Workspace
from treadle.core.canonical import digest
from treadle.core.clock import iso, parse_time
from treadle.core.declare.model import Model
from treadle.core.declare.operations import Retrain
from treadle.core.errors import Conflict, DataError, Refused
from treadle.core.records import Record, Ref
from treadle.monitoring import alarms
from treadle.monitoring.reference import read_reference
from treadle.monitoring.watch import Watched, judge_due
from treadle.pipelines.run import mark_interrupted
from treadle.registry import conditions, packages, promote, versions
from treadle.rollout import rollout
from treadle.serving.requests import fields_of
from treadle.start import resume
from treadle.turn import turn

Tell = Callable[[str], None]


def step(ws: Workspace, model: Model, tell: Tell = lambda line: None) -> list[str]:
    """Watch and react once, at the clock's moment; returns what was done, in words."""
    done: list[str] = []

    def say(line: str) -> None:
        done.append(line)
        tell(line)

    alarms.about_data(ws.ledger, ws.clock)
    look(ws, model, say)
    feature_checks.look(ws, model, say)
    rollout(ws, model, say)
    answer_alarms(ws, model, say)
    keep_fresh(ws, model, say)
    alarms.deliver(ws.ledger, ws.notifiers)
    return done


def look(ws: Workspace, model: Model, tell: Tell) -> list[Record]:
    """Judge the blocks that are due and raise alarms for what is found."""
    declared = ws.watch_of(model)
    deployed = promote.deployment(model.name, ws.ledger)
    if declared is None or deployed is None:
        return []
    watched = _watched(ws, model, int(deployed["champion"]))
    if watched is None:
        return []
    raised = []
    for _, finding in judge_due(watched, declared, ws.predictions, ws.ledger, ws.clock.now()):
        alarm = alarms.raise_alarm(model.name, watched.version, finding, ws.ledger, ws.clock)
        if alarm is not None:
            tell(f"alarm {alarm.id}: {finding.kind}: {finding.sentence}")
            raised.append(alarm)
    return raised


def answer_alarms(ws: Workspace, model: Model, tell: Tell) -> None:
    """Start the retraining an open alarm asks for, if the policy allows one now."""
    declared = ws.watch_of(model)
    deployed = promote.deployment(model.name, ws.ledger)
    if declared is None or declared.retrain is None or deployed is None:
        return
    for alarm in alarms.open_alarms(model.name, ws.ledger):
        if alarm["version"] != deployed["champion"] and alarm["version"] != deployed["challenger"]:
            alarms.resolve(alarm, f"version {alarm['version']} no longer answers", ws.ledger, ws.clock)
            continue
        if alarm["kind"] not in declared.retrain.on or deployed["challenger"] is not None:
            continue
        if _spent(ws, model, declared.retrain):
            continue  # the alarm stays open and is answered when the budget allows
        cause = {"kind": alarms.KIND, "id": alarm.id, "text": alarm["sentence"]}
        number, said = retrain(ws, model, cause, int(deployed["champion"]), tell)
        fresh = ws.ledger.get(alarms.KIND, alarm.id)
        if fresh is not None and number is None:
            alarms.resolve(fresh, said, ws.ledger, ws.clock)
        deployed = promote.deployment(model.name, ws.ledger)
        if deployed is None:
            return


def keep_fresh(ws: Workspace, model: Model, tell: Tell) -> None:
    """Retrain by the calendar when nothing else did for as long as the project says."""
    declared = ws.watch_of(model)
    deployed = promote.deployment(model.name, ws.ledger)
    if declared is None or declared.retrain is None or declared.retrain.every is None or deployed is None or deployed["challenger"] is not None:
        return
    newest = max((v["as_of"] or v["trained_to"] for v in versions.all_versions(model.name, ws.ledger)), default="")
    if not newest or ws.clock.now() - parse_time(newest) < declared.retrain.every:
        return
    slot = f"after {newest[:10]}"
    text = f"nothing was retrained for {declared.retrain.every.days} days"
    retrain(ws, model, {"kind": "schedule", "id": f"{model.name} {slot}", "text": text}, int(deployed["champion"]), tell)


def _spent(ws: Workspace, model: Model, policy: Retrain) -> bool:
    since = iso(ws.clock.now() - policy.at_most.per)
    runs = [r for kind in (alarms.KIND, "schedule") for r in ws.ledger.find("run", {"model": model.name, "cause.kind": kind})]
    return bool(sum(r["started"] > since for r in runs) >= policy.at_most.count)


def retrain(ws: Workspace, model: Model, cause: dict[str, str], champion: int, tell: Tell) -> tuple[int | None, str]:
    """Train on what is known by now with the champion's settings, compare with it, and let a version that passes challenge it.

    One cause starts one run: its id is made from the cause, so a second process, or this one after a crash, finds it there.
    Returns: (number of the challenger or None, what happened).
    """
    current = versions.get(model.name, champion, ws.ledger)
    settings = {"family": current["family"], "params": current["params"]}
    run_id = f"run-{digest([cause['kind'], cause['id']])[:12]}"
    as_of = ws.clock.now()
    existing = ws.ledger.get("run", run_id)
    if existing is not None and existing["status"] == "running":
        mark_interrupted(ws.ledger, ws.clock)
        existing = ws.ledger.get("run", run_id)
    if existing is not None and existing["status"] == "running":
        return None, f"its retraining {run_id} runs in another process"
    left = existing is not None and existing["status"] in ("interrupted", "cancelled")
    if existing is not None and not left:  # it failed or was done before: the rows are those of then
        as_of = parse_time(existing["as_of"])
        run_id = f"{run_id}-{len(ws.ledger.find('run', {'cause.id': cause['id']}))}"
    if cause["kind"] == alarms.KIND:
        _reacted(ws, cause["id"], run_id)
    try:
        if left:  # killed or stopped: the same run goes on where it was
            outcome = resume(ws, run_id, wait=False)
        else:
            outcome = turn(ws, model, cause=cause, as_of=as_of, run_id=run_id, champion=current, settings=settings)
    except (Conflict, DataError, Refused) as error:
        tell(f"retraining {run_id} could not be done: {error}")
        return None, f"its retraining {run_id} could not be done: {error}"
    number = int(outcome["register"]["number"])
    made = versions.get(model.name, number, ws.ledger)
    why = cause["id"] if cause["kind"] == alarms.KIND else cause["text"]
    if made["status"] == "refused" and conditions.missing(made, ws.ledger, ws.clock.now()):
        reason = "; ".join(made["verdict"]["reasons"])
        tell(f"retrained ({why}): version {number} thrown out by its gates: {reason}")
        return None, f"retrained, but version {number} was refused: {reason}"
    if made["status"] not in ("approved", "refused"):  # the same training was done before, and its version had its chance
        return None, f"retrained: the same as version {number}, which is {made['status']}"
    try:
        promote.challenge(model.name, number, ws.ledger, ws.clock)
    except Refused as error:  # it waits for a person
        tell(f"retrained ({why}): {error.what}")
        return None, f"retrained: {error.what}"
    tell(f"retrained ({why}): version {number} passed its gates and runs in shadow")
    return number, f"version {number} challenges"


def _watched(ws: Workspace, model: Model, number: int) -> Watched | None:
    version = versions.get(model.name, number, ws.ledger)
    folder, manifest = packages.open_package(version["package"], ws.blobs, ws.shelf)
    normal = read_reference(folder)
    if normal is None:
        return None
    return Watched(model.name, number, version["task"], version["labels"], fields_of(manifest["signature"])[1], normal)


def _reacted(ws: Workspace, alarm_id: str, run_id: str) -> None:
    alarm = ws.ledger.get(alarms.KIND, alarm_id)
    if alarm is not None:
        with ws.ledger.transaction():
            ws.ledger.put(alarms.KIND, alarm_id, {**alarm.body, "reaction": run_id}, expect=alarm.version)
            ws.ledger.append("alarm.answered", Ref(alarms.KIND, alarm_id), {"run": run_id})
