"""Steps run right here, in the calling thread: nothing to start, and a debugger stops inside them.

A `timeout` or a memory limit cannot be enforced in one's own process and is not looked at; use `processes:` where one is needed.
What the calling thread prints and logs reaches `log`; other threads keep writing where they wrote before.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from typing import Any, TextIO

from treadle.backends.lines import Lines
from treadle.ports.executor import Task


class InProcessExecutor:
    """Calls the function in `submit` itself: the future that comes back is finished. Ctrl-C in it is the caller's own, and leaves `submit`."""

    stops = False
    apart = False
    slots = 1

    def submit(self, task: Task, *, log: Callable[[str], None] | None = None) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            with _captured(log) if log else nullcontext():
                value = task.function(**task.arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(value)
        try:
            return future
        finally:
            del future  # its error's traceback holds this frame: with the name gone they are no ring, and what the step held is freed at once

    def close(self) -> None:
        """Nothing is held."""


class _Router(io.TextIOBase):
    """A standard stream that sends the text of threads under capture to their own lines, and all other text where it went before."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.before: TextIO = getattr(sys, name)
        self.lines: dict[int, list[Lines]] = {}

    def write(self, text: str) -> int:
        mine = self.lines.get(threading.get_ident())
        if mine:
            mine[-1].write(text)
            return len(text)
        return self.before.write(text)

    def flush(self) -> None:
        if not self.lines.get(threading.get_ident()):
            self.before.flush()

    def writable(self) -> bool:
        return True


class _LogLines(logging.Handler):
    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines
        self._thread = threading.get_ident()
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._lines.write(self.format(record) + "\n")


# One router a stream for the whole process, there while any capture is: two captures that each replaced and restored
# sys.stdout would, when they overlap in time, leave it pointing at the one that ended last.
_routers: dict[str, _Router] = {}
_lock = threading.Lock()


@contextmanager
def _captured(log: Callable[[str], None]) -> Iterator[None]:
    thread = threading.get_ident()
    streams = {name: Lines(log) for name in ("stdout", "stderr")}
    logged = _LogLines(Lines(log))
    with _lock:
        for name, lines in streams.items():
            router = _routers.get(name)
            if router is None:
                router = _routers[name] = _Router(name)
                setattr(sys, name, router)
            router.lines.setdefault(thread, []).append(lines)
    logging.getLogger().addHandler(logged)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(logged)
        with _lock:
            for name in streams:
                router = _routers[name]
                router.lines[thread].pop()
                if not router.lines[thread]:
                    del router.lines[thread]
                if not router.lines:
                    del _routers[name]
                    if getattr(sys, name) is router:  # somebody else may have redirected it since; then it is theirs to restore
                        setattr(sys, name, router.before)
        for lines in streams.values():
            lines.finish()
