"""Whether a retraining is to start now, and why: the rules of a project's `tr.on_evidence`, pure, for production and for a backtest alike.

    an open alarm of a kind it retrains on      ->  one retraining, for all that are open at that moment
    so many new rows since the champion         ->  one retraining
    no retraining for as long as it allows      ->  one retraining
    an open alarm during which nothing is to be learned, the budget is spent, or it is too soon
                                                ->  none now; an alarm stays open and is answered later

A clock that jumps starts nothing twice: retrainings that lie in the future of the present clock count as recent, and a cause has its retraining once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from treadle.core.declare.operations import Retrain


@dataclass(frozen=True, slots=True)
class Evidence:
    """An open alarm, as far as the rules look at it."""

    id: str
    kind: str
    raised: datetime
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Before:
    """A retraining that was started: when, and the CPU seconds it used."""

    started: datetime
    cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a retraining starts. `also`: other alarms that the same one answers."""

    kind: str
    id: str
    text: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """There is a cause, and nothing starts before `until` because of it."""

    cause: Cause
    until: datetime
    sentence: str


def due(
    policy: Retrain, now: datetime, *, model: str, alarms: Sequence[Evidence], newest: datetime | None, before: Sequence[Before],
    rows: int = 0, learned_from: int = 0,
) -> Cause | Held | None:  # fmt: skip
    """What the policy says now.

    Args:
        newest: the moment up to which the newest version saw the truth, passed or refused.
        before: all retrainings, in any order.
        rows: rows that became known since `newest`; `learned_from`: how many the champion learned from.
    """
    cause = _cause(policy, now, model, alarms, newest, rows, learned_from)
    if cause is None:
        return None
    broken = next((a for a in alarms if a.kind in policy.not_while), None)
    if broken is not None:
        return Held(cause, now + timedelta(hours=1), f"nothing is retrained while {broken.id} ({broken.kind}) is open")
    until, why = _free(policy, now, before)
    return Held(cause, until, why) if until > now else cause


def _cause(
    policy: Retrain, now: datetime, model: str, alarms: Sequence[Evidence], newest: datetime | None, rows: int, learned_from: int
) -> Cause | None:
    found = sorted((a for a in alarms if a.kind in policy.on), key=lambda a: (a.raised, a.id))
    if found:
        return Cause("alarm", found[0].id, found[0].sentence, tuple(a.id for a in found[1:]))
    if newest is None:
        return None
    if policy.new_rows is not None and rows >= wanted(policy.new_rows, learned_from):
        return Cause("new_data", f"{model} rows after {newest:%Y-%m-%dT%H:%M:%S}", f"{rows:,} rows became known since {newest:%Y-%m-%d %H:%M}")
    if policy.every is not None and now - newest >= policy.every:
        return Cause("schedule", f"{model} after {newest:%Y-%m-%d}", f"nothing was retrained for {policy.every / timedelta(days=1):g} days")
    return None


def wanted(new_rows: float, learned_from: int) -> int:
    """How many new rows start a retraining: a part of what the champion learned from, or a number of them; one at least."""
    return max(1, round(new_rows * learned_from if new_rows < 1 else new_rows))


def _free(policy: Retrain, now: datetime, before: Sequence[Before]) -> tuple[datetime, str]:
    """From when on a retraining may start, and what holds it until then."""
    held: list[tuple[datetime, str]] = [(now, "")]
    recent = sorted((b for b in before if b.started > now - policy.at_most.per), key=lambda b: b.started)
    most = max(0, int(policy.at_most.count))
    if len(recent) >= most:
        # The one whose end of the span makes room; without any the policy allows none at all.
        until = recent[len(recent) - most].started + policy.at_most.per if most else datetime.max.replace(tzinfo=now.tzinfo)
        held.append((until, f"{len(recent)} of {most} retrainings in {_days(policy.at_most.per)} are used"))
    if policy.cpu is not None and sum(b.cpu for b in recent) >= policy.cpu.total_seconds():
        left, until = sum(b.cpu for b in recent), now
        for b in recent:
            if left < policy.cpu.total_seconds():
                break
            left, until = left - b.cpu, b.started + policy.at_most.per
        held.append((until, f"the CPU time of {policy.cpu.total_seconds():,.0f} s in {_days(policy.at_most.per)} is used"))
    if before and policy.cooldown:
        last = max(b.started for b in before)
        held.append((last + policy.cooldown, f"the last retraining was at {last:%Y-%m-%d %H:%M}"))
    return max(held, key=lambda h: h[0])


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):g} days"
