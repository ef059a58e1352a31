"""Steps run on a Ray cluster: `ray:` starts one here, `ray:10.0.0.5:6379` joins the one this machine is a node of, `ray://head:10001` reaches one.

Ray places the tasks (cores, GPUs, memory) and carries bytes. On the node a task runs in a worker process of `backends/process_pool.py`, under
Ray's own worker, and so keeps the same promises: every line of output, the limit of memory (for Ray a number to place tasks by, which it does not
enforce), the limit of time, the signal a worker died of. It costs one small process more for each task that runs, and ends when Ray's worker does.

- Ray's retries are off: whoever submitted the task decides.
- Over `ray://` lines come with the result, not before: Ray's client does not stream.
- Every node needs Ray and treadle, of the same versions as here, and the project's code at the same path.
- Authentication is Ray's: RAY_AUTH_MODE, RAY_AUTH_TOKEN and the like are read by Ray from the environment.
- `?wait=60` after an address: seconds to wait for the cluster to answer, 30 if not said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

# Ray is an optional extra; it must be told before it is imported not to report its use to its makers.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
import ray.exceptions

from treadle.backends import calls
from treadle.backends.process_pool import ProcessPool, StoppableFuture
from treadle.core.errors import Cancelled, TreadleError, Unavailable, UsageError
from treadle.ports.executor import Resources, Task, WorkerLost

_FRESH = 2.0  # seconds that what is known of the cluster's nodes is believed
_PATIENCE = 8.0  # seconds for a task to end in order when it is stopped


@dataclass(eq=False)
class _Flight:
    """A task that Ray has."""

    what: str
    log: Callable[[str], None]
    future: Future[Any]
    handle: Any = None
    stopped: BaseException | None = None


class RayExecutor:
    """A Ray cluster, joined when it is first needed. One that this process joined before is used as it is, and left so.

    Args:
        address: empty to start one here; `host:port`, or `ray://host:port`; with `?wait=` seconds.
    """

    stops = True
    apart = True

    def __init__(self, address: str = "") -> None:
        self._address, _, options = address.partition("?")
        name, _, seconds = options.partition("=")
        try:
            if options and name != "wait":
                raise ValueError
            self._wait = float(seconds or 30)
        except ValueError:
            raise UsageError(f"{options!r} is no option of a Ray cluster.", hint="There is one: ray:10.0.0.5:6379?wait=60") from None
        self._lock = threading.RLock()
        self._flying: set[_Flight] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ours = self._closed = False
        self._seen: tuple[float, list[dict[str, float]]] = (-math.inf, [])

    @property
    def slots(self) -> int:
        """The cores of all nodes that answer now. Raises Unavailable."""
        return max(1, int(sum(node.get("CPU", 0) for node in self._nodes())))

    def submit(self, task: Task, *, log: Callable[[str], None] | None = None) -> Future[Any]:
        """Hand a task to Ray. Its arguments are packed now. Raises Unavailable when the cluster does not answer."""
        loop = self._connected()
        what = f"step {task.name!r}" if task.name else "the task"
        flight = _Flight(what, log or (lambda line: None), Future())
        flight.future = StoppableFuture(lambda: self._stop(flight, Cancelled(f"{_upper(what)} was stopped.")))
        needs = task.resources
        asks = {"num_cpus": max(1, math.ceil(needs.cores)), "num_gpus": needs.gpus, "memory": needs.memory or None}
        try:
            self._check(what, needs)
            packed = calls.pack(task.function, task.arguments, what)
            remote = _streaming if self._streams else _whole
            with self._lock:
                flight.handle = remote.options(name=task.name or None, **asks).remote(packed, task.name, needs.memory, task.timeout, sys.path)
                self._flying.add(flight)
        except UsageError as error:
            flight.future.set_exception(error)
        except (ray.exceptions.RayError, ConnectionError) as error:
            raise Unavailable(f"The Ray cluster at {self._place} does not take a task: {_first_line(error)}.", hint="Is it still up?") from error
        else:
            flight.future.set_running_or_notify_cancel()
            asyncio.run_coroutine_threadsafe(self._follow(flight), loop)
        return flight.future

    def close(self) -> None:
        """Stop what runs, and let go of the cluster; one that was started here ends."""
        with self._lock:
            self._closed = True
            flying, loop = list(self._flying), self._loop
        for flight in flying:
            self._stop(flight, Cancelled(f"{_upper(flight.what)} was stopped: the executor was closed."))
        wait([flight.future for flight in flying], timeout=20)
        if loop is not None:
            loop.call_soon_threadsafe(self._leave, loop)
            self._thread.join()
            self._loop = None

    def _leave(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread that joined: when that ends first, the kernel kills what it started, and Ray cannot end its own in order."""
        if self._ours:
            ray.shutdown()
            self._ours = False
        loop.stop()

    @property
    def _place(self) -> str:
        return self._address or "this machine"

    @property
    def _streams(self) -> bool:
        return not self._address.startswith("ray://")

    def _connected(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise Unavailable("This executor is closed.", hint="Open another.")
            if self._loop is None:
                # Ray is started from the thread of the loop: what it starts has the kernel end it with the thread that started it, so that must stay.
                loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=loop.run_forever, name="treadle-ray", daemon=True)
                self._thread.start()
                if not ray.is_initialized():
                    try:
                        self._join(loop)
                    except BaseException:
                        loop.call_soon_threadsafe(loop.stop)
                        raise
                    self._ours = True
                self._loop = loop
            return self._loop

    def _join(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start or join the cluster. Ray itself would wait for minutes, and say little: hence the look at the port, and the clock."""
        until = time.monotonic() + self._wait
        away = Unavailable(
            f"No Ray cluster answers at {self._place} (waited {self._wait:g} seconds).",
            hint="Is it up, can it be reached from here, and does it want a token (RAY_AUTH_MODE, RAY_AUTH_TOKEN)? A longer wait: ?wait=120",
        )
        if self._address:
            host, _, port = self._address.removeprefix("ray://").rpartition(":")
            if not host or not port.isdigit():
                raise UsageError(f"{self._address!r} is no address of a Ray cluster.", hint="Write ray:10.0.0.5:6379 or ray://head:10001")
            while not _open(host, int(port), until - time.monotonic()):
                if time.monotonic() >= until:
                    raise away
                time.sleep(0.5)

        async def join() -> None:
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if not self._address:
                ray.init("local", include_dashboard=False, **options)
                return
            while True:
                try:
                    ray.init(self._address, **options)
                    return
                except ConnectionError:  # a busy head node gives up on starting its side of a client after half a minute
                    if time.monotonic() >= until:
                        raise
                    await asyncio.sleep(0.5)

        joined = asyncio.run_coroutine_threadsafe(join(), loop)
        try:
            # One that is started here comes up as fast as the machine can; Ray has a limit for that.
            joined.result(max(1.0, until - time.monotonic()) if self._address else None)
        except TimeoutError:
            raise away from None
        except Exception as error:
            raise Unavailable(f"The Ray cluster at {self._place} cannot be joined: {_first_line(error)}.", hint=away.hint) from error

    def _nodes(self) -> list[dict[str, float]]:
        """What each node has: CPU, GPU, memory in bytes."""
        self._connected()
        asked, nodes = self._seen
        if time.monotonic() - asked > _FRESH:
            try:
                nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            except (ray.exceptions.RayError, ConnectionError) as error:
                raise Unavailable(f"The Ray cluster at {self._place} does not answer: {_first_line(error)}.", hint="Is it still up?") from error
            self._seen = (time.monotonic(), nodes)
        return nodes

    def _check(self, what: str, needs: Resources) -> None:
        """Ray would let a task that fits nowhere wait for ever."""
        nodes = self._nodes()
        for kind, unit, asked in (("CPU", "cores", needs.cores), ("GPU", "GPUs", needs.gpus), ("memory", "bytes of memory", needs.memory)):
            most = max((node.get(kind, 0) for node in nodes), default=0)
            if asked > most:
                raise UsageError(
                    f"{_upper(what)} asks for {asked:g} {unit}, and no node of the Ray cluster at {self._place} has more than {most:g}.",
                    hint="Ask for less, or add a node.",
                )
        if not any(
            node.get("CPU", 0) >= needs.cores and node.get("GPU", 0) >= needs.gpus and node.get("memory", 0) >= needs.memory for node in nodes
        ):
            raise UsageError(f"No one node of the Ray cluster at {self._place} has all that {what} asks for.", hint="Ask for less, or add a node.")

    def _stop(self, flight: _Flight, why: BaseException) -> bool:
        with self._lock:
            if flight not in self._flying:
                return False
            flight.stopped = flight.stopped or why
            loop = self._loop
        self._cancel(flight, force=False)
        if loop is not None:
            loop.call_soon_threadsafe(loop.call_later, _PATIENCE, self._cancel, flight, True)
        return True

    def _cancel(self, flight: _Flight, force: bool) -> None:
        """Interrupt our code in Ray's worker, which ends the task in order; with `force`, kill that worker, perhaps with the next task in it."""
        if flight in self._flying:
            with contextlib.suppress(ray.exceptions.RayError, ConnectionError):
                ray.cancel(flight.handle, force=force)

    async def _follow(self, flight: _Flight) -> None:
        """Hear a task to its end. The future is settled here and nowhere else."""
        value, error = None, None
        try:
            value = calls.unpack(await self._answer(flight), flight.what)
        except BaseException as raised:
            error = raised
        with self._lock:
            self._flying.discard(flight)
            error = flight.stopped or error
        if isinstance(error, ray.exceptions.RayError):
            lost: TreadleError = WorkerLost(f"The worker or node of {flight.what} was lost: {_first_line(error)}", hint="It may be tried again.")
            if isinstance(error, ray.exceptions.RayTaskError):  # ours on the node, which raises nothing
                lost = Unavailable(f"{_upper(flight.what)} could not be run on its node: {_first_line(error)}", hint="Is treadle installed there?")
            lost.__cause__ = error
            error = lost
        if error is not None:
            flight.future.set_exception(error)
        else:
            flight.future.set_result(value)

    async def _answer(self, flight: _Flight) -> calls.Answer:
        async with contextlib.aclosing(self._messages(flight.handle)) as messages:
            async for kind, said in messages:
                if kind == "answer":
                    return said  # type: ignore[no-any-return]
                if kind == "failed":
                    raise said
                try:
                    for line in said:
                        flight.log(line)
                except BaseException as error:
                    self._stop(flight, error)
                    raise
        raise ray.exceptions.WorkerCrashedError

    async def _messages(self, handle: Any) -> AsyncGenerator[tuple[str, Any], None]:
        if self._streams:
            async for reference in handle:
                yield await reference
        else:
            for message in await handle:
                yield message


def _perform(packed: bytes, name: str, memory: int, timeout: float | None, path: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """On the node, in Ray's worker: have ours do it, and say what it says: ('lines', [...]), and at last ('answer', ...) or ('failed', error)."""
    lines: deque[str] = deque()
    future: Future[Any] | None = None
    try:
        task = Task(calls.perform, {"packed": packed}, name, Resources(memory=memory), timeout)
        future = _worker_here(path).submit(task, log=lines.append)
        del packed, task
        while not wait([future], timeout=0.2).done:
            if lines:
                yield "lines", [lines.popleft() for _ in range(len(lines))]
        if lines:
            yield "lines", list(lines)
        yield "answer", future.result()
    except TreadleError as error:
        yield "failed", error
    finally:
        if future is not None and not future.done():  # Ray interrupts this when the task is stopped
            future.cancel()
            wait([future], timeout=_PATIENCE)


_here: dict[tuple[Any, ...], ProcessPool] = {}  # one, for what Ray gave this worker: libraries look at that when they are imported


def _worker_here(path: Sequence[str]) -> ProcessPool:
    key = (*path, *(os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")))
    if key not in _here:
        for pool in _here.values():
            pool.close()
        _here.clear()
        known = [*sys.path]
        sys.path[:0] = [entry for entry in path if entry not in known and os.path.exists(entry)]
        _here[key] = ProcessPool(1, sheltered=True)
    return _here[key]


def _all(packed: bytes, name: str, memory: int, timeout: float | None, path: Sequence[str]) -> list[tuple[str, Any]]:
    return list(_perform(packed, name, memory, timeout, path))


_streaming = ray.remote(max_retries=0, num_returns="streaming")(_perform)
_whole = ray.remote(max_retries=0)(_all)


def _open(host: str, port: int, seconds: float) -> bool:
    try:
        socket.create_connection((host, port), timeout=max(0.1, seconds)).close()
    except OSError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _upper(what: str) -> str:
    return what[0].upper() + what[1:]
