"""Runs: start one, go on with one that was interrupted, say what one would do. The work itself is driven by `drive`.

A run is one record, and one record for each of its steps. Starting the same pipeline again finds what is done by its key; resuming a run goes on with
the very same run, with what it had read. A run has an owner; one whose owner is gone is marked interrupted by the next process that looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, Corrupt, NotFound
from treadle.core.ids import new_id
from treadle.core.records import Link, Record, Ref
from treadle.pipelines import files, lease, plan, results
from treadle.pipelines.graph import Step, needed, ordered
from treadle.pipelines.lease import alive, owner
from treadle.pipelines.perform import Names
from treadle.ports.blobs import Blobs
from treadle.ports.executor import Executor
from treadle.ports.ledger import Ledger

__all__ = ["APPROVAL", "RUN", "STEP", "Outcome", "Progress", "Runner", "alive", "mark_interrupted", "owner", "steps_of"]

RUN, STEP, APPROVAL = "run", "run_step", "approval"
ENDED = ("done", "failed", "cancelled", "rejected")


@dataclass(frozen=True)
class Progress:
    """One thing that happened in a run.

    `state` is 'planned' (once, before all others: `waits` says what each step waits for), 'started', 'done', 'reused', 'skipped', 'waiting', 'retry',
    'failed', 'cancelled', 'warning', 'note' (it goes on, `reason` says how far) or
    'interrupted'. A fan-out that starts says how many `tasks` it has; these are named `score[3]`.
    """

    step: str
    state: str
    seconds: float = 0.0
    reason: str = ""
    run: str = ""
    waits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tasks: int = 0


@dataclass
class Outcome:
    """What a run produced: each step's result is loaded when it is asked for."""

    run: Record
    stored: dict[str, tuple[str, str]]
    _blobs: Blobs
    reused: list[str] = field(default_factory=list)
    template: Any = None

    def __getitem__(self, step: str) -> Any:
        return results.load(*self.stored[step], self._blobs)

    def address(self, step: str) -> str:
        """The content address of a step's result."""
        return self.stored[step][1]

    @property
    def value(self) -> Any:
        """What the pipeline returned; None for a result whose step was left out."""
        slots = {name: self[name] if name in self.stored else None for name in _named(self.template)}
        return plan.fill(self.template, slots)


@dataclass(frozen=True)
class Stores:
    """What a run works on: the record, the bytes, where tasks run, and where the project's own code is.

    Args:
        executor: where tasks run.
        workers: opens an executor that stops tasks, for steps with a limit of time or memory where `executor` does not stop any.
        here: opens an executor in this very process, for steps that hand out work themselves.
        roots: folders whose code is the project's own.
        home: the folder for what is kept on this machine: logs while they grow, the memory of files' hashes.
        names: how the project's things are named across processes.
        watch: told of each step as it starts and ends.
        actor: who starts runs and goes on with them, for the record.
    """

    ledger: Ledger
    blobs: Blobs
    executor: Executor
    clock: Clock
    roots: Sequence[Path] = ()
    home: Path | None = None
    workers: Callable[[], Executor] | None = None
    here: Callable[[], Executor] | None = None
    names: Names | None = None
    watch: Callable[[Progress], None] = lambda progress: None
    lease: float = lease.SECONDS
    actor: str = ""
    memo: files.FileMemo = field(default_factory=files.FileMemo)


