"""Telling people of alarms: each receiver once, a group together, again what was not taken, and never losing one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from treadle.core.clock import Clock, SystemClock, iso
from treadle.core.errors import Conflict, TreadleError
from treadle.core.records import Record, Ref
from treadle.monitoring.alarms import KIND, about
from treadle.ports.ledger import Ledger
from treadle.ports.notifier import Message, Notifier


def deliver(ledger: Ledger, notifiers: Sequence[Notifier], clock: Clock | None = None) -> int:
    """Tell people of alarms they were not told of; what cannot be sent now is sent next time. Returns how many messages were handed over whole.

    Each receiver is told of a group once, however often another one fails. Those that forget (`repeats`) are told of open alarms again, and of ends.
    """
    now = iso((clock or SystemClock()).now())
    told = 0
    waiting = [r for r in ledger.find(KIND, {"told": False}) if not r.get("snoozed") or r["snoozed"] <= now]
    for record in waiting:
        group = record.get("group", "")
        leader = ledger.get(KIND, group) if group and group != record.id else None
        if leader is not None and leader["told"] and leader["status"] == "open":  # the group has been told of
            with suppress(Conflict):
                ledger.put(KIND, record.id, {**record.body, "told": True}, expect=record.version)
            continue
        if leader is not None and leader["status"] == "open":
            continue  # it is told with its leader
        members = [a for a in waiting if a.get("group") == record.id and a.id != record.id]
        told += _send(record, members, "firing", ledger, [n for n in notifiers if not repeats(n)])
    forgetful = [n for n in notifiers if repeats(n)]
    if forgetful:
        for record in ledger.find(KIND, {"status": "open"}):
            if not record.get("snoozed") or record["snoozed"] <= now:
                _hand(record, message_of(record, [], "firing"), forgetful, ledger)
        for record in ledger.find(KIND, {"over": False}):
            if not _hand(record, message_of(record, [], "resolved"), forgetful, ledger):
                with suppress(Conflict):
                    ledger.put(KIND, record.id, {**record.body, "over": True}, expect=record.version)
    return told


def repeats(notifier: Notifier) -> bool:
    """Whether a receiver forgets what it is not told again."""
    return bool(getattr(notifier, "repeats", False))


def message_of(record: Record, members: Sequence[Record], state: str) -> Message:
    """What people are told of an alarm and of those in its group."""
    suspected = f" Suspected: {record['suspected']} ({'; '.join(record['evidence'])})." if record.get("suspected") and record.get("evidence") else ""
    slices = f" Most of it: {', '.join(f'{name} ({share:.0%})' for name, share in record['slices'][:3])}." if record.get("slices") else ""
    more = "".join(f" Also {m['kind'].replace('_', ' ')}: {m['sentence']}" for m in members)
    text = record["sentence"] + slices + suspected + more if state == "firing" else f"{record['sentence']} It is over: {record['resolution']}."
    return Message(record.id, f"{about(record)}: {record['kind']}", text, record["severity"], "", state, record["raised"])


def _send(record: Record, members: Sequence[Record], state: str, ledger: Ledger, notifiers: Sequence[Notifier]) -> int:
    """Hand a message to the receivers that do not have it; 1 when all have it now."""
    have: dict[str, str] = dict(record.get("sent") or {})
    missing = [(key, n) for i, n in enumerate(notifiers) if (key := f"{i}:{type(n).__name__}") not in have]
    message = message_of(record, members, state)
    failed = False
    for key, notifier in missing:
        if _hand(record, message, [notifier], ledger):
            failed = True
        else:
            have[key] = state
    with suppress(Conflict):  # somebody acknowledged or resolved it just now: the next look sees to it
        ledger.put(KIND, record.id, {**record.body, "told": not failed, "sent": {} if not failed else have}, expect=record.version)
        for member in members if not failed else ():
            ledger.put(KIND, member.id, {**member.body, "told": True}, expect=member.version)
    return int(not failed)


def _hand(record: Record, message: Message, notifiers: Sequence[Notifier], ledger: Ledger) -> int:
    """How many receivers did not take a message; each failure is an event."""
    failed = 0
    for notifier in notifiers:
        try:
            notifier.send(message)
        except TreadleError as error:
            failed += 1
            ledger.append("alarm.not_sent", Ref(KIND, record.id), {"error": str(error)})
    return failed
