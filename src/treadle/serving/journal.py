"""The journal: what the endpoint's event loop hands over, one thread writes to the prediction log, everything waiting in one commit.

    >>> journal = Journal(log, durable=True, model="late-arrival")              # doctest: +SKIP
    >>> await journal.submit(prediction)  # returns when it is on the disk      # doctest: +SKIP

A commit that forces the disk takes milliseconds, whether it holds one prediction or a thousand; so those that arrive during one
commit share the next. A project that does not wait for the disk (`durable=False`) gets its predictions written within 50 ms instead.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from treadle.core.errors import StorageError, Unavailable
from treadle.ports.prediction_blocks import Block
from treadle.ports.predictions import Outcome, Prediction, PredictionLog

_LINGER = 0.02  # seconds in which predictions nobody waits for gather
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0  # seconds between tries of a log that fails, doubled each time

_logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Entry:
    """What was handed over in one call, and who waits for it: a future, or the thread inside `flush`."""

    size: int = 0
    answered: Answered | None = None
    outcomes: tuple[Outcome, ...] = ()
    future: asyncio.Future[None] | None = None
    flushed: threading.Event | None = None


class Answered(Protocol):
    """The answers of one request, whose entries are written out by the journal's thread: the event loop has better things to do."""

    def __len__(self) -> int: ...

    def predictions(self) -> Sequence[Prediction | Block]: ...


