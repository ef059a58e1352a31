"""Stopping a run from elsewhere: the wish is put on record, and whoever drives the run sees it within a second.

record 'run_stop', one a run: who wished it, why, and the epoch it is for, so that a run that is resumed later is not stopped by an old wish.
"""

from __future__ import annotations

from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict
from treadle.core.records import Record, Ref
from treadle.pipelines import lease
from treadle.pipelines.run import ENDED, RUN
from treadle.ports.ledger import Ledger

STOP = "run_stop"


def stop(run: Record, ledger: Ledger, clock: Clock, *, by: str, reason: str) -> str:
    """Stop a run that is under way or waits. What it had finished is kept, and it can be resumed.

    A step that runs in a process of its own is killed; one that runs in the driver's process ends first.

    Returns: 'stopping' while its driver must still see it, 'cancelled' when nobody drove it. Raises: Conflict for a run that has ended.
    """
    if run["status"] in (*ENDED, "interrupted"):
        raise Conflict(f"Run {run.id} is {run['status']}: there is nothing to stop.")
    driven = run["status"] == "running" and not lease.gone(run["owner"])
    with ledger.transaction():
        body = {"run": run.id, "epoch": int(run.get("epoch", 1)), "by": by, "reason": reason, "at": iso(clock.now())}
        ledger.put(STOP, run.id, body)
        ledger.append("run.stop_asked", Ref(RUN, run.id), {"reason": reason}, actor=by)
        if not driven:  # compare-and-set: whoever resumes it at this very moment is first, or is told
            ledger.put(RUN, run.id, {**run.body, "status": "cancelled", "ended": iso(clock.now()), "error": said(by, reason)}, expect=run.version)
            ledger.append("run.cancelled", Ref(RUN, run.id), {"reason": reason}, actor=by)
    return "stopping" if driven else "cancelled"


def said(by: str, reason: str) -> str:
    """Who stopped it, and why."""
    return f"stopped by {by}" + (f": {reason}" if reason else "")
