"""What runs have cost, in sums by model or pipeline and month.

To read ten thousand runs takes a third of a second. A process keeps the sums of those that are over, and reads only what came later.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from treadle.assemble import Workspace
from treadle.core.records import Record
from treadle.pipelines.run import RUN
from treadle.ports.ledger import Ledger
from treadle.report.happened import seconds_of

OVER = ("done", "rejected")  # a run that failed or was stopped may be gone on with
DEAREST = 10
_LOCK = threading.Lock()
_costs: WeakKeyDictionary[Any, Costs] = WeakKeyDictionary()


@dataclass
class Costs:
    """Sums over runs: `sums[scope, month]` are 'runs', 'seconds' and 'cpu'; `dearest` are those that took longest."""

    sums: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    dearest: list[dict[str, Any]] = field(default_factory=list)
    past: tuple[str, str] | None = None
    seen: int = 0
    unsettled: list[str] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Count a run."""
        if not record.get("replayed"):
            of = self.sums.setdefault((record["scope"], record.created_at[:7]), {"runs": 0.0, "seconds": 0.0, "cpu": 0.0})
            of["runs"] += 1
            of["seconds"] += seconds_of(record)
            of["cpu"] += float(record.get("cpu", 0.0))
        if len(self.dearest) < DEAREST or seconds_of(record) > self.dearest[-1]["seconds"]:
            told = {"id": record.id, **{k: record.get(k) for k in ("scope", "status", "started", "cpu")}, "seconds": seconds_of(record)}
            self.dearest.append({**told, "because": record["cause"].get("kind", "")})
            self.dearest.sort(key=lambda r: -float(r["seconds"]))
            del self.dearest[DEAREST:]


def costs(ws: Workspace) -> Costs:
    """What all runs have cost. The first question of a process reads every run, the next ones what came since and what was not over."""
    ledger = ws.ledger
    with _LOCK:
        there = ledger.count(RUN)
        kept = _further(_costs.setdefault(ledger, Costs()), ledger)
        if kept.seen < there:  # one came in before what was read already: two machines' clocks differ
            kept = _costs[ledger] = _further(Costs(), ledger)
        now = Costs({k: dict(v) for k, v in kept.sums.items()}, list(kept.dearest))
        for record in (ledger.get(RUN, id) for id in kept.unsettled):
            if record is not None:
                now.add(record)
        return now


def _further(kept: Costs, ledger: Ledger) -> Costs:
    """Go on from where the sums stand."""
    kept.unsettled = [id for id in kept.unsettled if not _over(kept, ledger.get(RUN, id))]
    while batch := ledger.find(RUN, limit=1000, past=kept.past):
        for record in batch:
            if not _over(kept, record):
                kept.unsettled.append(record.id)
        kept.seen += len(batch)
        kept.past = (batch[-1].created_at, batch[-1].id)
    return kept


def _over(kept: Costs, record: Record | None) -> bool:
    """Count a run that is over for good."""
    if record is None:
        return True
    if record["status"] in OVER:
        kept.add(record)
        return True
    return False


def by_scope(found: Costs, months: Sequence[str]) -> list[dict[str, Any]]:
    """Of each model and pipeline: runs, seconds on the clock and of CPU, in these months together and by month; the dearest first."""
    said = []
    for scope in sorted({scope for scope, _ in found.sums}):
        none = {"runs": 0.0, "seconds": 0.0, "cpu": 0.0}
        sums = {m: found.sums.get((scope, m), none) for m in months}
        by_month = [{"month": m, **of, "runs": int(of["runs"])} for m, of in sums.items()]
        whole = {what: sum(of[what] for of in sums.values()) for what in none}
        said.append({"scope": scope, **whole, "runs": int(whole["runs"]), "by_month": by_month})
    return sorted((s for s in said if s["runs"]), key=lambda s: -s["seconds"])
