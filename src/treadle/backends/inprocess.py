"""Steps run right here, in the calling thread: nothing to start, and a debugger stops inside them.

A `timeout` cannot be enforced in one's own process and is not looked at; use an executor with processes where one is needed.
What the calling thread prints and logs reaches `log`; other threads keep writing where they wrote before.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO


class InProcessExecutor:
    """Calls the function and returns."""

    def run(
        self, function: Callable[..., Any], arguments: Mapping[str, Any], *, log: Callable[[str], None] | None = None, timeout: float | None = None
    ) -> Any:
        if log is None:
            return function(**arguments)
        with _captured(log):
            return function(**arguments)

    def close(self) -> None:
        """Nothing is held."""


class _Lines:
    """Gathers text and hands on whole lines; of a progress bar that redraws itself only its last state."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._pending = ""

    def write(self, text: str) -> None:
        *lines, self._pending = (self._pending + text).split("\n")
        for line in lines:
            self._log(line.rstrip("\r").rsplit("\r", 1)[-1])

    def finish(self) -> None:
        if self._pending:
            self.write("\n")


class _Router(io.TextIOBase):
    """A standard stream that sends the text of threads under capture to their own lines, and all other text where it went before."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.before: TextIO = getattr(sys, name)
        self.lines: dict[int, list[_Lines]] = {}

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
    def __init__(self, lines: _Lines) -> None:
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
    streams = {name: _Lines(log) for name in ("stdout", "stderr")}
    logged = _LogLines(_Lines(log))
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
