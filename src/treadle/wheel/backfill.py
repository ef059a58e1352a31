"""Backfill: a model or pipeline run once for each partition of a range of dates. Done again, it does what is missing or failed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from treadle.assemble import Workspace
from treadle.core.canonical import digest
from treadle.core.clock import iso
from treadle.core.errors import Cancelled, Conflict, UsageError
from treadle.pipelines import declared
from treadle.pipelines.run import RUN, mark_interrupted

MOST = 10_000


@dataclass(frozen=True)
class Part:
    """How one partition went. `status`: 'done', 'done before', 'failed', 'waiting', 'rejected', or 'elsewhere' (another process runs it)."""

    partition: str
    run: str
    status: str
    seconds: float = 0.0
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.status in ("done", "done before", "waiting")


def partitions(start: datetime, end: datetime, every: timedelta, tz: str = "UTC") -> list[datetime]:
    """The first moment of each partition from `start` up to but without `end`, which are times on the wall clock of `tz`, without a zone.

    Whole days are days of the calendar, also when the clocks change. Raises UsageError.
    """
    if every <= timedelta(0) or start >= end:
        raise UsageError("The range holds no partition.", hint="--from must be before --to, and --every above zero.")
    if (end - start) / every > MOST:
        raise UsageError(f"The range holds more than {MOST:,} partitions.", hint="Make --every longer, or the range shorter.")
    zone = ZoneInfo(tz)
    if every % timedelta(days=1):  # parts of a day are counted in real time
        first, last = (m.replace(tzinfo=zone).astimezone(dt.UTC) for m in (start, end))
        return [m.astimezone(zone) for m in _steps(first, last, every)]
    return [m.replace(tzinfo=zone) for m in _steps(start, end, every)]


def _steps(start: datetime, end: datetime, every: timedelta) -> Iterator[datetime]:
    while start < end:
        yield start
        start += every


def parameter(ws: Workspace, target: str, wanted: str = "") -> tuple[str, Any]:
    """(the pipeline's parameter a partition goes into, its annotation); ('', None) for a model. Raises NotFound, UsageError."""
    if target in ws.project.models:
        if wanted:
            raise UsageError(f"{target!r} is a model: its partition is as_of, and it has no parameter {wanted!r}.")
        return "", None
    known = declared.parameters(ws.pipeline(target))
    if wanted:
        if wanted not in known:
            raise UsageError(f"Pipeline {target!r} has no parameter {wanted!r}.", hint=f"It has: {', '.join(known) or 'none'}.")
        return wanted, known[wanted][0]
    dates = [name for name, (hint, _) in known.items() if hint in (dt.date, dt.datetime)]
    if len(dates) != 1:
        raise UsageError(
            f"Pipeline {target!r} has {len(dates) or 'no'} parameter{'s' if len(dates) > 1 else ''} that is a date or datetime.",
            hint="Say which one the partition goes into: --param NAME",
        )
    return dates[0], known[dates[0]][0]


def run_id(target: str, partition: datetime) -> str:
    """The id of a partition's run."""
    return f"run-{digest(['backfill', target, iso(partition)])[:12]}"


def backfill(
    ws: Workspace, target: str, parts: list[datetime], *, param: str = "", again: bool = False, tell: Callable[[Part], None] = lambda part: None,
    start: Callable[..., Any] | None = None, resume: Callable[..., Any] | None = None,
) -> list[Part]:  # fmt: skip
    """Run each partition that is not done; one that fails does not stop the others. Ctrl-C does, and the same call goes on from there.

    Args:
        again: also those that are done.
    """
    from treadle.wheel import start as work

    start, resume = start or work.start, resume or work.resume
    name, hint = parameter(ws, target, param)
    mark_interrupted(ws.ledger, ws.clock)
    done = []
    for moment in parts:
        part = _one(ws, target, moment, name, hint, again, start, resume)
        done.append(part)
        tell(part)
    return done


def _one(
    ws: Workspace, target: str, moment: datetime, name: str, hint: Any, again: bool, start: Callable[..., Any], resume: Callable[..., Any]
) -> Part:
    said, id = label(moment), run_id(target, moment)
    known = ws.ledger.get(RUN, id)
    if again and known is not None and known["status"] in ("done", "rejected"):
        earlier = len(ws.ledger.find(RUN, {"cause.kind": "backfill", "cause.partition": iso(moment), "cause.target": target}))
        id, known = f"{id}-{earlier + 1}", None
    if known is not None and known["status"] == "done":
        return Part(said, id, "done before")
    cause = {"kind": "backfill", "id": "", "text": f"backfill of {said} by {ws.actor}", "partition": iso(moment), "target": target}
    value: Any = moment.date() if hint is dt.date else moment if hint is dt.datetime else said
    error = ""
    try:
        if known is None:
            start(ws, target, cause=cause, run_id=id, params={name: value} if name else None, as_of=None if name else moment)
        elif known["status"] not in ("rejected", "waiting"):
            resume(ws, id, wait=False)
    except (KeyboardInterrupt, Cancelled):
        raise
    except Conflict as conflict:
        run = ws.ledger.get(RUN, id)
        if run is not None and run["status"] == "running":
            return Part(said, id, "elsewhere", error=str(conflict))
        error = str(conflict)
    except Exception as failure:
        error = str(failure)
    run = ws.ledger.get(RUN, id)
    status = "failed" if error or run is None else str(run["status"])
    return Part(said, id, status, float(run.get("seconds") or 0.0) if run is not None else 0.0, error)


def label(moment: datetime) -> str:
    """A partition as people write it: a date, or a moment if it does not begin at midnight."""
    return moment.date().isoformat() if (moment.hour, moment.minute, moment.second) == (0, 0, 0) else moment.isoformat()
