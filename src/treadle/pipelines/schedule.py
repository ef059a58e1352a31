"""What a schedule may start now, and who starts it: decisions of records and the time, and claims by compare-and-set. No clock of its own.

    schedule   id NAME            {since, upto, active, last, held, paused, seen}
    slot       id NAME@SLOT       {schedule, target, trigger, at, cause, params, status, run, claimed_by, into, error, ...}

`upto` is the last cron slot that was considered; `active` the slot that is being run (one at a time); `last` how the last one ended; `held`
what stops it, said once; `seen` what the triggers saw last. A slot goes pending -> claimed -> running -> done, failed, waiting, cancelled or
rejected; or it ends as joined (its event is a cause of another slot's run) or skipped (by the policy for missed slots). All changes
compare-and-set the slot, so a scheduler that slept through a takeover is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from treadle.core.canonical import digest
from treadle.core.clock import iso, parse_time
from treadle.core.declare.schedule import Budget, Cron, Schedule
from treadle.core.errors import Conflict, UsageError
from treadle.core.records import Link, Record, Ref
from treadle.ports.ledger import Ledger

SLOT, STATE = "slot", "schedule"
LATE = timedelta(minutes=5)  # catch_up="none" runs a slot that is noticed up to so late
LONGEST = 10  # times the debounce is the longest a burst of events can put off its run
MOST = 100  # slots taken up at once with catch_up="all"; the rest the next time
ASTRAY = timedelta(days=1)  # a cron slot recorded so far ahead of now was of a clock that went wrong
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,149}", re.ASCII)


@dataclass(frozen=True)
class Due:
    """Cron slots that are due: those to run, and what is left out by the policy for missed ones."""

    run: tuple[datetime, ...]
    upto: datetime
    left_out: int = 0
    first: datetime | None = None
    more: bool = False


@dataclass(frozen=True)
class Go:
    """Run `lead` now; `joined` are the other events that are causes of the same run."""

    lead: Record
    joined: tuple[Record, ...] = ()
    superseded: tuple[Record, ...] = ()


@dataclass(frozen=True)
class Wait:
    """Nothing may start before `until`. `what` is 'debounce', 'cooldown', or the limit of the budget: 'runs', 'cpu', 'money'."""

    what: str
    until: datetime
    sentence: str


@dataclass(frozen=True)
class Spent:
    """What one run of a schedule used."""

    started: datetime
    cpu: float


def slot_id(schedule: str, key: str) -> str:
    """The id of a slot. Raises UsageError for a key that cannot stand in one."""
    if not _KEY.fullmatch(key):
        raise UsageError(f"{key[:60]!r} is no id of an event.", hint="Use up to 150 letters, digits and . _ : @ + -")
    return f"{schedule}@{key}"


def run_id(slot: str) -> str:
    """The id of the run a slot starts: made from the slot's, so that whoever starts it finds what is there."""
    return f"run-{digest([SLOT, slot])[:12]}"


def key_of(moment: datetime) -> str:
    """A cron slot as part of an id: UTC, to the second."""
    return iso(moment)[:19] + "Z"


def due(cron: Cron, catch_up: str, upto: datetime, now: datetime) -> Due | None:
    """The cron slots in (upto, now] by the policy for missed ones; None when there is none.

    Of several that are due at once the newest is on time and the others are missed, as is the newest if it is noticed more than LATE after
    it was due.
    """
    found = cron.between(upto, now, MOST)
    if not found:
        return None
    if catch_up == "all":
        return Due(tuple(found), found[-1])
    more = len(found) == MOST
    newest = (cron.newest(upto, now) if more else None) or found[-1]
    if catch_up == "last":
        return Due((newest,), newest, len(found) - 1, found[0], more)
    punctual = tuple(cron.between(max(upto, now - LATE), now))
    return Due(punctual, newest, len(found) - len(punctual), found[0], more) if punctual else Due((), newest, len(found), found[0], more)


def choose(
    schedule: Schedule, pending: Sequence[Record], last_ended: datetime | None, spent: Callable[[], Sequence[Spent]], now: datetime
) -> Go | Wait | None:
    """What of the pending slots may start now: the first that may, else what it waits for. None when nothing is pending.

    What a person asked for waits for the budget only. Events with the same parameters run together, when no further one came for `debounce`.
    """
    if not pending:
        return None
    groups = _groups(schedule, pending)
    free = now if last_ended is None else last_ended + schedule.cooldown
    times = [(_quiet(schedule, g, now), free if g.lead["trigger"] != "person" else now, g) for g in groups]
    ready = [g for quiet, free, g in times if max(quiet, free) <= now]
    if not ready:
        quiet, free, group = min(times, key=lambda t: max(t[0], t[1]))
        return _debounced(schedule, group, quiet) if quiet >= free else _cooling(schedule, free)
    held = over_budget(schedule.budget, spent(), now) if schedule.budget else None
    return held or min(ready, key=lambda g: (g.lead["trigger"] != "person", g.lead["at"], g.lead.created_at))


