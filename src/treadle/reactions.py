"""When this happens, do that: the one page that closes the loop.

    served features that the recorded data do not give  ->  an alarm, until a later sample agrees
    a level of the service or an age beyond its limit ->  an alarm, until it is kept again
    open alarms of kinds the project retrains on      ->  one retraining for all of them, with the oldest as its cause
    new rows, or no retraining for too long           ->  one retraining, with the data or the calendar as its cause
    a retrained version that passed its gates         ->  challenger, in shadow, if its change is within what was agreed; else a question
    outcomes that became known                        ->  learned by the online recalibration, if the project has one
    outcomes that came late or were corrected         ->  their window is restated
    enough evidence in shadow, in canary, on trial    ->  canary, champion, or out and back (see `rollout`)
    an alarm whose cause was answered                 ->  resolved
    a data set whose contract is broken, or kept again  ->  an alarm to its owner, or its end

Each step first looks at what is recorded, so that a step that is killed, or done by two processes, does nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from treadle.assemble import Workspace
from treadle.core.clock import iso, parse_time
from treadle.core.declare.model import Model
from treadle.core.declare.operations import Retrain
from treadle.core.records import Record
from treadle.data import versions as data_versions
from treadle.governance import reaction
from treadle.governance.reaction import Before, Cause, Evidence, Held
from treadle.live import feature_checks, learning, retraining, service_levels, settled
from treadle.live.rollout import rollout
from treadle.monitoring import alarms, telling
from treadle.monitoring.fresh import look_at_newest
from treadle.monitoring.leaning import weigher
from treadle.monitoring.reference import read_reference
from treadle.monitoring.watch import Watched, judge_due
from treadle.registry import packages, promote, versions
from treadle.review import notices
from treadle.serving.requests import fields_of

HOLD = "retrain_hold"
CAUSES = (alarms.KIND, "schedule", "new_data")
Tell = Callable[[str], None]


def step(ws: Workspace, model: Model, tell: Tell = lambda line: None) -> list[str]:
    """Watch and react once, at the clock's moment; returns what was done, in words."""
    done: list[str] = []

    def say(line: str) -> None:
        done.append(line)
        tell(line)

    alarms.about_data(ws.ledger, ws.clock)
    look(ws, model, say)
    service_levels.look(ws, model, say)
    feature_checks.look(ws, model, say)
    rollout(ws, model, say)
    react(ws, model, say)
    learned = learning.learn(ws, model)
    if learned is not None and learned["status"] != "learning":
        say(f"recalibration of version {learned['version']}: {learned['status']}, by {learned['better_by']:+.4f} on {learned['outcomes']:,} outcomes")
    for window in settled.settle(ws, model):
        if window["restated"]:
            say(f"truth: the window from {window['from'][:10]} of version {window['version']} is restated: {window['matured']:,} outcomes")
    telling.deliver(ws.ledger, ws.notifiers)
    notices.deliver(ws.ledger, ws.notifiers)
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
    found = judge_due(watched, declared, ws.predictions, ws.ledger, ws.clock.now())
    found += look_at_newest(watched, declared, ws.predictions, ws.ledger, ws.clock.now())
    for _, finding in found:
        alarm = alarms.raise_alarm(model.name, watched.version, finding, ws.ledger, ws.clock)
        if alarm is not None:
            tell(f"alarm {alarm.id}: {finding.kind}: {finding.sentence}")
            raised.append(alarm)
    return raised


