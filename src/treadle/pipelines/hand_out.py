"""A step that hands out parts of its own work: the trials of a search, for example. It runs in the process that drives the run."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from treadle.core.errors import Cancelled, TreadleError, UsageError
from treadle.pipelines import results
from treadle.pipelines.perform import Names, Pickler, Unpickler, cpu, elsewhere
from treadle.ports.blobs import Blobs
from treadle.ports.executor import Executor, Resources, Task, WorkerLost

A = TypeVar("A")
B = TypeVar("B")
S = TypeVar("S")
_LOST = 3
_TOO_LONG = "treadle: this part of the work took too long"
_BACKSTOP = 60.0  # seconds more than its limit after which the executor stops a part whose process does not do so itself
_shared: dict[str, Any] = {}  # of a worker: what the parts of one piece of work share


class HandOut:
    """Does the parts of a piece of work on an executor. What all parts share travels once, through the blob store.

    >>> each = HandOut(executor, blobs, None, Resources())  # doctest: +SKIP
    >>> each(try_one, rows, settings)                      # doctest: +SKIP
    """

    def __init__(
        self, executor: Executor, blobs: Blobs, names: Names | None, resources: Resources, *, timeout: float | None = None,
        instead: Callable[[Any, Any, TreadleError], Any] | None = None,
    ) -> None:  # fmt: skip
        """`timeout`: seconds one part may take. `instead`: what stands for a part that was stopped or whose worker died: of shared, part, reason."""
        self._executor, self._blobs, self._names, self._resources = executor, blobs, names, resources
        self._timeout, self._instead = timeout, instead
        self._stored: tuple[Any, str] | None = None

    def __call__(self, function: Callable[[S, A], B], shared: S, parts: Sequence[A]) -> list[B]:
        """`function(shared, part)` for each part, in the parts' order. What a part prints goes to standard output when its turn comes.

        A part whose worker dies is done again, up to three times. Raises what a part raised; the others are then stopped.
        """
        if self._stored is None or self._stored[0] is not shared:
            self._stored = (shared, results.store(_Whole(shared), self._blobs)[1])
        lines: list[list[str]] = [[] for _ in parts]

        backstop = None if self._timeout is None else self._timeout + _BACKSTOP

        def submit(i: int) -> Any:
            given = {"payload": self._packed(function, parts[i]), "names": self._names, "limit": self._timeout}
            task = Task(do_part, given, f"part {i}", self._resources, backstop)
            return self._executor.submit(task, log=lines[i].append)

        futures = [submit(i) for i in range(len(parts))]
        done: list[B] = []
        try:
            for i in range(len(parts)):
                for again in range(_LOST + 1):
                    try:
                        value, burned = futures[i].result()
                        elsewhere["cpu"] += burned
                        done.append(value)
                        break
                    except (WorkerLost, Cancelled) as error:
                        late = any(line.startswith(_TOO_LONG) for line in lines[i])
                        if self._instead is not None and (late or isinstance(error, Cancelled) or again):
                            reason = Cancelled(f"It took longer than its limit of {self._timeout:g} s and was stopped.") if late else error
                            lines[i] = [line for line in lines[i] if not line.startswith(_TOO_LONG)]
                            done.append(self._instead(shared, parts[i], reason))
                            break
                        if again == _LOST or isinstance(error, Cancelled):
                            raise
                        futures[i] = submit(i)
                for line in lines[i]:
                    print(line)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return done

    def _packed(self, function: Callable[..., Any], part: Any) -> bytes:
        assert self._stored is not None
        buffer = io.BytesIO()
        try:
            Pickler(buffer, self._names).dump((function, self._stored[1], part, self._blobs))
        except Exception as error:
            raise UsageError(
                f"A part of the work cannot be sent to another process: {error}", hint="Define functions (make=...) at the top level of a module."
            ) from None
        return buffer.getvalue()


class _Whole:
    """Keeps a result from being stored as a frame or JSON: it is to come back as the very same thing."""

    def __init__(self, value: Any) -> None:
        self.value = value


def do_part(payload: bytes, names: Names | None, limit: float | None = None) -> tuple[Any, float]:
    """What a worker runs: the part's value, and the CPU seconds it took.

    Args:
        limit: seconds after which the process ends itself. They are counted from when everything is loaded: a part is not to be stopped because its
            worker was new.
    """
    function, address, part, blobs = Unpickler(io.BytesIO(payload), names).load()
    if address not in _shared:
        _shared.clear()
        _shared[address] = results.load("pickle", address, blobs).value
    alarm = threading.Timer(limit, _end) if limit is not None else None
    begun = cpu()
    try:
        if alarm is not None:
            alarm.daemon = True
            alarm.start()
        value = function(_shared[address], part)
    finally:
        if alarm is not None:
            alarm.cancel()
    return value, cpu() - begun


def _end() -> None:
    os.write(1, f"\n{_TOO_LONG}\n".encode())
    time.sleep(0.2)  # until the line has been read
    os._exit(1)