def _groups(schedule: Schedule, pending: Sequence[Record]) -> list[Go]:
    """Pending slots that run together: events with the same parameters. With catch_up="last" the newest cron slot stands for those before it."""
    ordered = sorted(pending, key=lambda slot: (slot["at"], slot.created_at, slot.id))
    crons = [s for s in ordered if s["trigger"] == "cron"]
    if schedule.catch_up == "last" and crons:
        groups = [Go(crons[-1], superseded=tuple(crons[:-1]))]
    else:
        groups = [Go(slot) for slot in crons]
    groups += [Go(slot) for slot in ordered if slot["trigger"] == "person"]
    events: dict[str, list[Record]] = {}
    for slot in ordered:
        if slot["trigger"] not in ("cron", "person"):
            events.setdefault(digest(slot["params"]), []).append(slot)
    return groups + [Go(burst[0], tuple(burst[1:])) for burst in events.values()]


def _quiet(schedule: Schedule, group: Go, now: datetime) -> datetime:
    """When a group's burst of events is over."""
    if group.lead["trigger"] in ("cron", "person"):
        return now
    first, last = parse_time(group.lead["at"]), parse_time((group.joined or (group.lead,))[-1]["at"])
    return min(last + schedule.debounce, first + LONGEST * schedule.debounce)


def _debounced(schedule: Schedule, group: Go, until: datetime) -> Wait:
    count = 1 + len(group.joined)
    return Wait("debounce", until, f"{count:,} event{'s' if count > 1 else ''}; waits until it is quiet for {words(schedule.debounce)}")


def _cooling(schedule: Schedule, until: datetime) -> Wait:
    return Wait("cooldown", until, f"waits {words(schedule.cooldown)} after the last run")


def over_budget(budget: Budget, spent: Sequence[Spent], now: datetime) -> Wait | None:
    """The limit that lets nothing start now, and until when; the one that holds longest if there are several."""
    found: list[Wait] = []
    for limit in budget.limits:
        inside = sorted((s for s in spent if s.started > now - limit.per), key=lambda s: s.started)
        cost = [1.0 if limit.what == "runs" else s.cpu if limit.what == "cpu" else s.cpu / 3600 * budget.price_per_cpu_hour for s in inside]
        total = sum(cost)
        if total < limit.amount:
            continue
        left, until = total, now
        for run, used in zip(inside, cost):
            left -= used
            until = min(run.started, now) + limit.per  # a run of a clock that was ahead counts from now
            if left < limit.amount - 1e-9:
                break
        if limit.what == "runs":
            used_up = f"{len(inside)} of {limit.amount:g} runs"
        elif limit.what == "cpu":
            used_up = f"{words(timedelta(seconds=round(total)))} of {words(timedelta(seconds=limit.amount))} of CPU time"
        else:
            used_up = f"{total:.4g} of {limit.amount:g} {budget.currency}"
        found.append(Wait(limit.what, until, f"budget {limit.text!r} is spent: {used_up} in the last {words(limit.per)}"))
    return max(found, key=lambda w: w.until, default=None)


def spent_by(runs: Iterable[Record]) -> list[Spent]:
    """What runs used, from their records. A run without `cpu` counts with its `seconds`; without those, with the time it took."""
    return [Spent(parse_time(r["started"]), _cpu(r)) for r in runs]


def _cpu(run: Record) -> float:
    for name in ("cpu", "seconds"):
        if isinstance(run.get(name), int | float):
            return float(run[name])
    return max(0.0, (parse_time(run["ended"]) - parse_time(run["started"])).total_seconds()) if run.get("ended") else 0.0


def words(length: timedelta) -> str:
    """A length of time as one would write it.

    >>> words(timedelta(days=1, minutes=90))
    '1d 1h 30m'
    """
    left, said = round(length.total_seconds()), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        if left >= size:
            said.append(f"{left // size}{unit}")
            left %= size
    return " ".join(said) or "0s"


# --- records ------------------------------------------------------------------------------------------------------------------------------------


