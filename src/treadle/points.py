"""Metric points, logged one by one: a call costs microseconds, one writer commits what has gathered.

    run = open_run("try-3", folder=".")
    for step in range(10_000):
        run.log("loss", loss, step)
    run.close()

A point is durable at most a tenth of a second after it was logged, and at once when `flush` has returned: whoever is killed loses what came after.
Readers see each commit as it is made.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from treadle.core.clock import SystemClock, iso
from treadle.core.errors import UsageError
from treadle.core.ids import new_id
from treadle.core.records import Point, Record
from treadle.ports.ledger import Ledger

EVERY = 0.02  # seconds between two commits at most: with the commit itself, and a busy machine, within the promised tenth
AT_ONCE = 1_000  # points that start a commit before that
AHEAD = 2_000  # points that are not durable yet: a caller further ahead waits for the writer; at 20,000 a second that is the promised tenth
KIND = "logged_run"


class Points:
    """A buffer before a ledger, with one thread that writes. For any number of threads; a forked child begins anew."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._begin()
        _open.add(self)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[str, str, float, int, float]] = []
        self._taken = 0  # how many have ever been handed to the ledger, or lost to its error
        self._given = 0
        self._since = 0.0  # when the first of those that wait was logged
        self._wanted = 0  # somebody waits for all up to this one
        self._error: BaseException | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def log(self, run: str, name: str, value: float, step: int = 0) -> None:
        """Log one value. Raises what the writer met before: StorageError when the disk was full, for example."""
        with self._changed:
            if self._error is not None or self._closed:
                self._anew()
            self._waiting.append((run, name, float(value), int(step), time.time()))
            self._given += 1
            count = len(self._waiting)
            if count == 1:
                self._since = time.monotonic()
            if self._thread is None:
                self._start()
            elif count == 1 or count == AT_ONCE:
                self._changed.notify_all()
            while self._given - self._taken >= AHEAD and self._error is None and not self._closed:
                self._changed.wait()

    def flush(self) -> None:
        """Return when all that was logged before is durable. Raises what the writer met."""
        with self._changed:
            wanted = self._wanted = self._given
            self._changed.notify_all()
            while self._taken < wanted and self._error is None and self._thread is not None:
                self._changed.wait()
            if self._error is not None:
                self._anew()

    def close(self) -> None:
        """Flush, and end the thread."""
        try:
            self.flush()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            if self._thread is not None:
                self._thread.join()
            self._thread = None

    def _anew(self) -> None:
        if self._closed:
            raise UsageError("This log of points is closed.", hint="Open the run again.")
        error, self._error = self._error, None
        assert error is not None
        raise error

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._write, name="treadle points", daemon=True)
        self._thread.start()

    def _write(self) -> None:
        while True:
            with self._changed:
                while not (self._closed or len(self._waiting) >= AT_ONCE or self._wanted > self._taken):
                    left = self._since + EVERY - time.monotonic() if self._waiting else None
                    if left is not None and left <= 0:
                        break
                    self._changed.wait(left)
                points, self._waiting = self._waiting, []
                if not points and self._closed:
                    return
                self._changed.notify_all()
            error: BaseException | None = None
            try:
                if points:
                    self._ledger.log_points(_written(points))
            except BaseException as raised:
                error = raised
            with self._changed:
                self._taken += len(points)
                self._error = error or self._error
                self._changed.notify_all()


_open: weakref.WeakSet[Points] = weakref.WeakSet()


@atexit.register
def _flush_all() -> None:
    for points in list(_open):
        if not points._closed:
            points.close()


def _begin_all() -> None:
    """In a forked child: what waits is the parent's to write, its thread is not here, and its lock may have been held."""
    for points in list(_open):
        points._begin()


os.register_at_fork(after_in_child=_begin_all)


def _written(points: list[tuple[str, str, float, int, float]]) -> list[Point]:
    """As the ledger takes them; all points of one second share the text of that second."""
    found, second, text = [], -1, ""
    for run, name, value, step, moment in points:
        whole = int(moment)
        if whole != second:
            second, text = whole, iso(datetime.fromtimestamp(whole, UTC))[:19]
        found.append(Point(run, name, value, step, f"{text}.{int((moment - whole) * 1e6):06d}Z"))
    return found


class Run:
    """A run that is logged by hand: parameters at its beginning, points while it goes on, a status at its end."""

    def __init__(self, record: Record, ledger: Ledger, points: Points) -> None:
        self.id, self._record, self._ledger, self._points = record.id, record, ledger, points

    def log(self, name: str, value: float, step: int = 0) -> None:
        """Log one value of a metric."""
        self._points.log(self.id, name, value, step)

    def flush(self) -> None:
        """Return when all that was logged is durable."""
        self._points.flush()

    def close(self, status: str = "done") -> None:
        """Write what waits, and how the run ended."""
        self._points.close()
        last = {p.name: p.value for p in self._ledger.last_points(self.id)}
        body = {**self._record.body, "status": status, "ended": iso(SystemClock().now()), "last": last}
        self._ledger.put(KIND, self.id, body)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self.close("done" if kind is None else "failed")


def start_run(name: str, ledger: Ledger, params: Mapping[str, Any] | None = None) -> Run:
    """Begin a run in a ledger."""
    body = {"name": name, "params": dict(params or {}), "status": "running", "started": iso(SystemClock().now())}
    return Run(ledger.put(KIND, new_id("log"), body, expect=0), ledger, Points(ledger))


def open_run(name: str, folder: str | Path = ".", **params: Any) -> Run:
    """Begin a run in the record of a project folder."""
    from treadle.assemble import open_workspace

    return start_run(name, open_workspace(folder).ledger, params)


def search_runs(
    ledger: Ledger, metric: str = "", *, at_least: float | None = None, at_most: float | None = None, best: str = "most", limit: int = 100
) -> list[tuple[Record, float | None]]:
    """Runs with the last value of a metric, the best first.

    Args:
        metric: its name; the newest runs first, without a value, if empty.
        at_least, at_most: what the value must keep to.
        best: whether the 'most' or the 'least' is.
    """
    if not metric:
        return [(r, None) for r in ledger.find(KIND, newest_first=True, limit=limit)]
    if best not in ("most", "least"):
        raise UsageError(f"best={best!r} is neither 'most' nor 'least'.")
    found: list[tuple[Record, float | None]] = []
    seen, asked = 0, limit
    while True:  # of other things than runs that are logged by hand there are points too
        points = ledger.best_points(metric, most=best == "most", at_least=at_least, at_most=at_most, limit=asked)
        for record, value in [(ledger.get(KIND, p.run), p.value) for p in points[seen:]]:
            if record is not None and len(found) < limit:
                found.append((record, value))
        if len(found) == limit or len(points) < asked:
            return found
        seen, asked = asked, 8 * asked
