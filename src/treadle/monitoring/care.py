"""What a person does with an alarm: look it up, say that somebody is at it, put it off, close it, answer what it asks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from treadle.core.clock import Clock, iso
from treadle.core.errors import NotFound, UsageError
from treadle.core.records import Record, Ref
from treadle.monitoring import alarms
from treadle.ports.ledger import Ledger


def find(text: str, ledger: Ledger) -> Record:
    """An alarm by its id, or by how its id begins after 'alarm-'. Raises NotFound, UsageError where several begin so."""
    exact = ledger.get(alarms.KIND, text)
    if exact is not None:
        return exact
    stem = text if text.startswith("alarm-") else f"alarm-{text}"
    found = [r for r in ledger.find(alarms.KIND) if r.id.startswith(stem)] if len(stem) > len("alarm-") else []
    if len(found) > 1:
        raise UsageError(f"{len(found)} alarms begin with {text!r}.", hint=f"Write more of it: {', '.join(r.id for r in found[:5])}")
    if not found:
        raise NotFound(f"There is no alarm {text!r}.", hint="List them: treadle alarms list --all")
    return found[0]


def acknowledge(record: Record, by: str, note: str, ledger: Ledger, clock: Clock) -> Record:
    """Say that somebody is at it. Raises UsageError for one that is resolved."""
    _still_open(record)
    return _change(record, {"acknowledged": {"by": by, "at": iso(clock.now()), "note": note}}, "alarm.acknowledged", ledger, by)


def snooze(record: Record, until: datetime, by: str, ledger: Ledger, clock: Clock) -> Record:
    """Tell nobody of it before a moment. It stays open, and what it starts is started. Raises UsageError."""
    _still_open(record)
    if until <= clock.now():
        raise UsageError(f"{iso(until)} is past.", hint="Snooze until a later moment, or for a time such as 4h.")
    return _change(record, {"snoozed": iso(until), "told": False, "sent": {}}, "alarm.snoozed", ledger, by)


def close(record: Record, why: str, by: str, ledger: Ledger, clock: Clock) -> Record:
    """Resolve it by hand, with a reason. Raises UsageError for one that is resolved, or without a reason."""
    _still_open(record)
    if not why.strip():
        raise UsageError("An alarm is resolved with a reason.", hint="For example: treadle alarms resolve ID --because 'the feed was repaired'")
    return alarms.resolve(record, f"{why.strip()} ({by})", ledger, clock, actor=by)


def _still_open(record: Record) -> None:
    if record["status"] != "open":
        raise UsageError(f"{record.id} is resolved: {record['resolution']}.", hint="Open ones: treadle alarms list")


def _change(record: Record, changes: Mapping[str, Any], event: str, ledger: Ledger, by: str) -> Record:
    with ledger.transaction():
        changed = ledger.put(alarms.KIND, record.id, {**record.body, **changes}, expect=record.version)
        ledger.append(event, Ref(alarms.KIND, record.id), {"kind": record["kind"]}, actor=by)
    return changed
