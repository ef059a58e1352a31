"""Steps run in warm worker processes on this machine: `processes:` has one a core, `processes:4` has four.

Why our own: the pools that exist were looked at. `concurrent.futures` cannot stop a task that runs, and one dead worker breaks the whole pool;
`loky` starts its workers anew after that, and cannot stop one either; `pebble` stops by time. None hands on a task's lines while it runs or watches
its memory, and what would be left of them is a pipe. What decides here:

- Workers are fresh interpreters, never forks: threads, polars and OpenMP do not survive a fork. They start when first needed and stay for the next
  task, with what they have imported. What a function leaves in its modules stays too.
- One thread here for each worker: it sends the call, reads lines and the answer, and looks at the clock and the memory. A slow `log` holds up its
  own task alone.
- A task that is stopped loses its worker, with every process it started (its process group, and children that left it).
- Arguments are pickled when a task starts, not when it is submitted: a thousand tasks that wait do not hold a thousand copies.
- Memory is what the worker and its children have resident, by /proc, looked at every 0.1 s. It counts what the worker has imported, and pages that
  it shares with others. A worker that kept much from an earlier task is replaced before one with a limit.
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import math
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treadle.backends import calls, worker
from treadle.backends.lines import Lines
from treadle.core.errors import Cancelled, TreadleError, Unavailable, UsageError
from treadle.ports.executor import Task, WorkerLost

# Libraries that start a thread a core in every process; each worker gets its share. A value that is set in the environment is left as it is.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
HUNG = 30.0  # seconds after which a worker that a signal or a debugger stopped is given up
_LOOK = 0.1  # seconds between two looks at the memory
_PAGE = os.sysconf("SC_PAGE_SIZE")


class StoppableFuture(Future[Any]):
    """A future whose `cancel` also stops a task that runs. Either way it then raises Cancelled, as a task does that was stopped by a limit."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        super().__init__()
        self._stop = stop

    def cancel(self) -> bool:
        """Stop the task, waiting or running; False when it has finished."""
        return not self.done() and self._stop()

    def set_result(self, result: Any) -> None:
        self._stop = lambda: False  # lets go of the task and its arguments
        super().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        self._stop = lambda: False
        super().set_exception(exception)


@dataclass(eq=False)
class _Job:
    task: Task
    log: Callable[[str], None]
    what: str
    takes: int  # slots
    future: Future[Any]
    worker: _Worker | None = None
    stopped: TreadleError | None = None  # why its worker was killed, where we did it


