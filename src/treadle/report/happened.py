"""What happened to a model: alarms, what was done about them, what it cost, and the order of it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from treadle.core.declare.model import Model
from treadle.core.records import Event, Record
from treadle.monitoring import alarms
from treadle.pipelines.run import RUN, STEP
from treadle.ports.ledger import Ledger
from treadle.registry import versions

Served = Mapping[str, Mapping[str, Any]]  # version number to when it answered, see `production`
KINDS = (
    "alarm.raised", "alarm.resolved", "version.approved", "version.refused", "deployment.started", "deployment.shadow", "deployment.canary",
    "deployment.promoted", "deployment.rejected", "deployment.stopped", "deployment.rolled_back", "endpoint.refused", "endpoint.stopped",
)  # fmt: skip
_ALARM = (
    "version", "kind", "severity", "status", "raised", "metric", "value", "threshold", "window", "features", "sentence", "reaction", "resolution",
)  # fmt: skip


def runs_of(model: str, ledger: Ledger) -> list[Record]:
    """Every run of a model, oldest first."""
    return ledger.find(RUN, {"model": model})


def seconds_of(run: Record) -> float:
    """Wall-clock seconds it took."""
    return float(run.get("seconds", 0.0))


def alarms_of(model: Model, ledger: Ledger) -> list[dict[str, Any]]:
    """Every alarm about a model, the data sets it is made from and the online values it looks up, oldest first.

    `about` is empty for the model itself.
    """
    found = [
        {"id": a.id, **{k: a[k] for k in _ALARM}, "about": "" if a["model"] else alarms.about(a), "resolved": a.get("resolved", ""),
         "again": len(a["again"])}
        for name in (model.name, "") for a in ledger.find(alarms.KIND, {"model": name}) if alarms.concerns(a, model)
    ]  # fmt: skip
    return sorted(found, key=lambda a: (a["raised"], a["id"]))


def retrainings_of(runs: Sequence[Record], known: Sequence[Record]) -> list[dict[str, Any]]:
    """What each retraining that an alarm or the calendar started has cost, and what came of it."""
    made = {v["run"]: v for v in known}
    found = []
    for run in runs:
        if run["cause"].get("kind") not in (alarms.KIND, "schedule"):
            continue
        alarm = run["cause"]["id"] if run["cause"]["kind"] == alarms.KIND else ""
        version = made.get(run.id)
        found.append({
            "run": run.id, "alarm": alarm, "because": run["cause"]["kind"], "started": run["started"], "status": run["status"],
            "seconds": seconds_of(run),
            "version": int(version["number"]) if version else None, "passed": version["verdict"]["passed"] if version else None,
            "now": version["status"] if version else "", "reasons": version["verdict"]["reasons"] if version else [run.get("error", "")],
            "trained_rows": version["trained_rows"] if version else None,
        })  # fmt: skip
    return found


def trainings(runs: Sequence[Record], ledger: Ledger) -> dict[str, Any]:
    """How often something was trained, and the wall-clock seconds of those runs and of their training steps."""
    by_run = {s["run"]: s for s in ledger.find(STEP, {"step": "train", "status": "done"})}
    trained = [r for r in runs if r.id in by_run]
    steps = [by_run[r.id] for r in trained]
    return {
        "runs": len(runs), "trainings": len(trained), "run_seconds": sum(map(seconds_of, trained)),
        "train_seconds": float(sum(s.get("seconds", 0) for s in steps)),
    }  # fmt: skip


def timeline(
    ledger: Ledger, model: str, raised: Sequence[Mapping[str, Any]], runs: Sequence[Record], known: Sequence[Record], served: Served
) -> list[dict[str, Any]]:
    """The model's entries of the audit log, in their order, each with its moment on the loop's own clock.

    Args:
        served: when each version answered, if a replay was lived through, whose clock is not the wall's; else empty.
    """
    by_alarm = {a["id"]: a for a in raised}
    by_version = {v.id: v for v in known}
    started = {r.id: r["started"] for r in runs}
    found: list[dict[str, Any]] = []
    seq = 0
    while batch := ledger.events_since(seq, kinds=KINDS):
        seq = batch[-1].seq
        for event in batch:
            told = _told(event, model, by_alarm, by_version, started, served)
            if told is not None:
                entry = {"seq": event.seq, "kind": event.kind, "recorded": event.time, "actor": event.actor, "subject": event.subject.id}
                found.append({**entry, **told})
    return found


def _told(
    event: Event, model: str, by_alarm: Mapping[str, Any], by_version: Mapping[str, Record], started: Mapping[str, str], served: Served
) -> dict[str, Any] | None:
    """When it was on the loop's clock and what it says; None if it is of another model."""
    kind = event.kind
    if event.subject.kind == alarms.KIND:
        alarm = by_alarm.get(event.subject.id)
        if alarm is None:
            return None
        if kind == "alarm.raised":
            about = f" of {alarm['about']}" if alarm["about"] else ""
            return {"at": alarm["raised"], "text": f"{alarm['kind'].replace('_', ' ')}{about}: {alarm['sentence']}"}
        return {"at": alarm["resolved"] or event.time, "text": str(alarm["resolution"])}
    if event.subject.kind == versions.KIND:
        version = by_version.get(event.subject.id)
        if version is None:
            return None
        result = "passed its gates" if kind == "version.approved" else f"was refused: {'; '.join(version['verdict']['reasons'])}"
        at = (version["as_of"] if served else "") or started.get(version["run"], event.time)
        return {"at": at, "text": f"version {version['number']} ({version['trained_rows']:,} rows) {result}"}
    if event.subject.id != model:
        return None
    return _deployed(event, model, by_version, served)


def _deployed(event: Event, model: str, by_version: Mapping[str, Record], served: Served) -> dict[str, Any]:
    body, name = event.body, event.kind.partition(".")[2]
    number = body.get("challenger") if name in ("shadow", "canary", "rejected") else body.get("champion")
    seen = served.get(str(number), {})
    version = by_version.get(versions.version_id(model, int(number))) if number else None
    at = {"started": seen.get("first"), "canary": seen.get("first_canary"), "promoted": seen.get("first_champion"),
          "shadow": version["as_of"] if version and served else None}.get(name) or event.time  # fmt: skip
    says = {
        "started": f"version {number} began to answer",
        "shadow": f"version {number} runs in shadow: it answers beside the champion, unheard",
        "canary": f"version {number} answers {float(body.get('share', 0)):.0%} of the requests{_evidence(body)}",
        "promoted": f"version {number} answers instead of version {body.get('instead_of')}{_evidence(body)}",
        "rejected": f"version {number} was thrown out: {body.get('reason', '')}",
    }
    return {"at": at, "text": says.get(name, ", ".join(f"{k} {v}" for k, v in body.items()) or event.kind), "version": number}


def _evidence(body: Mapping[str, Any]) -> str:
    e = body.get("evidence") or {}
    if "better_by" not in e:
        return f", by {e['by']}" if "by" in e else ""
    sign = "lower" if e["better_by"] >= 0 else "higher"
    return f": loss {abs(e['better_by']):.4f} {sign} than the champion's on the same {e['outcomes']:,} requests"