class Journal:
    """Group commit for one prediction log.

    When a commit fails, whoever waits for one of its entries is told, and the entry is dropped: it was never acknowledged. Entries nobody
    waits for are kept and tried again, later and later up to a second, until they are written.

    Args:
        log: where entries go; its `write` is called from the journal's own thread only.
        durable: `submit` gives a future to wait for, and commits are forced to the disk.
        model: the name that appears in messages.
        limit: entries (predictions and outcomes) that may wait; more are refused, so that a slow disk slows the callers and not the memory.
        batch: entries written in one commit.

    Attributes:
        written: entries written. failed: commits that failed, each try counted. waiting: entries not yet written.
        error: why the last commit failed; None when it did not.
        dropped: entries nobody waits for that were dropped because the log was behind, where its policy is to drop (see `logged.py`).
    """

    def __init__(self, log: PredictionLog, *, durable: bool, model: str = "", limit: int = 50_000, batch: int = 4_000) -> None:
        self.written = self.failed = self.waiting = 0
        self.error: Exception | None = None
        self.dropped = 0
        self._when_full = getattr(log, "when_full", "refuse")
        self._log = log
        self._durable = durable
        self._name = f"prediction log of {model}" if model else "prediction log"
        self._limit = limit
        self._batch = batch
        self._queue: deque[_Entry] = deque()
        self._lock = threading.Lock()
        self._more = threading.Condition(self._lock)
        self._hurry = False  # somebody waits: do not linger
        self._closed = self._ended = False
        self._give_up = float("inf")
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def submit(self, answered: Answered) -> asyncio.Future[None] | None:
        """Hand over the answers of one request, stored all or none.

        Durable: a future that is done when they are on the disk, or has the StorageError. Else None, at once.

        Raises Unavailable when too many entries wait or the journal is closed.
        """
        future = asyncio.get_running_loop().create_future() if self._durable else None
        self._put(_Entry(len(answered), answered, future=future))
        return future

    def submit_outcomes(self, outcomes: Sequence[Outcome]) -> asyncio.Future[None]:
        """Hand over outcomes, stored all or none; the future is done when they are. Raises Unavailable like `submit`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(_Entry(len(outcomes), outcomes=tuple(outcomes), future=future))
        return future

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until everything handed over so far is written. Blocks: call it from a thread. Raises StorageError after `timeout` seconds."""
        done = threading.Event()
        with self._lock:
            if self._ended:
                done.set()
            else:
                self._queue.append(_Entry(flushed=done))
                self._wake()
        if not done.wait(timeout) or (self._ended and self.waiting):
            raise self._unwritten()

    def close(self, timeout: float = 30.0) -> None:
        """Take no more, write what waits, end the thread. Blocks. Raises StorageError when something is unwritten after `timeout` seconds."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._give_up = time.monotonic() + timeout
            self._wake()
        self._thread.join(timeout + _LONGEST_PAUSE)
        if self.waiting:
            raise self._unwritten()

    def check(self, entries: int) -> None:
        """Raises Unavailable when so many entries would not be taken now: asked before the work of answering is done."""
        self._open()
        if self._full(entries) and (self._durable or self._when_full != "drop"):
            raise self._behind()

    def _open(self) -> None:
        if self._closed:
            raise Unavailable(f"The {self._name} is closed.", hint="The server is shutting down; ask another one.")

    def _full(self, entries: int) -> bool:
        return self.waiting > 0 and self.waiting + entries > self._limit  # when nothing waits, any is taken: else one above the limit never could be

    def _behind(self) -> Unavailable:
        why = f" ({self.error})" if self.error else ""
        return Unavailable(f"The {self._name} is behind by {self.waiting:,} entries{why}.", hint="Try again in a second.")

    def _put(self, entry: _Entry) -> None:
        with self._lock:
            self._open()
            if self._full(entry.size):
                if entry.future is None and self._when_full == "drop":
                    self.dropped += entry.size
                    return
                raise self._behind()
            self.waiting += entry.size
            self._queue.append(entry)
            if entry.future is not None or self.waiting >= self._batch:
                self._wake()
            elif len(self._queue) == 1:
                self._more.notify()

    def _wake(self) -> None:
        self._hurry = True
        self._more.notify()

    def _run(self) -> None:
        pause = 0.0
        while entries := self._take(pause):
            kept = self._commit(entries)
            pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE) if kept else 0.0
            with self._lock:
                self._queue.extendleft(reversed(kept))
                if kept and time.monotonic() >= self._give_up:
                    self._ended = True
                    for entry in self._queue:
                        if entry.flushed is not None:
                            entry.flushed.set()
                    return

    def _take(self, pause: float) -> list[_Entry]:
        """The entries of the next commit, after a pause; none when the journal is closed and empty."""
        entries: list[_Entry] = []
        size = 0
        with self._lock:
            if pause:
                closing = self._closed
                self._more.wait_for(lambda: self._closed != closing, min(pause, max(0.0, self._give_up - time.monotonic())))
            while not self._queue:
                if self._closed:
                    self._ended = True
                    return []
                self._more.wait()
            if not self._hurry and not pause:
                self._more.wait_for(lambda: self._hurry, _LINGER)
            while self._queue and (not entries or size + self._queue[0].size <= self._batch):
                entries.append(self._queue.popleft())
                size += entries[-1].size
            left = self.waiting - size
            self._hurry = self._closed or left >= self._batch or any(entry.future or entry.flushed for entry in self._queue)
        return entries

    def _commit(self, entries: list[_Entry]) -> list[_Entry]:
        """Write entries in one commit and tell who waits; returns those to try again."""
        predictions: list[Prediction | Block] = []
        outcomes = [o for entry in entries for o in entry.outcomes]
        try:
            predictions += [p for entry in entries if entry.answered is not None for p in entry.answered.predictions()]
            if predictions or outcomes:
                self._log.write(predictions, outcomes, durable=self._durable)
        except (StorageError, Unavailable) as error:
            if self.error is None:
                _logger.error("The %s cannot be written: %s", self._name, error)
            self.error = error
            self.failed += 1
            self._settle([entry for entry in entries if entry.future], error)
            return [entry for entry in entries if not entry.future]
        except Exception as error:
            # Not the disk but an entry is at fault (a number too large, text that is no Unicode): the others must not suffer for it.
            if len(entries) > 1:
                for number, entry in enumerate(entries):
                    if kept := self._commit([entry]):
                        return [*kept, *entries[number + 1 :]]
                return []
            self.failed += 1
            _logger.exception("The %s cannot hold %s; it is dropped.", self._name, predictions or outcomes)
            self._settle(entries, error)
            return []
        if predictions or outcomes:
            self.error = None
        self._settle(entries)
        return []

    def _settle(self, entries: list[_Entry], error: Exception | None = None) -> None:
        """Count entries as done and wake their waiters: one call a loop, not one a future."""
        size = sum(entry.size for entry in entries)
        with self._lock:
            self.waiting -= size
            self.written += 0 if error else size
        waiters: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for entry in entries:
            if entry.flushed is not None:
                entry.flushed.set()
            elif entry.future is not None:
                waiters.setdefault(entry.future.get_loop(), []).append(entry.future)
        for loop, futures in waiters.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_tell, futures, error)

    def _unwritten(self) -> StorageError:
        why = f" ({self.error})" if self.error else ""
        return StorageError(f"{self.waiting:,} entries of the {self._name} are not written yet{why}.", hint="Free or mend the disk, then try again.")


def _tell(futures: Sequence[asyncio.Future[None]], error: Exception | None) -> None:
    for future in futures:
        if future.done():  # its request was cancelled
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
