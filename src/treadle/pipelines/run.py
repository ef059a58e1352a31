"""The one loop: run each step whose result is not there yet, record everything, resume where it stopped.

Starting the same pipeline again is the resume: steps that had finished are found by their key. A run has an owner (process and
heartbeat); a run whose owner is gone is marked interrupted by the next one that looks, so none stays 'running' for ever.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from treadle.core.canonical import plain
from treadle.core.clock import Clock, iso
from treadle.core.errors import Cancelled, Corrupt, NotFound, StepFailed, TreadleError
from treadle.core.ids import new_id
from treadle.core.records import Link, Record, Ref
from treadle.pipelines import plan, results
from treadle.pipelines.graph import Step, ordered
from treadle.ports.blobs import Blobs
from treadle.ports.executor import Executor
from treadle.ports.ledger import Ledger

RUN = "run"


@dataclass(frozen=True)
class Progress:
    """One thing that happened in a run: `state` is 'started', 'done', 'reused' or 'failed'."""

    step: str
    state: str
    seconds: float = 0.0
    reason: str = ""


@dataclass
class Outcome:
    """What a run produced: each step's result is loaded when it is asked for."""

    run: Record
    _loaded: dict[str, Any]
    _stored: dict[str, tuple[str, str]]
    _blobs: Blobs
    reused: list[str] = field(default_factory=list)

    def __getitem__(self, step: str) -> Any:
        if step not in self._loaded:
            codec, address = self._stored[step]
            self._loaded[step] = results.load(codec, self._blobs.get(address))
        return self._loaded[step]

    def address(self, step: str) -> str:
        """The content address of a step's result."""
        return self._stored[step][1]


