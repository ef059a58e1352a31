"""What runs have cost, summed up by what they are of and by month, without reading every run each time one looks.

What was summed is remembered in this process up to the oldest run that has not ended, and read anew every ten minutes: a run may be resumed later.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from treadle.core.clock import iso, parse_time
from treadle.core.records import Record
from treadle.pipelines.run import ENDED, RUN
from treadle.ports.ledger import Ledger

ANEW = 600.0  # seconds after which everything is read again
DEAREST = 10  # runs that are named one by one
_BATCH = 2_000


@dataclass
class _Summed:
    since: str
    begun: float
    past: tuple[str, str] | None = None
    sums: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)
    dearest: list[dict[str, Any]] = field(default_factory=list)


_known: WeakKeyDictionary[Any, _Summed] = WeakKeyDictionary()
_lock = threading.Lock()


def costs(ledger: Ledger, months: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """{'of': for each model and pipeline runs, seconds and CPU seconds in all and by month; 'dearest': the runs that took longest}.

    Args:
        months: 'YYYY-MM' of those to show; runs before the oldest are not counted.
    """
    since = iso(parse_time(f"{min(months)}-01T00:00:00+00:00"))
    with _lock:
        kept = _known.get(ledger)
        if kept is None or kept.since != since or time.monotonic() - kept.begun > ANEW:
            kept = _known[ledger] = _Summed(since, time.monotonic())
        sums = {scope: {what: Counter(n) for what, n in of.items()} for scope, of in _further(ledger, kept).items()}
        dearest = list(kept.dearest)
        for record in _after(ledger, kept):  # those after the oldest run that goes on
            _add(record, sums, dearest)
    said = [
        {"scope": scope, **{what: sum(of[what].values()) for what in of},
         "by_month": [{"month": m, **{what: of[what][m] for what in of}} for m in months]}
        for scope, of in sums.items()
    ]  # fmt: skip
    return {"of": sorted(said, key=lambda s: -float(s["seconds"])), "dearest": dearest}


def _further(ledger: Ledger, kept: _Summed) -> Mapping[str, Mapping[str, Counter[str]]]:
    """Go on from where the sums stand to the oldest run that has not ended."""
    while True:
        batch = ledger.find(RUN, after=kept.since, past=kept.past, limit=_BATCH)
        for record in batch:
            if record["status"] not in ENDED:
                return kept.sums
            _add(record, kept.sums, kept.dearest)
            kept.past = (record.created_at, record.id)
        if len(batch) < _BATCH:
            return kept.sums


def _after(ledger: Ledger, kept: _Summed) -> list[Record]:
    return ledger.find(RUN, after=kept.since, past=kept.past, limit=_BATCH)


def _add(record: Record, sums: dict[str, dict[str, Counter[str]]], dearest: list[dict[str, Any]]) -> None:
    of = sums.setdefault(record["scope"], defaultdict(Counter))
    month, seconds, cpu = record.created_at[:7], float(record.get("seconds", 0.0)), float(record.get("cpu", 0.0))
    for what, n in (("runs", 1), ("seconds", seconds), ("cpu", cpu)):
        of[what][month] += n  # type: ignore[assignment]
    if len(dearest) < DEAREST or seconds > dearest[-1]["seconds"]:
        said = {"id": record.id, "scope": record["scope"], "status": record["status"], "started": record["started"], "seconds": seconds, "cpu": cpu}
        dearest.append({**said, "because": record["cause"].get("kind", "")})
        dearest.sort(key=lambda r: -float(r["seconds"]))
        del dearest[DEAREST:]