class Runner:
    """Runs pipelines on one ledger, one blob store and one executor. See `Stores` for the arguments."""

    def __init__(
        self, ledger: Ledger, blobs: Blobs, executor: Executor, clock: Clock, *, roots: Sequence[Path] = (), home: Path | None = None,
        workers: Callable[[], Executor] | None = None, here: Callable[[], Executor] | None = None, names: Names | None = None,
        watch: Callable[[Progress], None] | None = None, lease_seconds: float = lease.SECONDS, actor: str = "",
    ) -> None:  # fmt: skip
        self._stores = Stores(
            ledger, blobs, executor, clock, list(roots), home, workers, here, names, watch or (lambda progress: None), lease_seconds, actor,
            files.FileMemo(home),
        )  # fmt: skip

    def run(
        self,
        scope: str,
        steps: Sequence[Step],
        *,
        cause: Mapping[str, Any],
        about: Mapping[str, Any] | None = None,
        id: str | None = None,
        until: Sequence[str] = (),
        request: Mapping[str, Any] | None = None,
        template: Any = None,
    ) -> Outcome:
        """Run the steps that need it and return all results.

        Args:
            scope: whose pipeline it is, 'project.model'.
            cause: why it runs: {'kind': 'person' | 'alarm' | ..., 'id': ..., 'text': ...}.
            id: the run's id; given one that exists, Conflict (this is how one cause starts exactly one run).
            until: the last steps wanted; all if empty.
            request: what it takes to build the same steps again, for `resume`.
            template: what the pipeline returns, with slots.
        Raises: StepFailed (the step's own TreadleError is raised as it is); Cancelled on Ctrl-C; Fenced when another process took the run over.
            What had finished is kept.
        """
        wanted = needed(ordered(steps), until)
        ledger, clock = self._stores.ledger, self._stores.clock
        run_id = id or new_id("run")
        body: dict[str, Any] = {
            "scope": scope, "cause": dict(cause), "status": "running", "started": iso(clock.now()), "owner": owner(), "epoch": 1,
            "request": {**(request or {}), "until": list(until)}, "counts": {}, "seconds": 0.0, "cpu": 0.0, "by": self._stores.actor,
            **(about or {}),
        }  # fmt: skip
        with ledger.transaction():
            record = ledger.put(RUN, run_id, body, expect=0)
            ledger.append("run.started", Ref(RUN, run_id), {"cause": dict(cause), "scope": scope}, actor=self._stores.actor or "treadle")
            if cause.get("id"):
                ledger.link(Link(Ref(RUN, run_id), "caused_by", Ref(str(cause["kind"]), str(cause["id"]))))
        return self._drive(record, wanted, {}, template)

    def resume(self, run_id: str, steps: Sequence[Step], *, template: Any = None, wait: bool = True) -> Outcome:
        """Go on with a run that was interrupted, cancelled, failed or waits: what it had finished and read stands, the rest is done.

        Args:
            wait: watch the heartbeat of a run that another living process drives, for as long as a lease, to see whether that process hangs.
        Raises: NotFound; Conflict when it is done, rejected, or driven by a living process.
        """
        ledger = self._stores.ledger
        record = ledger.get(RUN, run_id)
        if record is None:
            raise NotFound(f"There is no run {run_id!r}.", hint="See: treadle runs")
        if record["status"] in ("done", "rejected"):
            raise Conflict(f"Run {run_id} is {record['status']}: there is nothing to go on with.", hint="Start a new one with: treadle run")
        if record["status"] == "running" and not lease.gone(record["owner"]) and not (wait and lease.silent(run_id, ledger, self._stores.lease)):
            who = record["owner"]
            raise Conflict(f"Run {run_id} is being driven by process {who['pid']} on {who['host']}.", hint="Wait for it, or stop that process first.")
        by = [self._stores.actor] if self._stores.actor and self._stores.actor not in (record.get("by"), *record.get("resumed_by", ())) else []
        body = {
            **record.body, "status": "running", "owner": owner(), "epoch": int(record.get("epoch", 1)) + 1, "error": "",
            "resumed_by": [*record.get("resumed_by", ()), *by],
        }  # fmt: skip
        with ledger.transaction():
            taken = ledger.put(RUN, run_id, body, expect=record.version)
            said = {"from": record["status"], "epoch": body["epoch"]}
            ledger.append("run.resumed", Ref(RUN, run_id), said, actor=self._stores.actor or "treadle")
        prior = {s["step"]: s for s in steps_of(run_id, ledger)}
        return self._drive(taken, needed(ordered(steps), body.get("request", {}).get("until", ())), prior, template)

    def plan(self, scope: str, steps: Sequence[Step]) -> list[dict[str, Any]]:
        """What `run` would do, without doing it: for each step whether its stored result stands, and if not, why.

        See `preview.preview` for what is said of each.
        """
        from treadle.pipelines.preview import preview

        return preview(scope, steps, self._stores)

    def _drive(self, record: Record, steps: list[Step], prior: dict[str, Record], template: Any) -> Outcome:
        from treadle.pipelines.drive import Drive

        drive = Drive(self._stores, record, steps, prior)
        ended = drive.go()
        return Outcome(ended, drive.stored, self._stores.blobs, drive.reused, template)


def unusable(step: Step, found: Record, stores: Stores) -> str:
    """Why a stored result cannot be used again, or ''."""
    changed = next((path for path, was in found.get("files", {}).items() if _now(path, stores) != was), None)
    if changed is not None:
        return f"the file {changed}, which it read, changed"
    try:
        if step.holds is not None:
            held = step.holds(results.load(found["codec"], found["address"], stores.blobs))
            return "" if held else "what its stored result names is missing, damaged or not the newest"
        stores.blobs.verify(found["address"])
        if found["codec"] == results.LIST:
            for _, address in results.parts(found["address"], stores.blobs):
                stores.blobs.verify(address)
    except NotFound:
        return f"its stored result {found['address'][:12]} is missing"
    except Corrupt:
        return f"its stored result {found['address'][:12]} is damaged"
    return ""


def _now(path: str, stores: Stores) -> str:
    return files.content(stores.roots[0] / path if stores.roots else path, stores.memo)


def steps_of(run: str, ledger: Ledger) -> list[Record]:
    """The step records of a run, in order."""
    return sorted(ledger.find(STEP, {"run": run}), key=lambda s: (s["index"], s.get("task", -1)))


def mark_interrupted(ledger: Ledger, clock: Clock) -> list[str]:
    """Mark runs whose owner on this machine is gone as interrupted; returns their ids."""
    marked = []
    for run in ledger.find(RUN, {"status": "running"}):
        if not lease.gone(run["owner"]):
            continue
        try:
            with ledger.transaction():
                body = {**run.body, "status": "interrupted", "ended": iso(clock.now()), "error": "its process died"}
                ledger.put(RUN, run.id, body, expect=run.version)
                for step in ledger.find(STEP, {"run": run.id, "status": "running"}):
                    ledger.put(STEP, step.id, {**step.body, "status": "interrupted"})
                ledger.append("run.interrupted", Ref(RUN, run.id), {"pid": run["owner"]["pid"]})
        except Conflict:  # somebody else marked it, or goes on with it
            continue
        marked.append(run.id)
    return marked


def _named(template: Any) -> list[str]:
    from treadle.pipelines.graph import Slot

    if isinstance(template, Slot):
        return [template.input]
    if isinstance(template, list | tuple):
        return [n for t in template for n in _named(t)]
    return [n for t in template.values() for n in _named(t)] if isinstance(template, dict) else []