class Runner:
    """Runs pipelines on one ledger, one blob store and one executor.

    Args:
        roots: folders whose code is the project's own.
        watch: told of each step as it starts and ends.
    """

    def __init__(
        self,
        ledger: Ledger,
        blobs: Blobs,
        executor: Executor,
        clock: Clock,
        *,
        roots: Sequence[Path] = (),
        watch: Callable[[Progress], None] | None = None,
    ) -> None:
        self._ledger, self._blobs, self._executor, self._clock = ledger, blobs, executor, clock
        self._roots, self._watch = list(roots), watch or (lambda progress: None)

    def run(
        self,
        scope: str,
        steps: Sequence[Step],
        *,
        cause: Mapping[str, Any],
        about: Mapping[str, Any] | None = None,
        id: str | None = None,
        until: Sequence[str] = (),
    ) -> Outcome:
        """Run the steps that need it and return all results.

        Args:
            scope: whose pipeline it is, 'project.model'.
            cause: why it runs: {'kind': 'person' | 'alarm' | ..., 'id': ..., 'text': ...}.
            id: the run's id; given one that exists, Conflict (this is how one cause starts exactly one run).
            until: the last steps wanted; all if empty.
        Raises: StepFailed (the step's own TreadleError is raised as it is); Cancelled on Ctrl-C. What had finished is kept.
        """
        run_id = id or new_id("run")
        body: dict[str, Any] = {
            "scope": scope, "cause": dict(cause), "status": "running", "steps": [], "started": iso(self._clock.now()),
            "owner": owner(), **(about or {}),
        }  # fmt: skip
        with self._ledger.transaction():
            record = self._ledger.put(RUN, run_id, body, expect=0)
            self._ledger.append("run.started", Ref(RUN, run_id), {"cause": dict(cause), "scope": scope})
            if cause.get("id"):
                self._ledger.link(Link(Ref(RUN, run_id), "caused_by", Ref(str(cause["kind"]), str(cause["id"]))))
        outcome = Outcome(record, {}, {}, self._blobs)
        try:
            for step in _needed(ordered(steps), until):
                self._step(step, scope, run_id, body, outcome)
        except KeyboardInterrupt:
            self._end(run_id, body, "cancelled", "stopped by hand")
            raise Cancelled("Stopped. What had finished is kept; the same command goes on from there.") from None
        except BaseException as error:
            self._end(run_id, body, "failed", str(error))
            raise
        outcome.run = self._end(run_id, body, "done", "")
        return outcome

    def plan(self, scope: str, steps: Sequence[Step]) -> list[dict[str, Any]]:
        """What `run` would do, without doing it: for each step whether its stored result stands, and if not, why.

        What follows a step that must run may still be reused, if that step's new result is the same; it is listed as to run.
        """
        addresses: dict[str, str] = {}
        said = []
        for step in ordered(steps):
            waits = next((source for source in step.inputs.values() if source not in addresses), None)
            if waits is not None:
                said.append({"step": step.name, "fresh": False, "reason": f"after {waits}"})
                continue
            made_of = plan.ingredients(step, {argument: addresses[source] for argument, source in step.inputs.items()}, self._roots)
            found = plan.stored(made_of.key(step.name), self._ledger) if step.cached else None
            if found is not None and self._usable(step, found):
                addresses[step.name] = found["address"]
                said.append({"step": step.name, "fresh": True, "reason": "nothing it depends on changed", "address": found["address"]})
            else:
                why = plan.reason(step.name, made_of, self._ledger, scope) if step.cached else "runs each time"
                said.append({"step": step.name, "fresh": False, "reason": why})
        return said

    def _step(self, step: Step, scope: str, run_id: str, body: dict[str, Any], outcome: Outcome) -> None:
        inputs = {argument: outcome._stored[source][1] for argument, source in step.inputs.items()}
        made_of = plan.ingredients(step, inputs, self._roots)
        key = made_of.key(step.name)
        why = ""
        found = plan.stored(key, self._ledger) if step.cached else None
        if found is not None:
            if self._usable(step, found):
                outcome._stored[step.name] = (found["codec"], found["address"])
                outcome.reused.append(step.name)
                body["steps"].append({"name": step.name, "key": key, "status": "reused", "seconds": 0.0, "address": found["address"]})
                self._ledger.put(RUN, run_id, body)
                self._watch(Progress(step.name, "reused"))
                return
            why = "its stored result is missing or damaged"
        why = why or (plan.reason(step.name, made_of, self._ledger, scope) if step.cached else "runs each time")
        entry: dict[str, Any] = {"name": step.name, "key": key, "status": "running", "reason": why, "started": iso(self._clock.now())}
        body["steps"].append(entry)
        body["owner"] = owner()
        self._ledger.put(RUN, run_id, body)
        self._watch(Progress(step.name, "started", reason=why))
        lines: list[str] = []
        begun = time.perf_counter()
        try:
            arguments = {**step.params, **step.extra, **{argument: outcome[source] for argument, source in step.inputs.items()}}
            value = self._executor.run(step.function, arguments, log=lines.append)
            seconds = time.perf_counter() - begun
            codec, data = results.dump(value)
            address = self._put(data, again=found is not None)
        except BaseException as error:
            entry.update(status="failed", seconds=round(time.perf_counter() - begun, 4), error=str(error), log=lines[-200:])
            self._watch(Progress(step.name, "failed", entry["seconds"], str(error)))
            if isinstance(error, TreadleError | KeyboardInterrupt):
                raise
            entry["traceback"] = traceback.format_exc()[-8000:]
            raise StepFailed(
                f"{type(error).__name__}: {error}", where=f"step {step.name!r} of {scope}", hint=f"See: treadle runs {run_id}"
            ) from error
        entry.update(status="done", seconds=round(seconds, 4), address=address, log=lines[-200:])
        with self._ledger.transaction():
            self._ledger.put(plan.RESULT, key, {"step": step.name, "codec": codec, "address": address, "seconds": seconds, "run": run_id})
            self._ledger.put(plan.LATEST, f"{scope}.{step.name}", {"key": key, "ingredients": plain(made_of)})
            self._ledger.put(RUN, run_id, body)
        outcome._stored[step.name] = (codec, address)
        outcome._loaded[step.name] = value
        self._watch(Progress(step.name, "done", seconds, why))

    def _put(self, data: bytes, again: bool) -> str:
        """Store a result. One computed `again` may have the address of its damaged self, which a store keeps as long as it is there."""
        address = self._blobs.put(data)
        if again:
            try:
                self._blobs.verify(address)
            except Corrupt:
                self._blobs.delete(address)
                self._blobs.put(data)
        return address

    def _usable(self, step: Step, found: Record) -> bool:
        try:
            if step.holds is not None:
                return step.holds(results.load(found["codec"], self._blobs.get(found["address"])))
            self._blobs.verify(found["address"])
        except (NotFound, Corrupt):
            return False
        return True

    def _end(self, run_id: str, body: dict[str, Any], status: str, error: str) -> Record:
        body.update(status=status, ended=iso(self._clock.now()), error=error)
        with self._ledger.transaction():
            record = self._ledger.put(RUN, run_id, body)
            self._ledger.append(f"run.{status}", Ref(RUN, run_id), {"error": error} if error else {})
        return record


def owner() -> dict[str, Any]:
    """This process, as the owner of a run."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "seen": time.time()}


def mark_interrupted(ledger: Ledger, clock: Clock) -> list[str]:
    """Mark runs whose owner on this machine is gone as interrupted; returns their ids."""
    marked = []
    for run in ledger.find(RUN, {"status": "running"}):
        who = run["owner"]
        if who["host"] == socket.gethostname() and not alive(int(who["pid"])):
            with ledger.transaction():
                ledger.put(RUN, run.id, {**run.body, "status": "interrupted", "ended": iso(clock.now()), "error": "its process died"})
                ledger.append("run.interrupted", Ref(RUN, run.id), {"pid": who["pid"]})
            marked.append(run.id)
    return marked


def alive(pid: int) -> bool:
    """Whether a process with this number runs on this machine (a zombie does not)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True


def _needed(steps: list[Step], until: Sequence[str]) -> list[Step]:
    by_name = {s.name: s for s in steps}
    for name in until:
        if name not in by_name:
            raise NotFound(f"There is no step {name!r}.", hint=f"Steps are: {', '.join(by_name)}.")
    wanted, stack = set(), list(until or by_name)
    while stack:
        name = stack.pop()
        if name not in wanted:
            wanted.add(name)
            stack.extend(by_name[name].inputs.values())
    return [s for s in steps if s.name in wanted]