def react(ws: Workspace, model: Model, tell: Tell) -> Record | None:
    """Start the retraining that the evidence asks for, if the policy allows one now, or go on with one. Returns what was done about it."""
    declared = ws.watch_of(model)
    deployed = promote.deployment(model.name, ws.ledger)
    if declared is None or deployed is None:
        return None
    for alarm in alarms.open_alarms(model.name, ws.ledger):
        if alarm["version"] != deployed["champion"] and alarm["version"] != deployed["challenger"]:
            alarms.resolve(alarm, f"version {alarm['version']} no longer answers", ws.ledger, ws.clock)
    policy = declared.retrain
    if policy is None or retraining.asked(ws, model, policy, tell):
        return None
    champion = int(deployed["champion"])
    for begun in ws.ledger.find(retraining.KIND, {"model": model.name, "status": "started"}):
        cause = Cause(begun["cause"]["kind"], begun["cause"]["id"], begun["cause"]["text"], tuple(begun["also"]))
        return retraining.retrain(ws, model, policy, cause, int(begun["champion"]), tell)
    deployed = promote.deployment(model.name, ws.ledger)  # a person may just have said yes
    if deployed is None or deployed["challenger"] is not None:
        return None
    found = due(ws, model, policy)
    _hold(ws, model, found if isinstance(found, Held) else None)
    return retraining.retrain(ws, model, policy, found, champion, tell) if isinstance(found, Cause) else None


def due(ws: Workspace, model: Model, policy: Retrain) -> Cause | Held | None:
    """What the policy says of what is recorded now."""
    deployed = promote.deployment(model.name, ws.ledger)
    if deployed is None:
        return None
    champion = versions.get(model.name, int(deployed["champion"]), ws.ledger)
    found = [Evidence(a.id, a["kind"], parse_time(a["raised"]), a["sentence"]) for a in alarms.open_alarms(model.name, ws.ledger)]
    tried = [parse_time(r["as_of"]) for r in ws.ledger.find(retraining.KIND, {"model": model.name})]  # also those that made nothing
    made = [parse_time(moment) for v in versions.all_versions(model.name, ws.ledger) if (moment := v["as_of"] or v["trained_to"])]
    newest = max([*tried, *made], default=None)
    fresh = new_rows(ws, model, newest) if policy.new_rows is not None and newest is not None else 0
    runs = [r for kind in CAUSES for r in ws.ledger.find("run", {"model": model.name, "cause.kind": kind})]
    before = [Before(parse_time(r["started"]), float(r.get("cpu") or 0.0)) for r in runs]
    return reaction.due(
        policy, ws.clock.now(), model=model.name, alarms=found, newest=newest, before=before, rows=fresh, learned_from=int(champion["trained_rows"])
    )


def new_rows(ws: Workspace, model: Model, since: datetime) -> int:
    """Rows of the newest recorded version of the model's data set whose truth became known after a moment, and is known now."""
    import polars as pl

    taken = data_versions.newest(model.rows.name, ws.ledger)
    known = model.rows.known_time or model.rows.event_time
    if taken is None or known is None:
        return 0
    inside = pl.col(known).is_between(pl.lit(since), pl.lit(ws.clock.now()), closed="right") & pl.col(model.target).is_not_null()
    return int(ws.tables.scan(taken.address).select(inside.sum()).collect().item() or 0)


def _hold(ws: Workspace, model: Model, held: Held | None) -> None:
    """Note what a retraining waits for, so that a person can see it; nothing is noted where nothing changed."""
    record = ws.ledger.get(HOLD, model.name)
    body = {"held": None} if held is None else {
        "held": {"cause": held.cause.id, "text": held.cause.text, "until": iso(held.until), "sentence": held.sentence}
    }  # fmt: skip
    before = None if record is None else record["held"]
    if (before or {}).get("cause") != (body["held"] or {}).get("cause") or (before or {}).get("sentence") != (body["held"] or {}).get("sentence"):
        ws.ledger.put(HOLD, model.name, body, expect=record.version if record else 0)


def _watched(ws: Workspace, model: Model, number: int) -> Watched | None:
    version = versions.get(model.name, number, ws.ledger)
    folder, manifest = packages.open_package(version["package"], ws.blobs, ws.shelf)
    normal = read_reference(folder)
    if normal is None:
        return None
    features = fields_of(manifest["signature"])[1]
    weigh = weigher(folder, manifest["model"].get("encoder", ()), [f.name for f in features]) if normal.thresholds.usual.weights else None
    return Watched(model.name, number, version["task"], version["labels"], features, normal, weigh)
