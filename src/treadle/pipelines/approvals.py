"""Answering for a person: what waits for an approval, and saying yes or no to it. The run itself goes on when it is resumed."""

from __future__ import annotations

from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, NotFound
from treadle.core.records import Record, Ref
from treadle.pipelines.lookup import find_step
from treadle.pipelines.run import APPROVAL, RUN, STEP
from treadle.ports.ledger import Ledger


def waiting(ledger: Ledger, run: str = "") -> list[Record]:
    """What nobody has answered yet, oldest first; of one run, or of all that are not over."""
    found = ledger.find(APPROVAL, {"status": "waiting", **({"run": run} if run else {})})
    over = {r.id for r in (ledger.get(RUN, id) for id in {a["run"] for a in found}) if r is not None and r["status"] in ("rejected", "done")}
    return [a for a in found if a["run"] not in over]


def answer(run: Record, step: str, ledger: Ledger, clock: Clock, *, approve: bool, by: str, reason: str = "") -> Record:
    """Approve or reject. Of two who answer at once, one wins. A waiting run whose approval is rejected has ended with it.

    Raises: NotFound when the run asks nothing of that name; Conflict when it is answered already, or the run is over.
    """
    asked = ledger.find(APPROVAL, {"run": run.id})
    if not asked:
        raise NotFound(f"Run {run.id} has asked for no approval.", hint="See what waits with: treadle approve")
    found = find_step(step, run.id, asked)
    said = "approved" if approve else "rejected"
    if found["status"] != "waiting":
        raise Conflict(f"{found['step']!r} of run {run.id} was {found['status']} by {found['by']} already ({found['at'][:19]}).")
    if run["status"] in ("done", "rejected"):
        raise Conflict(f"Run {run.id} is {run['status']}: an answer would change nothing.")
    try:
        with ledger.transaction():
            made = ledger.put(
                APPROVAL, found.id, {**found.body, "status": said, "by": by, "reason": reason, "at": iso(clock.now())}, expect=found.version
            )
            ledger.append(f"approval.{said}", Ref(APPROVAL, found.id), {"reason": reason, "question": found["question"]}, actor=by)
    except Conflict:
        now = ledger.get(APPROVAL, found.id)
        who = f" by {now['by']}" if now is not None and now.get("by") else ""
        raise Conflict(f"Somebody else answered {found['step']!r} of run {run.id} first{who}.", hint=f"See: treadle runs {run.id}") from None
    if not approve:
        _end(run.id, made, ledger, clock)
    return made


def _end(run: str, rejected: Record, ledger: Ledger, clock: Clock) -> None:
    """A run that waits without a process is over with a no. One that is still driven finds it out itself, or is told when it is resumed."""
    record = ledger.get(RUN, run)
    if record is None or record["status"] != "waiting":
        return
    why = f"rejected by {rejected['by']}" + (f": {rejected['reason']}" if rejected["reason"] else "")
    try:
        with ledger.transaction():
            ended = {"status": "rejected", "ended": iso(clock.now()), "error": f"{rejected['step']}: {why}"}
            ledger.put(RUN, run, {**record.body, **ended}, expect=record.version)
            step = ledger.get(STEP, rejected.id)
            if step is not None:
                ledger.put(STEP, step.id, {**step.body, "status": "rejected", "reason": why}, expect=step.version)
            ledger.append("run.rejected", Ref(RUN, run), {"step": rejected["step"], "reason": rejected["reason"]})
    except Conflict:  # somebody goes on with it just now, and will meet the answer
        return
