"""What becomes of a challenger, and of a new champion on trial, as the evidence of its stage comes in: on, out, or back.

    shadow  ->  canary, A/B test, or (blue/green) champion          out when its answers are worse
    canary  ->  champion on trial                                   out when its answers are worse
    A/B     ->  champion on trial, when it won                      out when it lost, or nothing was found in time
    trial   ->  champion for good                                   back to the one before when its answers are worse, or an alarm of a named kind

What a version does as a service (failures, times) the endpoint judges itself, within a second: see `web/watching.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from treadle.assemble import Workspace
from treadle.core.clock import iso, parse_time
from treadle.core.declare.model import Model
from treadle.core.declare.rollout import ABTest, Rollback
from treadle.core.errors import Refused
from treadle.core.records import Event, Record
from treadle.live import retraining
from treadle.live.deploy import ENDPOINT, missed, running_endpoint
from treadle.monitoring import alarms
from treadle.monitoring.judge import Finding
from treadle.monitoring.watch import code_of, output_of
from treadle.ports.predictions import Outcome, Prediction
from treadle.registry import intervene, promote, versions
from treadle.serving import sequential
from treadle.serving.entries import KEY
from treadle.serving.requests import micros
from treadle.serving.traffic import Decision, Pair, compare, decide, decide_ab, worse

Tell = Callable[[str], None]
DAY = timedelta(days=1)


def rollout(ws: Workspace, model: Model, tell: Tell) -> Decision | None:
    """Look once, and do what the evidence allows. None when no version is challenging or on trial, or the model is stopped."""
    deployed = promote.deployment(model.name, ws.ledger)
    if deployed is None:
        return None
    answering(ws, model, deployed, tell)
    if deployed.get("stopped"):
        return None
    note(ws, model, tell)
    if deployed["stage"] == "trial":
        return _trial(ws, model, deployed, tell)
    if deployed["challenger"] is None or deployed["stage"] not in ("shadow", *promote.HEARD):
        return None
    decision = judged(ws, model, deployed)
    challenger = int(deployed["challenger"])
    if decision.action in ("canary", "ab"):
        share = _share(ws, model)
        promote.canary(model.name, share, decision.evidence, ws.ledger, ws.clock, stage=decision.action)
        tell(f"version {challenger} now answers {share:.0%} of the requests: {decision.reason}")
    elif decision.action == "promote":
        _promote(ws, model, deployed, decision, tell)
    elif decision.action == "reject":
        promote.reject(model.name, decision.reason, decision.evidence, ws.ledger, ws.clock)
        tell(f"version {challenger} is thrown out: {decision.reason}")
        said = f"version {challenger} was thrown out in {deployed['stage']}: {decision.reason}"
        retraining.settled(ws, model, challenger, "thrown out", said)
    return decision


def judged(ws: Workspace, model: Model, deployed: Record) -> Decision:
    """What the evidence of the stage says now; changes nothing."""
    serve, limits = ws.serve_of(model), _limits(ws, model)
    champion = int(deployed["champion"])
    since, now = parse_time(deployed["since"]), ws.clock.now()
    labels = versions.get(model.name, champion, ws.ledger)["labels"]
    if deployed["stage"] == "trial":
        pairs = paired(ws, model, int(deployed["beside"]), champion, micros(since), micros(now) + 1, labels)
        evidence = compare(pairs)
        found = worse(pairs, limits.alpha, serve.least_outcomes, evidence) if limits.worse else None
        return Decision("rollback", found, evidence) if found else Decision("wait", _progress(len(pairs), serve.least_outcomes, since, now), evidence)
    challenger = int(deployed["challenger"])
    if deployed["stage"] == "ab":
        assert isinstance(serve.takeover, ABTest)
        a, b = sides(ws, model, champion, challenger, micros(since), micros(now) + 1, labels, serve.takeover)
        return decide_ab(a, b, serve.takeover, since, now)
    pairs = paired(ws, model, champion, challenger, micros(since), micros(now) + 1, labels)
    endpoint = ws.ledger.get(ENDPOINT, model.name)
    failures = int(endpoint.get("challenger_failures", 0)) if endpoint and serve.rollback is None else 0  # else its limits say how many
    least: timedelta = serve.shadow if deployed["stage"] == "shadow" else serve.canary_for
    step = "promote" if deployed["stage"] == "canary" else "ab" if isinstance(serve.takeover, ABTest) else serve.takeover
    return decide(
        deployed["stage"], since, now, least, serve.least_outcomes, pairs, failures, step="promote" if step == "blue_green" else step,
        alpha=limits.alpha if limits.worse else 0.0,
    )  # fmt: skip


def paired(ws: Workspace, model: Model, champion: int, challenger: int, start: int, end: int, labels: list[object]) -> list[Pair]:
    """The row losses of both versions on the requests both were asked, whose outcome is known."""
    from treadle.training.losses import row_loss

    task = "multiclass" if labels else "regression"
    watch = ws.watch_of(model)
    block = int((watch.every if watch else DAY) / timedelta(microseconds=1))
    found: list[Pair] = []
    for prediction, truth in _known(ws, model, start, end, labels):
        ours, theirs = output_of(prediction, champion), output_of(prediction, challenger)
        if not ours or not theirs:
            continue
        y = np.array([int(truth)]) if labels else np.array([truth])
        losses = [float(row_loss(task, y, np.array([o]))[0]) for o in (ours, theirs)]  # type: ignore[arg-type]
        found.append(Pair(prediction.moment // block, *losses))
    return found


def sides(
    ws: Workspace, model: Model, champion: int, challenger: int, start: int, end: int, labels: list[object], test: ABTest
) -> tuple[sequential.Sample, sequential.Sample]:  # fmt: skip
    """What followed from the answers of each version, a value a unit: the caller if the split has a sticky key, else the request.

    The outcome of a class is 1 for the last label (the positive one) and 0 for the others.
    """
    from treadle.training.losses import row_loss

    key = ws.serve_of(model).key
    task = "multiclass" if labels else "regression"
    sums: dict[int, dict[str, tuple[float, int]]] = {champion: {}, challenger: {}}
    for prediction, truth in _known(ws, model, start, end, labels):
        if prediction.version not in sums:
            continue
        if test.metric == "loss":
            y = np.array([int(truth)]) if labels else np.array([truth])
            value = float(row_loss(task, y, np.array([prediction.output]))[0])  # type: ignore[arg-type]
        else:
            value = float(truth == len(labels) - 1) if labels else truth
        units = sums[prediction.version]
        unit = _unit(prediction, key)
        total, count = units.get(unit, (0.0, 0))
        units[unit] = (total + value, count + 1)
    a, b = (sequential.of([total / count for total, count in sums[v].values()]) for v in (champion, challenger))
    return a, b


def note(ws: Workspace, model: Model, tell: Tell) -> None:
    """Tell of what the endpoint threw out by itself, once: the alarm that made the version is answered."""
    for event in ws.ledger.events_since(_seen(ws, model), kinds=("deployment.rolled_back",), limit=10_000):
        if event.subject.id == model.name:
            if event.actor.startswith("treadle"):
                tell(f"rolled back to version {event.body['to']}: {event.body['reason']}")
                _alarm(ws, model, event)
            said = f"version {event.body['from']} was rolled back: {event.body['reason']}"
            retraining.settled(ws, model, int(event.body["from"]), "rolled back", said)
        ws.ledger.put("rollout_state", model.name, {"seen": event.seq})


def _alarm(ws: Workspace, model: Model, event: Event) -> None:
    """An alarm for what went by itself, so that people are told; nothing is left to do about it, so it is resolved."""
    at, body = micros(parse_time(event.time)), event.body
    evidence: dict[str, Any] = body.get("evidence", {})
    found = Finding(
        "rollback", str(evidence.get("limit", "worse")), float(evidence.get("evidence", 0.0)), float(evidence.get("needed", 0.0)), at, at, (),
        f"Version {body['from']} was rolled back to version {body['to']}: {body['reason']}.",
    )  # fmt: skip
    alarm = alarms.raise_alarm(model.name, int(body["from"]), found, ws.ledger, ws.clock)
    if alarm is not None:
        alarms.resolve(alarm, f"version {body['to']} answers", ws.ledger, ws.clock)


def answering(ws: Workspace, model: Model, deployed: Record, tell: Tell) -> None:
    """Bring the alarms of versions that should answer and cannot be opened to what the running endpoint says of itself."""
    running = running_endpoint(ws, model.name)
    if running is None or int(running["deployment"]) < deployed.version:
        return
    said = missed(running)
    known = {int(a["version"]): a for a in alarms.open_alarms(model.name, ws.ledger) if a["kind"] == "fallback"}
    for number, alarm in known.items():
        if number not in said:
            alarms.resolve(alarm, f"version {running['answers']} answers, as the deployment says", ws.ledger, ws.clock)
    at = micros(ws.clock.now())
    for number, sentence in said.items():
        if number not in known:
            found = Finding("fallback", "missed", 1.0, 0.0, at, at, (), sentence)
            if alarms.raise_alarm(model.name, number, found, ws.ledger, ws.clock) is not None:
                tell(sentence)


def _seen(ws: Workspace, model: Model) -> int:
    state = ws.ledger.get("rollout_state", model.name)
    return int(state["seen"]) if state else 0


def _trial(ws: Workspace, model: Model, deployed: Record, tell: Tell) -> Decision:
    """The new champion against the one before, on the same rows; and its alarms."""
    decision = judged(ws, model, deployed)
    champion, before = int(deployed["champion"]), int(deployed["beside"])
    reason = decision.reason if decision.action == "rollback" else _alarming(ws, model, deployed)
    if reason:
        intervene.rollback(model.name, reason, ws.ledger, ws.clock, actor="treadle", of=champion, evidence=decision.evidence)
        note(ws, model, tell)
        return Decision("rollback", reason, decision.evidence)
    watch = ws.watch_of(model)
    end = parse_time(deployed["since"]) + _limits(ws, model).trial + (watch.label_window if watch else timedelta(0))
    if ws.clock.now() >= end:
        promote.settle(model.name, decision.evidence, ws.ledger)
        tell(f"the trial of version {champion} is over: {decision.evidence['outcomes']:,} outcomes, nothing that speaks for version {before}")
        return Decision("settle", "the trial is over", decision.evidence)
    return decision


def _alarming(ws: Workspace, model: Model, deployed: Record) -> str:
    """Why an alarm throws the champion out; '' if none does.

    Skew is no chance. Alarms of the other kinds come falsely at the rate the watch declares, so they count only for as long after the takeover as the
    probability of a false one stays within what this test may have of the tolerated false alarms.
    """
    limits, watch = _limits(ws, model), ws.watch_of(model)
    since = parse_time(deployed["since"])
    for alarm in alarms.open_alarms(model.name, ws.ledger):
        if alarm["version"] != deployed["champion"] or alarm["kind"] not in limits.alarms or alarm["raised"] < iso(since):
            continue
        certain = watch.false_alarms.per * (limits.alpha / watch.false_alarms.count) if watch and watch.false_alarms.count else timedelta.max
        if alarm["kind"] == "skew" or parse_time(alarm["raised"]) - since <= certain:
            return f"alarm {alarm.id}: {alarm['sentence']}"
    return ""


def _promote(ws: Workspace, model: Model, deployed: Record, decision: Decision, tell: Tell) -> None:
    champion, challenger, evidence = int(deployed["champion"]), int(deployed["challenger"]), decision.evidence
    try:
        promote.promote(model.name, evidence, ws.ledger, ws.clock, trial=on_trial(ws, model))
    except Refused as error:  # a waiver ended while it was in canary
        promote.reject(model.name, error.what, evidence, ws.ledger, ws.clock)
        tell(f"version {challenger} is thrown out: {error.what}")
        retraining.settled(ws, model, challenger, "thrown out", f"version {challenger} was thrown out: {error.what}")
        return
    tell(f"version {challenger} replaces version {champion}: {decision.reason}")
    retraining.settled(ws, model, challenger, "took over", f"version {challenger} replaced version {champion}")


def on_trial(ws: Workspace, model: Model) -> bool:
    """Whether a new champion of the model is on trial first."""
    rollback = ws.serve_of(model).rollback
    return rollback is not None and rollback.trial > timedelta(0)


def _known(ws: Workspace, model: Model, start: int, end: int, labels: list[object]) -> Iterator[tuple[Prediction, float]]:
    for batch in ws.predictions.between(model.name, start, end):
        for prediction, outcome in batch:
            truth = _truth(outcome, labels)
            if truth is not None:
                yield prediction, truth


def _truth(outcome: Outcome | None, labels: list[object]) -> float | None:
    truth = code_of(outcome, labels)
    return None if not np.isfinite(truth) or (labels and truth < 0) else truth


def _unit(prediction: Prediction, key: str) -> str:
    if not key:
        return prediction.id
    inputs: dict[str, Any] = json.loads(prediction.inputs)
    found = inputs.get(KEY) if key.startswith("header:") else inputs.get(key[6:])
    return prediction.id if found is None or found == "" else f"={found}"


def _limits(ws: Workspace, model: Model) -> Rollback:
    """The declared limits; without any, those under which only worse answers count, and nothing is tried."""
    return ws.serve_of(model).rollback or Rollback(alarms=(), trial=timedelta(0))


def _share(ws: Workspace, model: Model) -> float:
    serve = ws.serve_of(model)
    return serve.takeover.share if isinstance(serve.takeover, ABTest) else serve.canary


def _progress(outcomes: int, least: int, since: datetime, now: datetime) -> str:
    return f"{outcomes:,} of {least:,} outcomes, {(now - since) / DAY:.1f} days"