def new_slot(
    schedule: Schedule, key: str, trigger: str, at: datetime, cause: Mapping[str, Any], params: Mapping[str, Any] | None = None, run: str = ""
) -> tuple[str, dict[str, Any]]:
    """(id, body) of a pending slot. `run` is the id of its run, if another one than that made from the slot's."""
    id = slot_id(schedule.name, key)
    body = {
        "schedule": schedule.name, "target": schedule.target.name, "trigger": trigger, "at": iso(at), "cause": dict(cause),
        "params": dict(params or {}), "status": "pending", "run": run or run_id(id), "claimed_by": "", "into": "", "error": "",
    }  # fmt: skip
    return id, body


def pending(name: str, ledger: Ledger) -> list[Record]:
    """The slots of a schedule that wait to be run."""
    return ledger.find(SLOT, {"schedule": name, "status": "pending"})


def claim(schedule: Schedule, go: Go, state: Record, me: str, now: datetime, ledger: Ledger) -> Record:
    """Make a slot mine, with the causes of those that join it. Raises Conflict when somebody else was first; then nothing has changed."""
    causes = [go.lead["cause"], *(s["cause"] for s in go.joined)]
    with ledger.transaction():
        ledger.put(STATE, schedule.name, {**state.body, "active": go.lead.id, "held": None}, expect=state.version)
        for slot, status in (*((s, "joined") for s in go.joined), *((s, "skipped") for s in go.superseded)):
            why = {"error": "a newer slot of the same schedule is due"} if status == "skipped" else {}
            ledger.put(SLOT, slot.id, {**slot.body, "status": status, "into": go.lead.id, **why}, expect=slot.version)
        body = {**go.lead.body, "status": "claimed", "claimed_by": me, "claimed": iso(now), "causes": causes}
        claimed = ledger.put(SLOT, go.lead.id, body, expect=go.lead.version)
        for cause in causes:
            if cause.get("id") and cause["kind"] != SLOT:
                ledger.link(Link(Ref(SLOT, go.lead.id), "caused_by", Ref(cause["kind"], cause["id"])))
        ledger.append("schedule.claimed", Ref(SLOT, go.lead.id), {"run": claimed["run"], "by": me, "causes": len(causes)})
    return claimed


def take_over(slot: Record, me: str, now: datetime, ledger: Ledger) -> Record:
    """Make the slot of a scheduler that is gone mine. Raises Conflict when somebody else was first, or it is not gone after all."""
    with ledger.transaction():
        taken = ledger.put(SLOT, slot.id, {**slot.body, "status": "claimed", "claimed_by": me, "claimed": iso(now)}, expect=slot.version)
        ledger.append("schedule.taken_over", Ref(SLOT, slot.id), {"run": slot["run"], "from": slot["claimed_by"], "by": me})
    return taken


def begin(slot: Record, ledger: Ledger) -> Record:
    """The last look before a claimed slot is run. Raises Conflict when it was taken over meanwhile."""
    return ledger.put(SLOT, slot.id, {**slot.body, "status": "running"}, expect=slot.version)


def let_go(slot: Record, ledger: Ledger) -> Record:
    """Give a slot back for any scheduler to go on with. Raises Conflict when it was taken over."""
    return ledger.put(SLOT, slot.id, {**slot.body, "claimed_by": ""}, expect=slot.version)


def finish(slot: Record, status: str, error: str, ended: datetime, ledger: Ledger) -> Record:
    """Record how a slot ended, and leave the schedule free for the next. Raises Conflict when the slot was taken over."""
    for _ in range(50):
        state = ledger.get(STATE, slot["schedule"])
        try:
            with ledger.transaction():
                done = ledger.put(SLOT, slot.id, {**slot.body, "status": status, "error": error, "ended": iso(ended)}, expect=slot.version)
                if state is not None and state["active"] == slot.id:
                    last = {"slot": slot.id, "run": slot["run"], "status": status, "ended": iso(ended)}
                    ledger.put(STATE, state.id, {**state.body, "active": "", "last": last}, expect=state.version)
                ledger.append(f"schedule.{status}", Ref(SLOT, slot.id), {"run": slot["run"]})  # the error, which may say a value, is in the slot
            return done
        except Conflict:
            now = ledger.get(SLOT, slot.id)
            if now is None or now.version != slot.version:
                raise
    raise Conflict(f"Schedule {slot['schedule']!r} is changed by others all the time.")


def hold(schedule: Schedule, wait: Wait, state: Record, ledger: Ledger) -> bool:
    """Note that the budget stops a schedule; an event is made when it begins to, and not again. Returns whether it began. Conflict: look again."""
    held = state["held"]
    if held is not None and held["what"] == wait.what:
        return False
    body = {"what": wait.what, "sentence": wait.sentence, "until": iso(wait.until)}
    with ledger.transaction():
        ledger.put(STATE, schedule.name, {**state.body, "held": body}, expect=state.version)
        ledger.append("schedule.held", Ref(STATE, schedule.name), body)
    return True
