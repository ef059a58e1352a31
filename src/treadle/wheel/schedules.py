"""What people do with schedules (ask for a run, pause, go on), and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from treadle.assemble import Workspace
from treadle.core.clock import iso, parse_time
from treadle.core.declare.model import Model
from treadle.core.declare.schedule import Call, Cron, Schedule
from treadle.core.errors import Conflict, NotFound, UsageError
from treadle.core.ids import new_id
from treadle.core.records import Record, Ref
from treadle.pipelines import declared, lease
from treadle.pipelines import schedule as plan
from treadle.pipelines.run import RUN
from treadle.pipelines.schedule import SLOT, STATE, Go, Spent, Wait

SCHEDULER = "scheduler"


def look(ws: Workspace, schedule: Schedule, state: Record, now: datetime) -> Go | Wait | None:
    """What a schedule may start now, or waits for. A paused one starts only what a person asks for."""
    pending = plan.pending(schedule.name, ws.ledger)
    if state["paused"]:
        pending = [s for s in pending if s["trigger"] == "person"]
    last = parse_time(state["last"]["ended"]) if state["last"] else None
    return plan.choose(schedule, pending, last, lambda: spent(ws, schedule), now)


def spent(ws: Workspace, schedule: Schedule) -> list[Spent]:
    """What the runs of a schedule used."""
    return plan.spent_by(ws.ledger.find(RUN, {"cause.schedule": schedule.name}))


def first_sight(schedule: Schedule, now: datetime, ws: Workspace) -> Record:
    """The state of a schedule, made when it is seen first: nothing before that was missed. Raises Conflict when another process made it."""
    known = ws.ledger.get(STATE, schedule.name)
    if known is not None:
        return known
    body: dict[str, Any] = {"since": iso(now), "upto": iso(now), "active": "", "last": None, "held": None, "paused": None, "seen": {}}
    return ws.ledger.put(STATE, schedule.name, body, expect=0)


def trigger(ws: Workspace, schedule: Schedule, *, params: Mapping[str, Any] | None = None, call: str = "") -> Record:
    """Record that somebody asks for a run: by `call` (its id), or by hand. Raises UsageError for parameters the target does not take, Conflict when
    the call is known with other parameters. The same call again is the same slot.
    """
    given, now = checked(schedule, params or {}), ws.clock.now()
    cause: dict[str, Any]
    if ws.ledger.get(STATE, schedule.name) is None:
        with suppress(Conflict):
            first_sight(schedule, now, ws)
    if call:
        cause = {"kind": "call", "id": call, "text": f"POST /triggers/{next(t.name for t in schedule.when if isinstance(t, Call))}"}
        id, body = plan.new_slot(schedule, f"call.{call}", "call", now, cause, given)
    else:
        cause = {"kind": "person", "id": "", "text": f"treadle schedule trigger by {ws.actor}", "by": ws.actor}
        id, body = plan.new_slot(schedule, new_id("hand"), "person", now, cause, given)
    try:
        return ws.ledger.put(SLOT, id, body, expect=0)
    except Conflict:
        known = ws.ledger.get(SLOT, id)
        if known is None or known["params"] != given:
            raise Conflict(f"The call {call!r} was made before, with other parameters.", hint="Give each call an id of its own.") from None
        return known


def checked(schedule: Schedule, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters a caller gives, if the target takes them. Raises UsageError."""
    if isinstance(schedule.target, Model):
        if params:
            raise UsageError(f"Schedule {schedule.name!r} runs model {schedule.target.name!r}, which takes no parameters.")
    else:
        declared.values(schedule.target, {**schedule.params, **params})
    return dict(params)


def pause(ws: Workspace, schedule: Schedule, reason: str) -> None:
    """Let a schedule start nothing until it is resumed. Events are kept, and slots that pass are missed ones. Raises Conflict when it is paused."""
    _paused(ws, schedule, {"by": ws.actor, "reason": reason, "at": iso(ws.clock.now())}, "is paused already")


def unpause(ws: Workspace, schedule: Schedule, reason: str) -> None:
    """Let a schedule start again what it should. Raises Conflict when it is not paused."""
    _paused(ws, schedule, None, "is not paused", reason)


def _paused(ws: Workspace, schedule: Schedule, paused: dict[str, Any] | None, otherwise: str, reason: str = "") -> None:
    state = first_sight(schedule, ws.clock.now(), ws)
    if bool(state["paused"]) == bool(paused):
        raise Conflict(f"Schedule {schedule.name!r} {otherwise}.")
    with ws.ledger.transaction():
        ws.ledger.put(STATE, schedule.name, {**state.body, "paused": paused}, expect=state.version)
        said = {"reason": paused["reason"] if paused else reason}
        ws.ledger.append("schedule.paused" if paused else "schedule.resumed", Ref(STATE, schedule.name), said, actor=ws.actor)


def schedule_of(ws: Workspace, name: str) -> Schedule:
    """A declared schedule. Raises NotFound."""
    known = ws.project.schedules
    if name not in known:
        raise NotFound(f"There is no schedule {name!r}.", hint=f"The project declares: {', '.join(known) or 'none'}.")
    return known[name]


def running(ws: Workspace) -> list[Record]:
    """The schedulers that are not known to be gone."""
    return [r for r in ws.ledger.find(SCHEDULER, {"status": "alive"}) if not lease.gone(r.body)]


def cause_of(slot: Record) -> dict[str, Any]:
    """The cause of a slot's run: that of the slot; of a burst the first event's, how many there were, and the ids of the first few others."""
    causes = slot.get("causes") or [slot["cause"]]
    also = [c["id"] for c in causes[1:]]
    text = slot["cause"]["text"] + (f" (and {len(also):,} more)" if also else "")
    more = {"causes": len(causes), "also": also[:20]} if also else {}
    return {**slot["cause"], "text": text, "schedule": slot["schedule"], "slot": slot.id, **more}


def until_words(schedule: Schedule, moment: datetime) -> str:
    """A moment in the zone of the schedule, where it has one."""
    zone = next((t.zone for t in schedule.when if isinstance(t, Cron)), UTC)
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"