class ProcessPool:
    """Worker processes on this machine.

    Args:
        slots: how many tasks run at once, as in `processes:4`; the cores this process may use if empty.
        sheltered: start each worker under a shell. Something that kills this process's children, as Ray does, then kills the shell; the worker sees
            that it is alone and ends with all it started. Killed itself, it would leave them.
    """

    stops = True
    apart = True

    def __init__(self, slots: int | str = "", *, sheltered: bool = False) -> None:
        self._sheltered = sheltered
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        try:
            self.slots = int(slots or cores)
        except ValueError:
            self.slots = 0
        if self.slots < 1:
            raise UsageError(f"{slots!r} is no number of worker processes.", hint="Write processes: or, for four of them, processes:4")
        self._share = max(1, cores // self.slots)  # threads a slot
        self._free = self.slots
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._running: set[_Job] = set()
        self._idle: list[_Worker] = []
        self._threads: list[threading.Thread] = []
        self._resting = 0
        self._closed = False

    def submit(self, task: Task, *, log: Callable[[str], None] | None = None) -> Future[Any]:
        """Run a task when its turn comes; first come, first served. Raises Unavailable when closed."""
        job = _Job(task, log or (lambda line: None), f"step {task.name!r}" if task.name else "the task", 1, Future())
        job.future = StoppableFuture(lambda: self._stop(job, Cancelled(f"{_upper(job.what)} was stopped.")))
        needs = task.resources
        wrong = None
        if needs.cores > self.slots:
            wrong = UsageError(
                f"{_upper(job.what)} asks for {needs.cores:g} cores, and this executor has {self.slots}.",
                hint="Ask for fewer, or give the executor more: processes:8",
            )
        elif needs.gpus > 0:
            wrong = UsageError(
                f"{_upper(job.what)} asks for {needs.gpus:g} GPUs, which this executor does not count.",
                hint="Use ray: or, one after the other, inprocess:",
            )
        elif needs.memory and not Path("/proc/self/statm").exists():
            wrong = UsageError(f"{_upper(job.what)} has a memory limit, which cannot be watched on this system.", hint="Leave it out.")
        if wrong is not None:
            job.future.set_exception(wrong)
            return job.future
        job.takes = max(1, math.ceil(needs.cores))
        with self._changed:
            if self._closed:
                raise Unavailable("This executor is closed.", hint="Open another.")
            self._waiting.append(job)
            if self._resting < len(self._waiting) and len(self._threads) < self.slots:
                self._threads.append(threading.Thread(target=self._serve, name="treadle-worker", daemon=True))
                self._threads[-1].start()
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Stop what waits and what runs, and end the workers."""
        with self._changed:
            self._closed = True
            waiting, idle = list(self._waiting), self._idle
            self._idle = []
            self._waiting.clear()
            running = list(self._running)
            self._changed.notify_all()
        for job in waiting:
            job.future.set_exception(Cancelled(f"{_upper(job.what)} was not started: the executor was closed."))
        for job in running:
            self._stop(job, Cancelled(f"{_upper(job.what)} was stopped: the executor was closed."))
        for free in idle:
            free.socket.close()  # all at once, so that they end side by side
        for free in idle:
            free.end(grace=1.0)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _stop(self, job: _Job, why: TreadleError) -> bool:
        """Stop a job wherever it is; False when it has finished."""
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._changed.notify_all()
            elif job in self._running:
                job.stopped = job.stopped or why
                if job.worker is not None:
                    job.worker.kill()
                return True
            else:
                return False
        job.future.set_exception(why)
        return True

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            value, error = None, None
            try:
                value = self._perform(job)
            except BaseException as raised:
                error = raised
            with self._changed:
                error = job.stopped or error
                self._running.discard(job)
                self._free += job.takes
                self._changed.notify_all()
            if error is not None:
                job.future.set_exception(error)
            else:
                job.future.set_result(value)
            del job, value, error  # a thread that waits holds nothing

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._closed:
                if self._waiting and self._waiting[0].takes <= self._free:
                    job = self._waiting.popleft()
                    self._free -= job.takes
                    self._running.add(job)
                    job.future.set_running_or_notify_cancel()
                    return job
                self._resting += 1
                self._changed.wait()
                self._resting -= 1
            return None

    def _perform(self, job: _Job) -> Any:
        packed = calls.pack(job.task.function, job.task.arguments, job.what)
        mine = self._take(job)
        answer = None
        try:
            with self._changed:
                job.worker = mine
                if job.stopped is not None:
                    return None
            answer = mine.call(packed, job)
        finally:
            del packed
            with self._changed:
                job.worker = None
                kept = answer is not None and job.stopped is None and not self._closed
                if kept:
                    self._idle.append(mine)
            if not kept:
                mine.end()
        return calls.unpack(answer, job.what)

    def _take(self, job: _Job) -> _Worker:
        """An idle worker with as many threads as this job may use, or a new one in place of another."""
        threads = self._share * job.takes
        with self._changed:
            # The running ones are this job and the others, each with a worker: when that leaves no room for a new one, an idle one goes.
            fits = [w for w in self._idle if w.threads == threads]
            mine = fits[-1] if fits else self._idle[0] if len(self._idle) + len(self._running) > self.slots else None
            if mine is not None:
                self._idle.remove(mine)
        limit = job.task.resources.memory
        if mine is not None and (mine.threads != threads or (limit and _resident(mine.process.pid) > limit / 4) or not mine.alive()):
            mine.end()
            mine = None
        return mine or _Worker(threads, self._sheltered)


class _Worker:
    """One process, with the socket that calls and answers go through and the pipe its output comes by."""

    def __init__(self, threads: int, sheltered: bool) -> None:
        self.threads, self.sheltered = threads, sheltered
        self.socket, theirs = socket.socketpair()
        self.pipe, output = os.pipe()
        try:
            # The file, not `-m treadle...`: the worker has the driver's path only after the first message. -P keeps the file's folder off it.
            self.process = subprocess.Popen(
                [*(("sh", "-c", '"$@"; exit $?', "sh") if sheltered else ()), sys.executable, "-P", worker.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[theirs.fileno()], process_group=0,
                env={**dict.fromkeys(_THREADS, str(threads)), **os.environ},
            )  # fmt: skip
        except OSError as error:
            self.socket.close()
            os.close(self.pipe)
            raise Unavailable(f"No worker process could be started: {error.strerror}.", hint="Are there too many processes?") from error
        finally:
            theirs.close()
            os.close(output)
        with contextlib.suppress(OSError):  # one that is dead already is found when it is called
            worker.send(self.socket, pickle.dumps((sys.path, logging.getLogger().level), 5))

    def call(self, packed: bytes, job: _Job) -> calls.Answer:
        """Have a call made. Raises Cancelled at a limit, WorkerLost when the process dies, and what `log` raises."""
        lines, decoder = Lines(job.log), codecs.getincrementaldecoder("utf-8")("replace")
        limit, timeout = job.task.resources.memory, job.task.timeout
        poll = select.poll()
        poll.register(self.pipe, select.POLLIN)
        poll.register(self.socket, select.POLLIN)
        with contextlib.suppress(OSError):  # dead; the answer will not come
            worker.send(self.socket, packed)
        del packed
        now = time.monotonic()
        end = math.inf if timeout is None else now + timeout
        still = 0.0  # since when the worker has been stopped; 0 while it is not
        look = now + _LOOK if limit else math.inf
        answer = None
        while True:
            ready = dict(poll.poll(max(0.0, min(end - now, look - now, 1.0)) * 1000))
            if self.pipe in ready:
                self._read(poll, lines, decoder)
            if self.socket.fileno() in ready:
                answer = worker.receive(self.socket)
                break
            now = time.monotonic()
            still = 0.0 if not _stopped(self.process.pid) else still or now
            if still and now - still > HUNG:
                raise WorkerLost(f"The worker process of {job.what} has been stopped for {HUNG:g} seconds.", hint="It may be tried again.")
            if now >= end:
                assert timeout is not None
                raise self._stop(job, f"ran longer than its limit of {timeout:g} seconds", "Give it a longer timeout, or less to do.")
            if now >= look:
                look = now + _LOOK
                held = _resident(self.process.pid)
                if held > limit:
                    raise self._stop(
                        job, f"held {_size(held)}, more than its limit of {_size(limit)} of memory", "Give it more memory, or less to do."
                    )
            if not ready and not self.alive():
                break
        # What was written before the answer fits into the pipe, and this reads all a pipe can hold.
        if self.pipe in dict(poll.poll(0)):
            self._read(poll, lines, decoder)
        lines.finish()
        if answer is None:
            raise job.stopped or WorkerLost(f"The worker process of {job.what} {self._death()}.", hint="It may be tried again.")
        return pickle.loads(answer)  # type: ignore[no-any-return]

    def _read(self, poll: select.poll, lines: Lines, decoder: codecs.IncrementalDecoder) -> None:
        data = os.read(self.pipe, 1 << 20)
        if data:
            lines.write(decoder.decode(data))
        else:
            poll.unregister(self.pipe)

    def _stop(self, job: _Job, what: str, hint: str) -> TreadleError:
        job.stopped = job.stopped or Cancelled(f"{_upper(job.what)} {what} and was stopped.", hint=hint)
        return job.stopped

    def _death(self) -> str:
        """How it ended. It may still be ending: its socket is closed before that."""
        code = self._exit(5.0)
        if code is None:
            return "does not answer any more"
        if self.sheltered and code > 128:  # how a shell says it
            code = 128 - code
        if code == -signal.SIGKILL:
            return "was killed (signal 9, SIGKILL), perhaps by the kernel for want of memory"
        if code < 0:
            return f"died of signal {-code} ({signal.Signals(-code).name})"
        return f"ended by itself with exit code {code}"

    def _exit(self, wait: float) -> int | None:
        """How it ended, as in `subprocess`, within so many seconds; None while it runs. It is left unreaped, so that its number stays its own."""
        until = time.monotonic() + wait
        while True:
            state = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if state is not None:
                return state.si_status if state.si_code == os.CLD_EXITED else -state.si_status
            if time.monotonic() >= until:
                return None
            time.sleep(0.002)

    def alive(self) -> bool:
        return self._exit(0.0) is None

    def kill(self) -> None:
        """Kill it and all it started; to be called until `end` is."""
        strays = _tree(self.process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for pid in strays[1:]:  # those that made a group of their own
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end(self, grace: float = 0.0) -> None:
        """End it, and let go of all that was its."""
        self.socket.close()
        if grace:
            self._exit(grace)
        self.kill()
        self.process.wait()
        os.close(self.pipe)


def _tree(pid: int) -> list[int]:
    """A process and all its descendants, as far as they still hang together."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                found += map(int, Path(f"/proc/{parent}/task/{thread}/children").read_text().split())
    return found


def _stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal or a debugger: it is not dead, but will not answer either."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def _resident(pid: int) -> int:
    """Bytes of memory that a process and its descendants have resident."""
    held = 0
    for each in _tree(pid):
        with contextlib.suppress(OSError, IndexError):
            held += int(Path(f"/proc/{each}/statm").read_text().split()[1]) * _PAGE
    return held


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _upper(what: str) -> str:
    return what[0].upper() + what[1:]
