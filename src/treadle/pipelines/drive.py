"""The one loop: decide what each step needs, hand out tasks, record what comes of them, until nothing is left that can go on.

Before a task begins its start is on record, and before what follows it begins its result is. Every write first compares-and-sets the run's record,
so that a driver whose run was taken over is refused (`Fenced`).
"""

from __future__ import annotations

import random
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from treadle.core.clock import iso
from treadle.core.errors import Cancelled, Conflict, Corrupt, Fenced, NotFound, ProjectError, RunStopped, StepFailed, TreadleError
from treadle.core.records import Record, Ref
from treadle.pipelines import plan, purity, results
from treadle.pipelines.graph import Slot, Step
from treadle.pipelines.lease import Heartbeat
from treadle.pipelines.logs import StepLog
from treadle.pipelines.perform import Done, Work, away, pack, perform
from treadle.pipelines.plan import Ingredients
from treadle.pipelines.run import APPROVAL, RUN, STEP, Progress, Stores, unusable
from treadle.pipelines.stopping import STOP, said
from treadle.ports.executor import Executor, Task, WorkerLost

LOST = 3  # how often a task is given to another worker when its own died
LONGEST_WAIT = 300.0
_LOOK_AHEAD = 64  # how many queued jobs that cannot start are passed over to find one that can
LOOKS = 1.0  # seconds between two looks whether the run is to stop
_STOPS = ("waiting", "rejected", "failed", "cancelled", "blocked")


@dataclass
class _Job:
    """One task to be done: a step, or one element of a fan-out."""

    step: Step
    entry: dict[str, Any]
    made_of: Ingredients
    key: str
    index: int | None = None
    element: Any = None
    address: tuple[str, str] | None = None  # of the element, where it is a stored result
    attempt: int = 0
    lost: int = 0
    not_before: float = 0.0
    log: StepLog | None = None
    begun: float = 0.0


@dataclass
class _Fan:
    """A fan-out under way."""

    step: Step
    entry: dict[str, Any]
    made_of: Ingredients
    stored: list[tuple[str, str] | None]
    left: int
    seconds: float = 0.0
    cpu: float = 0.0
    begun: float = field(default_factory=time.perf_counter)


