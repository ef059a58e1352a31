"""Alarms: one cause, one alarm. A finding of a kind that is already open for the same version joins it; only a new one is an event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from treadle.core.canonical import digest, plain
from treadle.core.clock import Clock, iso
from treadle.core.errors import TreadleError
from treadle.core.records import Link, Record, Ref
from treadle.monitoring.judge import Finding
from treadle.monitoring.watch import day
from treadle.ports.ledger import Ledger
from treadle.ports.notifier import Message, Notifier

KIND = "alarm"
SEVERITY = {"data_quality": "high", "quality": "high", "calibration": "high", "prediction": "medium", "input": "medium"}


def raise_alarm(model: str, version: int, finding: Finding, ledger: Ledger, clock: Clock) -> Record | None:
    """Raise an alarm for a finding, or add it to the one that is open for the same kind; returns a newly raised one.

    The same finding told twice (after a crash) is the same alarm.
    """
    id = f"alarm-{digest([model, version, finding.kind, finding.window_end])[:12]}"
    if ledger.get(KIND, id) is not None:
        return None
    told = {**plain(finding), "at": iso(clock.now())}
    for record in ledger.find(KIND, {"model": model, "version": version, "kind": finding.kind, "status": "open"}):
        ledger.put(KIND, record.id, {**record.body, "again": [*record["again"], told]}, expect=record.version)
        return None
    body: dict[str, Any] = {
        "model": model, "version": version, "kind": finding.kind, "severity": SEVERITY[finding.kind], "status": "open", "told": False, "again": [],
        "raised": iso(clock.now()), "reaction": "", "resolution": "", "metric": finding.metric, "value": finding.value,
        "threshold": finding.threshold,
        "window": [iso(day(finding.window_start)), iso(day(finding.window_end))], "features": [list(f) for f in finding.features],
        "sentence": finding.sentence, "for": ["experimentation", "data engineering", "scheduler"],
    }  # fmt: skip
    with ledger.transaction():
        record = ledger.put(KIND, id, body, expect=0)
        ledger.link(Link(Ref(KIND, id), "about", Ref("model_version", f"{model}.v{version}")))
        ledger.append("alarm.raised", Ref(KIND, id), {"kind": finding.kind, "sentence": finding.sentence})
    return record


def open_alarms(model: str, ledger: Ledger) -> list[Record]:
    """Alarms of a model that nothing has answered yet, oldest first."""
    return ledger.find(KIND, {"model": model, "status": "open"})


def resolve(record: Record, resolution: str, ledger: Ledger, clock: Clock, *, actor: str = "treadle") -> Record:
    """Close an alarm, saying why."""
    with ledger.transaction():
        closed = ledger.put(
            KIND, record.id, {**record.body, "status": "resolved", "resolution": resolution, "resolved": iso(clock.now())}, expect=record.version
        )
        ledger.append("alarm.resolved", Ref(KIND, record.id), {"resolution": resolution}, actor=actor)
    return closed


def deliver(ledger: Ledger, notifiers: Sequence[Notifier]) -> int:
    """Tell people of alarms they were not told of; what cannot be sent now is sent next time. Returns how many were told."""
    told = 0
    for record in ledger.find(KIND, {"told": False}):
        message = Message(record.id, f"{record['model']}: {record['kind']}", record["sentence"], record["severity"])
        try:
            for notifier in notifiers:
                notifier.send(message)
        except TreadleError as error:
            ledger.append("alarm.not_sent", Ref(KIND, record.id), {"error": str(error)})
            continue
        ledger.put(KIND, record.id, {**record.body, "told": True}, expect=record.version)
        told += 1
    return told
