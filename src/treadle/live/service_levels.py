"""What is judged at each look and needs no calibration: the levels of the service and the ages a project declares (`tr.levels`).

Each look reads the endpoint's own counters, adds what was counted since the last look to the hour it is in (kind `service_hour`), and compares the
newest hour and day with what is allowed (`monitoring/detectors/service.py`). Counters that fell are those of a new process and count from 0. Ages are
those of the newest row the champion learned from, of the newest prediction, and of the newest one whose outcome is known. What is beyond its level
is an alarm, one for one cause, until a later look finds it kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from treadle.assemble import Workspace
from treadle.core.clock import iso, parse_time
from treadle.core.declare.levels import Levels
from treadle.core.declare.model import Model
from treadle.core.errors import Conflict, TreadleError
from treadle.core.records import Record
from treadle.live import deploy
from treadle.monitoring import alarms
from treadle.monitoring.detectors import service, staleness
from treadle.monitoring.detectors.service import Service
from treadle.monitoring.findings import Finding, found
from treadle.monitoring.suspect import suspect
from treadle.registry import promote, versions
from treadle.serving.requests import micros

HOURS, STATE = "service_hour", "service_state"
HOUR = 3_600_000_000
KEPT = 24 * 14  # hours whose counts are kept
_SLOW_PART = 0.01  # of the requests that may be slower than the p99
_LINE = re.compile(r'^(treadle_requests_total|treadle_request_seconds_bucket|treadle_requests_shed_total)\{([^}]*)\} (\S+)$', re.MULTILINE)
Tell = Callable[[str], None]


def look(ws: Workspace, model: Model, tell: Tell = lambda line: None) -> list[Record]:
    """Count, compare, raise and resolve; returns the newly raised alarms."""
    declared, deployed = ws.watch_of(model), promote.deployment(model.name, ws.ledger)
    if declared is None or deployed is None:
        return []
    number, now = int(deployed["champion"]), ws.clock.now()
    beyond: list[Finding] = []
    levels = declared.levels
    if "service" in declared.kinds and any(v is not None for v in (levels.p99, levels.errors, levels.shed)):
        hours = counted(ws, model.name)
        beyond += burning(hours, levels, micros(now)) if hours else []
    if "staleness" in declared.kinds:
        beyond += aged(ws, model.name, number, levels, now)
    raised = []
    for kind in ("service", "staleness"):
        mine = [f for f in beyond if f.kind == kind]
        raised += _told(ws, model.name, number, kind, mine, tell)
    return raised


def counted(ws: Workspace, model: str) -> list[Service]:
    """Add what the endpoint counted since the last look to its hour; the counts of the last day, hour by hour, old to new."""
    hour = micros(ws.clock.now()) // HOUR
    total = _read(ws, model)
    state = ws.ledger.get(STATE, model)
    if total is not None:
        fresh = _since(total, _service(state["counts"]) if state is not None else None)
        with suppress(Conflict), ws.ledger.transaction():  # another look counted just now
            ws.ledger.put(STATE, model, {"counts": _json(total), "at": iso(ws.clock.now())}, expect=state.version if state else 0)
            if fresh.requests or fresh.shed:
                id = f"{model}-{hour % KEPT}"  # a ring: an hour of two weeks ago is written over
                record = ws.ledger.get(HOURS, id)
                whole = _service(record["counts"]) + fresh if record is not None and record["hour"] == hour else fresh
                body = {"model": model, "hour": hour, "counts": _json(whole)}
                ws.ledger.put(HOURS, id, body, expect=record.version if record else 0)
    recorded = ws.ledger.find(HOURS, {"model": model})
    return [_service(r["counts"]) for r in sorted(recorded, key=lambda r: int(r["hour"])) if hour - 24 < int(r["hour"]) <= hour]


def burning(hours: list[Service], levels: Levels, now: int) -> list[Finding]:
    """What of the service is beyond its level."""
    hour = now // HOUR
    limit = levels.p99.total_seconds() if levels.p99 else float("inf")
    wanted = {"errors": levels.errors, "shed": levels.shed, "p99": _SLOW_PART if levels.p99 else None}
    told = []
    for name, burn in service.score(hours, {k: v for k, v in wanted.items() if v is not None}, limit).items():
        where = "in the last hour" if burn.hours == 1 else "in the last day"
        together = sum(hours[-burn.hours :], Service())
        sentence = {
            "errors": f"{burn.share:.1%} of the requests failed {where}, where {burn.allowed:.1%} may.",
            "shed": f"{burn.share:.1%} of the requests were told to come back later {where}, where {burn.allowed:.1%} may be: the endpoint is full.",
            "p99": f"{burn.share:.1%} of the requests took longer than {limit * 1e3:.0f} ms {where}: 99 % were answered within "
                   f"{together.quantile(0.99) * 1e3:.0f} ms.",
        }[name]  # fmt: skip
        severity = "high" if burn.burn > service.FAST else "medium"
        told.append(found("service", name, burn.burn, burn.limit, (hour + 1 - burn.hours) * HOUR, (hour + 1) * HOUR, sentence,
                          severity=severity))  # fmt: skip
    return told


def aged(ws: Workspace, model: str, number: int, levels: Levels, now: datetime) -> list[Finding]:
    """What is older than its level."""
    told = []
    if levels.model_age is not None:
        version = versions.get(model, number, ws.ledger)
        text = version["trained_to"] or version["as_of"]
        told += _old("model_age", parse_time(text) if text else None, now, levels.model_age, "The newest row that the champion learned from is")
    last = ws.predictions.last(model) if levels.quiet is not None or levels.truth_age is not None else []
    if levels.quiet is not None:
        told += _old("quiet", _moment(last[0].answered) if last else None, now, levels.quiet, "The newest prediction was asked for")
    if levels.truth_age is not None and last:
        told += _old("truth_age", _known(ws, model, now, levels.truth_age), now, levels.truth_age, "The newest prediction whose outcome is known is")
    return told


def _old(metric: str, newest: datetime | None, now: datetime, limit: timedelta, what: str) -> list[Finding]:
    age = staleness.score(newest, now, limit)
    if age <= 1:
        return []
    said = "There is none at all" if newest is None else f"{what} {_days(now - newest)} {'ago' if what.endswith('for') else 'old'}"
    sentence = f"{said}, where {_days(limit)} may pass."
    at = micros(now) if newest is None else micros(newest)
    return [found("staleness", metric, min(age, 1e9), 1.0, at, at + 1, sentence, severity="high" if age > 3 else "medium")]


def _known(ws: Workspace, model: str, now: datetime, limit: timedelta) -> datetime | None:
    """The moment of the newest prediction in three times the limit whose outcome is known: read from the newest, in growing steps, until found."""
    end, least, step = micros(now) + 1, micros(now - 3 * limit), max(1, limit // timedelta(microseconds=1) // 64)
    while end > least:
        start, newest = max(least, end - step), None
        for batch in ws.predictions.between(model, start, end):
            newest = next((p.moment for p, outcome in reversed(batch) if outcome is not None), newest)
        if newest is not None:
            return _moment(newest)
        end, step = start, 2 * step
    return None


def _told(ws: Workspace, model: str, number: int, kind: str, beyond: list[Finding], tell: Tell) -> list[Record]:
    """Raise an alarm for what is new of a kind; resolve those of a kind that is kept again."""
    opened = [a for a in alarms.open_alarms(model, ws.ledger) if a["kind"] == kind]
    if not beyond:
        for alarm in opened:
            with suppress(Conflict):
                marked = ws.ledger.put(alarms.KIND, alarm.id, {**alarm.body, "gone": iso(ws.clock.now())}, expect=alarm.version)
                alarms.resolve(marked, "the level is kept again", ws.ledger, ws.clock)
        return []
    raised = []
    for finding in beyond:
        if any(a["metric"] == finding.metric or any(again.get("metric") == finding.metric for again in a["again"]) for a in opened):
            continue  # told, and not over
        about = suspect(finding.kind, finding.metric, [])
        one = replace(finding, suspected=about.kind, evidence=about.evidence)
        record = alarms.raise_alarm(model, number, one, ws.ledger, ws.clock)
        if record is not None:
            tell(f"alarm {record.id}: {kind}: {finding.sentence}")
            raised.append(record)
    return raised


def _read(ws: Workspace, model: str) -> Service | None:
    """What the endpoint has counted since it began; None where none runs, or it does not say."""
    running = deploy.running_endpoint(ws, model)
    if running is None:
        return None
    try:
        text = deploy.connect(ws, str(running["url"]), timeout=5.0, retries=1).metrics()
    except (TreadleError, OSError):
        return None
    requests = failed = shed = 0
    within: dict[float, int] = {}
    for name, labels, value in _LINE.findall(text):
        tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if name == "treadle_requests_total":
            requests += int(float(value))
            failed += int(float(value)) if tags["status"].startswith("5") else 0
        elif name == "treadle_requests_shed_total":
            shed += int(float(value))
        else:
            within[float(tags["le"].replace("+Inf", "inf"))] = int(float(value))
    return Service(requests, failed, shed, dict(sorted(within.items())))


def _since(now: Service, before: Service | None) -> Service:
    if before is None or now.requests < before.requests or now.shed < before.shed:
        return now
    return Service(
        now.requests - before.requests, now.failed - before.failed, now.shed - before.shed,
        {bound: count - before.within.get(bound, 0) for bound, count in now.within.items()},
    )  # fmt: skip


def _json(counts: Service) -> dict[str, Any]:
    within = [["inf" if b == float("inf") else b, n] for b, n in counts.within.items()]
    return {"requests": counts.requests, "failed": counts.failed, "shed": counts.shed, "within": within}


def _service(stored: dict[str, Any]) -> Service:
    return Service(stored["requests"], stored["failed"], stored["shed"], {float(b): int(n) for b, n in stored["within"]})


def _moment(at: int) -> datetime:
    return parse_time("1970-01-01") + timedelta(microseconds=at)


def _days(length: timedelta) -> str:
    hours = length / timedelta(hours=1)
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours" if hours >= 2 else f"{hours * 60:.0f} minutes"