class Drive:
    """One run being driven. `go` returns the run's record as it ended."""

    def __init__(self, stores: Stores, record: Record, steps: list[Step], prior: Mapping[str, Record]) -> None:
        self._s, self._record, self._steps, self._prior = stores, record, steps, prior
        self._run, self._scope = record.id, str(record["scope"])
        self._body = dict(record.body)
        self._left = {step.name: step for step in steps}
        self._ended: dict[str, str] = {}
        self.stored: dict[str, tuple[str, str]] = {}
        self.reused: list[str] = []
        self._unwritten: list[tuple[str, dict[str, Any]]] = []
        self._queue: deque[_Job] = deque()
        self._flying: dict[Future[Any], _Job] = {}
        self._starting: _Job | None = None
        self._fans: dict[str, _Fan] = {}
        self._frames: dict[str, Any] = {}
        self._users = Counter(source for step in steps for source in step.inputs.values())
        self._error: BaseException | None = None
        self._counts: Counter[str] = Counter()
        self._cpu, self._begun = float(record.get("cpu", 0.0)), time.perf_counter()
        self._seconds = float(record.get("seconds", 0.0))
        self._looks = 0.0
        self._index = {step.name: i for i, step in enumerate(steps)}

    def go(self) -> Record:
        """Drive the run to its end, or to where it must wait. Raises as `Runner.run` says."""
        self._s.watch(Progress("", "planned", run=self._run, waits={s.name: s.needs() for s in self._steps}))
        try:
            with ExitStack() as stack:
                stack.enter_context(Heartbeat(self._run, self._body["owner"]["token"], self._s.ledger, self._s.lease))
                self._loop()
            status = self._status()
            ended = self._end(status, "")
        except KeyboardInterrupt:
            self._abandon()
            self._finish("cancelled", "stopped by hand")
            hint = f"What had finished is kept. Go on with: treadle resume {self._run}"
            raise Cancelled("Stopped.", hint=hint) from None
        except RunStopped as stopped:
            self._abandon()
            self._finish("cancelled", stopped.what)
            raise
        except Fenced:
            self._abandon(record=False)
            raise
        except BaseException as error:
            self._abandon()
            self._finish("failed", str(error))
            raise
        return ended

    # The loop

    def _loop(self) -> None:
        while True:
            self._look()
            moved = self._decide() if self._error is None else False
            if self._error is None:
                moved = self._hand_out() or moved
            if self._flying:
                self._land(self._pause())
            elif self._error is not None:
                raise self._error
            elif self._queue:
                time.sleep(min(LOOKS, max(0.0, min(job.not_before for job in self._queue) - time.monotonic())))
            elif not moved and not self._answered():
                return

    def _answered(self) -> bool:
        """Whether a person answered a question while the rest went on; then what waited for it is decided anew."""
        waiting = [step for step in self._steps if self._ended.get(step.name) == "waiting"]
        said = [found for step in waiting if (found := self._s.ledger.get(APPROVAL, f"{self._run}/{step.name}")) is not None]
        if all(found["status"] == "waiting" for found in said):
            return False
        for step in self._steps:
            if self._ended.get(step.name) in ("waiting", "blocked"):
                self._counts[self._ended.pop(step.name)] = 0
                self._left[step.name] = step
        self._unwritten = [(name, entry) for name, entry in self._unwritten if entry["status"] != "waiting"]
        return True

    def _pause(self) -> float:
        """How long to wait for a task to end before a retry is due, or somebody may have wished the run to stop."""
        due = [job.not_before for job in self._queue if job.not_before]
        return max(0.0, min(LOOKS, min(due) - time.monotonic())) if due and self._error is None else LOOKS

    def _look(self) -> None:
        """Whether somebody stopped this run: looked at once a second. Raises RunStopped."""
        if self._error is not None or time.monotonic() < self._looks:
            return
        self._looks = time.monotonic() + LOOKS
        wish = self._s.ledger.get(STOP, self._run)
        if wish is not None and wish["epoch"] == self._body["epoch"]:
            raise RunStopped(said(wish["by"], wish["reason"]), where=self._run, hint=f"Go on with it: treadle resume {self._run}")

    def _status(self) -> str:
        if "rejected" in self._ended.values():
            return "rejected"
        return "waiting" if "waiting" in self._ended.values() else "done"

    # Deciding

    def _decide(self) -> bool:
        """End, or queue, every step whose needs have ended. Goes on until none moves."""
        moved = False
        for name in list(self._left):
            step = self._left[name]
            needs = step.needs()
            if not all(need in self._ended for need in needs):
                continue
            del self._left[name]
            moved = True
            if any(self._ended[need] in _STOPS for need in needs):
                self._ended[name] = "blocked"
                continue
            why = self._left_out(step)
            if why:
                self._note(step, "skipped", reason=why)
            elif step.question:
                self._ask(step)
            elif step.first_of:
                source = next(source for source in step.inputs.values() if source in self.stored)
                self._take(step, self.stored[source], "done", reason=f"took {source}")
            else:
                self._prepare(step)
        return moved

    def _left_out(self, step: Step) -> str:
        for condition, wanted in step.when:
            if isinstance(condition, Slot):
                if condition.input not in self.stored:
                    return f"{condition.input} was left out"
                value = plan.fill(Slot("", condition.path), {"": self._load(condition.input)})
                try:
                    true = bool(value)
                except Exception:
                    raise ProjectError(
                        f"{condition.input!r} is a condition, but {type(value).__name__} is neither true nor false.", where=step.place or None,
                        hint="Let the step return True or False.",
                    ) from None  # fmt: skip
                if true != wanted:
                    return f"{condition.input} is {'true' if true else 'not true'}"
            elif condition != wanted:
                return "its condition does not hold"
        missing = [source for source in step.inputs.values() if source not in self.stored]
        if step.first_of:
            return "every branch was left out" if len(missing) == len(step.inputs) else ""
        return f"{missing[0]} was left out" if missing else ""

    def _ask(self, step: Step) -> None:
        id = f"{self._run}/{step.name}"
        found = self._s.ledger.get(APPROVAL, id)
        if found is None:
            shows = {k: self.stored[source][1] for k, source in step.inputs.items()}
            with self._writing():
                about = {"run": self._run, "step": step.name, "scope": self._scope, "question": step.question}
                self._s.ledger.put(APPROVAL, id, {**about, "status": "waiting", "shows": shows})
                self._s.ledger.append("approval.asked", Ref(APPROVAL, id), {"question": step.question})
            found = self._s.ledger.get(APPROVAL, id)
        assert found is not None
        if found["status"] == "approved":
            said = {"approved": True, "by": found["by"], "reason": found["reason"]}
            self._take(step, results.store(said, self._s.blobs), "done", reason=f"approved by {found['by']}")
        elif found["status"] == "rejected":
            self._note(step, "rejected", reason=f"rejected by {found['by']}: {found['reason']}")
        else:
            self._note(step, "waiting", reason=step.question)

    def _prepare(self, step: Step) -> None:
        inputs = {argument: self.stored[source][1] for argument, source in step.inputs.items()}
        made_of = plan.ingredients(step, inputs, self._s.roots, self._s.memo)
        key = made_of.key(step.name)
        why = ""
        kept = self._kept(step, made_of)
        if kept is not None:
            # Its record stays as it was written then, with its times and its log.
            self._finished(step, (kept["codec"], kept["address"]), kept["status"], 0.0, "done before in this run")
            return
        found = plan.stored(key, self._s.ledger) if step.cached else None
        if found is not None:
            why = unusable(step, found, self._s)
            if not why:
                self._take(step, (found["codec"], found["address"]), "reused", key=key)
                return
            if "damaged" in why or "missing" in why:
                self._s.watch(Progress(step.name, "warning", reason=f"{why}; it is made again", run=self._run))
                self._discard(found)
        why = why or (plan.reason(step.name, made_of, self._s.ledger, self._scope) if step.cached else "runs each time")
        entry = self._entry(step, key=key, reason=why)
        hidden = [] if step.reads or not step.cached else [h.sentence() for h in purity.hidden_inputs(step.function, self._s.roots)]
        for warning in hidden:
            self._s.watch(Progress(step.name, "warning", reason=warning, run=self._run))
        if hidden:
            entry["warnings"] = hidden
        if step.over:
            self._spread(step, entry, made_of)
        else:
            self._queue.append(_Job(step, entry, made_of, key))

    def _discard(self, found: Record) -> None:
        """Remove damaged bytes, because a store keeps what it has under an address: made again, they would not be written."""
        stored = [(found["codec"], found["address"])]
        for codec, address in stored:
            try:
                self._s.blobs.verify(address)
                if codec == results.LIST:
                    stored += results.parts(address, self._s.blobs)
            except Corrupt:
                self._s.blobs.delete(address)
            except NotFound:
                continue

    def _kept(self, step: Step, made_of: Ingredients) -> Record | None:
        """What this very run had finished before it was interrupted, if it means the same: what it read of the world outside then still counts."""
        prior = self._prior.get(step.name)
        if prior is None or prior["status"] not in ("done", "reused") or not prior.get("key"):
            return None
        found = plan.stored(prior["key"], self._s.ledger)
        if found is None:
            return None
        then, now = found["ingredients"], made_of.body()
        for parts in (then, now):
            parts["params"] = {k: v for k, v in parts["params"].items() if k not in step.outside}
        if {**then, "files": {}} != {**now, "files": {}} or unusable(step, Record(STEP, "", {**prior.body, "files": {}}), self._s):
            return None
        return prior

    def _spread(self, step: Step, entry: dict[str, Any], made_of: Ingredients) -> None:
        """Turn a fan-out into one job for each element whose result is not there yet."""
        source = step.inputs.get(step.over)
        elements: list[Any]
        addresses: list[tuple[str, str] | None]
        if source is not None and self.stored[source][0] == results.LIST:
            addresses = list(results.parts(self.stored[source][1], self._s.blobs))
            elements = [None] * len(addresses)
        else:
            whole = self._load(source) if source is not None else (
                plan.fill(step.templates[step.over], {k: self._load(s) for k, s in step.inputs.items() if "." in k}) if step.over in step.templates
                else step.params[step.over]
            )  # fmt: skip
            if isinstance(whole, str | bytes | Mapping) or not isinstance(whole, Iterable):
                raise ProjectError(
                    f"{step.name!r} goes over {step.over!r}, which is no list but {type(whole).__name__}.", where=step.place or None,
                    hint="Give a list.",
                )  # fmt: skip
            elements = list(whole)
            addresses = [None] * len(elements)
        entry.update(status="running", started=iso(self._s.clock.now()), tasks=len(elements))
        fan = self._fans[step.name] = _Fan(step, entry, made_of, [None] * len(elements), len(elements))
        self._watch_start(step.name, entry["reason"], len(elements))
        with self._writing():
            self._put_step(step.name, entry)
        for i, (value, address) in enumerate(zip(elements, addresses)):
            own = address[1] if address is not None else plan.param_digest(step.name, step.over, value)
            part = plan.element(made_of, step.over, own)
            key = part.key(step.name)
            found = plan.stored(key, self._s.ledger) if step.cached else None
            name = f"{step.name}[{i}]"
            prior = self._prior.get(name)
            if found is None and prior is not None and prior["status"] in ("done", "reused") and prior.get("key") == key:
                found = prior
            why = "" if found is None else unusable(step, found, self._s)
            if found is not None and not why:
                fan.stored[i] = (found["codec"], found["address"])
                fan.left -= 1
                self._counts["reused"] += 1
                said = {"status": "reused", "codec": found["codec"], "address": found["address"]}
                self._unwritten.append((name, {**self._entry(step, key=key), "of": step.name, "task": i, **said}))
                self._s.watch(Progress(name, "reused", run=self._run))
                continue
            if found is not None:
                self._discard(found)
            begun = {**self._entry(step, key=key, reason=why or entry["reason"]), "of": step.name, "task": i}
            self._queue.append(_Job(step, begun, part, key, i, value, address))
        if not fan.left:
            self._gather(fan)

    def _gather(self, fan: _Fan) -> None:
        """All tasks of a fan-out are done: their addresses are its result."""
        stored = results.store_list([part for part in fan.stored if part is not None], self._s.blobs)
        del self._fans[fan.step.name]
        key = fan.made_of.key(fan.step.name)
        fan.entry.update(
            status="done", key=key, codec=stored[0], address=stored[1], ended=iso(self._s.clock.now()), cpu=round(fan.cpu, 4),
            seconds=round(time.perf_counter() - fan.begun, 4),
        )  # fmt: skip
        with self._writing():
            self._put_result(fan.step, fan.made_of, key, stored, fan.entry["seconds"], fan.cpu, {})
            self._put_step(fan.step.name, fan.entry)
        self._finished(fan.step, stored, "done", fan.entry["seconds"], fan.entry["reason"])

    # Handing out

    def _hand_out(self) -> bool:
        """Submit queued jobs for which there is room; one that runs in this process is done when this returns."""
        moved = False
        passed: list[_Job] = []
        while self._queue and len(passed) < _LOOK_AHEAD and self._error is None:
            job = self._queue.popleft()
            executor = self._executor_for(job.step)
            busy = sum(self._executor_for(other.step) is executor for other in self._flying.values())
            if job.not_before > time.monotonic() or busy >= executor.slots:
                passed.append(job)
                continue
            self._start(job, executor)
            moved = True
            if not executor.apart:
                self._land(0)
        self._queue.extendleft(reversed(passed))
        return moved

    def _executor_for(self, step: Step) -> Executor:
        if step.here and self._s.executor.apart and self._s.here is not None:
            return self._s.here()
        if (step.timeout is not None or step.resources.memory) and not self._s.executor.stops and self._s.workers is not None:
            return self._s.workers()
        return self._s.executor

    def _start(self, job: _Job, executor: Executor) -> None:
        job.attempt += 1
        name = self._name(job)
        job.entry.setdefault("started", iso(self._s.clock.now()))
        job.entry.update(status="running", attempt=job.attempt, where=type(executor).__name__)
        with self._writing():
            self._put_step(name, job.entry)
        if job.index is None:
            self._watch_start(name, job.entry["reason"])
        job.log = job.log or StepLog(self._s.home, self._run, name)
        step = job.step
        given = {k: v for k, v in {**step.params, **step.extra}.items() if k != step.over}
        inputs = {argument: self.stored[source] for argument, source in step.inputs.items() if argument != step.over}
        templates = {k: v for k, v in step.templates.items() if k != step.over}
        if job.index is not None and job.address is not None:
            inputs[step.over] = job.address
        elif job.index is not None:
            given[step.over] = job.element
        work = Work(name, step.function, given, inputs, templates, step.returns, step.place, self._s.roots, self._s.home)
        job.begun = time.perf_counter()
        self._starting = job
        try:
            future = executor.submit(self._task(work, step, executor), log=job.log.line)
        except TreadleError as error:  # the engine cannot be reached, or the task cannot be sent
            self._failed(job, error)
        else:
            self._flying[future] = job
        self._starting = None

    def _task(self, work: Work, step: Step, executor: Executor) -> Task:
        if executor.apart:
            return Task(away, {"payload": pack(work, self._s.blobs, self._s.names), "names": self._s.names}, work.step, step.resources, step.timeout)
        return Task(partial(self._do_here, work, step), {}, work.step, step.resources, step.timeout)

    def _do_here(self, work: Work, step: Step) -> Done:
        value, done = perform(work, self._s.blobs, self._frames)
        if done.codec == "frame" and self._users[step.name]:
            self._frames[done.address] = value
        return done

    # Landing

    def _land(self, timeout: float | None) -> None:
        for future in wait(self._flying, timeout, FIRST_COMPLETED).done:
            job = self._flying.pop(future)
            try:
                done = future.result()
            except KeyboardInterrupt:
                self._flying[future] = job
                raise
            except BaseException as error:
                self._failed(job, error)
            else:
                self._done(job, done)

    def _done(self, job: _Job, done: Done) -> None:
        stored = (done.codec, done.address)
        if done.hosts and job.step.cached and (job.step.place or job.step.code):  # what the project wrote, not what Treadle's own steps do
            asked = ", ".join(sorted(set(done.hosts))[:5])
            warning = f"it asked {asked}; that they may answer otherwise next time is not known to the cache (say reads='network')"
            job.entry.setdefault("warnings", []).append(warning)
            self._s.watch(Progress(self._name(job), "warning", reason=warning, run=self._run))
        self._cpu += done.cpu
        job.entry.update(
            status="done", seconds=round(done.seconds, 4), cpu=round(done.cpu, 4), codec=done.codec, address=done.address,
            ended=iso(self._s.clock.now()), **self._logged(job),
        )  # fmt: skip
        with self._writing():
            self._put_result(job.step, job.made_of, job.key, stored, done.seconds, done.cpu, done.files, latest=job.index is None)
            self._put_step(self._name(job), job.entry)
        if job.index is None:
            self._finished(job.step, stored, "done", done.seconds, job.entry["reason"])
            return
        self._counts["done"] += 1
        fan = self._fans[job.step.name]
        fan.stored[job.index] = stored
        fan.left -= 1
        fan.cpu += done.cpu
        self._s.watch(Progress(self._name(job), "done", done.seconds, run=self._run))
        if not fan.left:
            self._gather(fan)

    def _failed(self, job: _Job, error: BaseException) -> None:
        name, step = self._name(job), job.step
        seconds = round(time.perf_counter() - job.begun, 4)
        lost = isinstance(error, WorkerLost) and job.lost < LOST
        transient = getattr(error, "transient", False) or isinstance(error, (ConnectionError, TimeoutError, *step.retry.on))
        timed_out = isinstance(error, Cancelled) and step.timeout is not None
        tries = job.attempt - job.lost
        if self._error is None and (lost or ((transient or timed_out) and not isinstance(error, WorkerLost) and tries <= step.retry.times)):
            job.lost += int(lost)
            pause = 0.0 if lost else min(LONGEST_WAIT, step.retry.backoff * 2 ** (tries - 1)) * random.uniform(0.5, 1.5)
            job.not_before = time.monotonic() + pause
            job.entry.setdefault("failures", []).append({"attempt": job.attempt, "error": _told(error), "seconds": seconds})
            with self._writing():
                self._put_step(name, {**job.entry, "status": "retry", "error": _told(error)})
            assert job.log is not None
            job.log.line(f"attempt {job.attempt} failed: {_told(error)}; trying again" + (f" in {pause:.1f} s" if pause else ""))
            self._s.watch(Progress(name, "retry", pause, _told(error), self._run))
            self._queue.append(job)
            return
        job.entry.update(status="failed", seconds=seconds, error=_told(error), ended=iso(self._s.clock.now()), **self._logged(job))
        own = isinstance(error, TreadleError) and not isinstance(error, Cancelled | WorkerLost)
        if not own:
            job.entry["traceback"] = "".join(traceback.format_exception(error))[-8000:]
        with self._writing():
            self._put_step(name, job.entry)
            if job.index is not None:
                fan = self._fans[step.name]
                failed = {"status": "failed", "error": f"{name}: {_told(error)}", "ended": iso(self._s.clock.now())}
                self._put_step(step.name, {**fan.entry, **failed})
        self._counts["failed"] += 1
        self._ended[step.name] = "failed"
        self._s.watch(Progress(name, "failed", seconds, _told(error), self._run))
        if self._error is None:
            if own:
                self._error = error
            else:
                told = StepFailed(_told(error), where=f"step {name!r} of {self._scope}", hint=f"See: treadle logs {self._run} {name}")
                told.__cause__ = error
                self._error = told

    # Recording

    def _writing(self) -> _Writing:
        return _Writing(self)

    def _entry(self, step: Step, *, key: str = "", reason: str = "") -> dict[str, Any]:
        return {
            "run": self._run, "step": step.name, "index": self._index[step.name], "status": "", "key": key, "reason": reason,
            "seconds": 0.0, "cpu": 0.0, "inputs": dict(step.inputs), "after": list(step.needs()),
            "when": [c.input for c, _ in step.when if isinstance(c, Slot)],
        }  # fmt: skip

    def _put_step(self, name: str, entry: Mapping[str, Any]) -> None:
        self._s.ledger.put(STEP, f"{self._run}/{name}", {**entry, "step": name})

    def _put_result(
        self, step: Step, made_of: Ingredients, key: str, stored: tuple[str, str], seconds: float, cpu: float, files: Mapping[str, str],
        latest: bool = True,
    ) -> None:  # fmt: skip
        body = {"step": step.name, "codec": stored[0], "address": stored[1], "seconds": seconds, "cpu": cpu, "run": self._run, "files": dict(files)}
        self._s.ledger.put(plan.RESULT, key, {**body, "ingredients": made_of.body()})
        if latest:
            self._s.ledger.put(plan.LATEST, f"{self._scope}.{step.name}", {"key": key})

    def _note(self, step: Step, status: str, reason: str) -> None:
        """End a step without a result."""
        self._ended[step.name] = status
        self._counts[status] += 1
        self._unwritten.append((step.name, {**self._entry(step, reason=reason), "status": status}))
        self._s.watch(Progress(step.name, status, reason=reason, run=self._run))

    def _take(self, step: Step, stored: tuple[str, str], status: str, *, key: str = "", reason: str = "") -> None:
        """End a step with a result that is there already. Written with the next thing that is recorded."""
        entry = {**self._entry(step, key=key, reason=reason), "status": status, "codec": stored[0], "address": stored[1]}
        self._unwritten.append((step.name, entry))
        self._finished(step, stored, status, 0.0, reason)

    def _finished(self, step: Step, stored: tuple[str, str], status: str, seconds: float, reason: str) -> None:
        self.stored[step.name] = stored
        self._ended[step.name] = status
        self._counts[status] += 1
        if status == "reused":
            self.reused.append(step.name)
        for source in step.inputs.values():
            self._users[source] -= 1
            if not self._users[source] and source in self.stored:
                self._frames.pop(self.stored[source][1], None)
        self._s.watch(Progress(step.name, status, seconds, reason, self._run))

    def _logged(self, job: _Job) -> dict[str, Any]:
        assert job.log is not None
        return job.log.keep(self._s.blobs)

    def _end(self, status: str, error: str) -> Record:
        self._s.memo.save()
        self._body.update(status=status, ended=iso(self._s.clock.now()), error=error)
        with self._writing():
            # The error is in the run's record alone: it may say a value of a row, and an event can never be blacked out.
            self._s.ledger.append(f"run.{status}", Ref(RUN, self._run))
        return self._record

    def _finish(self, status: str, error: str) -> None:
        """Record a bad end, if the store still takes it; the error itself is what counts."""
        with suppress(TreadleError):
            self._end(status, error)

    def _abandon(self, record: bool = True) -> None:
        """Stop what still runs."""
        for future in self._flying:
            future.cancel()
        for job in [*self._flying.values(), *([self._starting] if self._starting else [])]:
            if record:
                job.entry.update(status="cancelled", seconds=round(time.perf_counter() - job.begun, 4), ended=iso(self._s.clock.now()))
                with suppress(TreadleError):
                    job.entry.update(self._logged(job))
                self._unwritten.append((self._name(job), job.entry))
        self._flying.clear()

    def _load(self, source: str) -> Any:
        codec, address = self.stored[source]
        return self._frames[address] if address in self._frames else results.load(codec, address, self._s.blobs)

    def _name(self, job: _Job) -> str:
        return job.step.name if job.index is None else f"{job.step.name}[{job.index}]"

    def _watch_start(self, name: str, reason: str, tasks: int = 0) -> None:
        self._s.watch(Progress(name, "started", reason=reason, run=self._run, tasks=tasks))


class _Writing:
    """A transaction that is refused when another process drives the run by now, and that writes what was held back before."""

    def __init__(self, drive: Drive) -> None:
        self._d = drive
        self._stack = ExitStack()

    def __enter__(self) -> None:
        d = self._d
        d._body.update(
            counts=dict(d._counts), cpu=round(d._cpu, 4), seconds=round(d._seconds + time.perf_counter() - d._begun, 4),
        )  # fmt: skip
        self._stack.enter_context(d._s.ledger.transaction())
        try:
            try:
                self._next = d._s.ledger.put(RUN, d._run, d._body, expect=d._record.version)
            except Conflict as error:
                raise Fenced(
                    f"Another process drives run {d._run} by now; this one stops, and what it still had to say is not recorded.",
                    hint=f"See: treadle runs {d._run}",
                ) from error  # fmt: skip
            for name, entry in d._unwritten:
                d._put_step(name, entry)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None:
            self._d._record = self._next
            self._d._unwritten.clear()


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, TreadleError) else f"{type(error).__name__}: {error}"


