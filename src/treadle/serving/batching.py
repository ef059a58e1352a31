"""A thread for a model that takes long: it answers whoever waits together, in one call, and never makes anybody wait for company.

While a call runs, requests gather; the next call takes all of them, up to a number of rows. So a batch grows by itself with the load, and a lone
request is answered as soon as it would be without. A request that makes the model raise is answered alone, so that it spoils no other.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core.errors import Unavailable
from treadle.serving.loaded import Loaded, Outputs

MOST_ROWS = 1024  # of one call


class TimedOut(Unavailable):
    """A model did not answer in time."""

    code = "timed_out"


@dataclass(frozen=True, slots=True)
class _Waiting:
    matrix: np.ndarray
    future: Future[Outputs]


class Batching:
    """The calls of one version.

    Args:
        loaded: the version.
        seconds: how long a request may wait for its answer.
    """

    def __init__(self, loaded: Loaded, seconds: float) -> None:
        self._loaded, self._seconds = loaded, seconds
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._begun = 0.0  # when the call that runs began, 0 if none runs
        self.rows = 0  # that wait or are being answered
        self.batches = self.batched_rows = 0

    @property
    def hung(self) -> bool:
        """Whether the call that runs has taken longer than a request may wait."""
        begun = self._begun
        return begun > 0 and time.monotonic() - begun > self._seconds

    async def score(self, matrix: np.ndarray) -> Outputs:
        """The outputs of a matrix. Raises: TimedOut; Unavailable when more waits than can be answered in time; what the model raises."""
        expected = self._loaded.timing.expected(self.rows + len(matrix))
        if self.rows and expected > self._seconds / 2:
            raise Unavailable(
                f"{self.rows:,} rows wait already, which takes the model about {expected:.1f} s.", hint="Try again after the time in Retry-After."
            )
        if self.hung:
            raise Unavailable("The model does not answer, and its process is being replaced.", hint="Try again in a second.")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"version {self._loaded.number}", daemon=True)
            self._thread.start()
        future: Future[Outputs] = Future()
        self.rows += len(matrix)
        self._queue.put(_Waiting(matrix, future))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._seconds)
        except TimeoutError:
            self._loaded.service.broke()
            raise TimedOut(f"The model did not answer within {self._seconds:g} s.", hint="Send fewer rows, or try again later.") from None
        finally:
            self.rows -= len(matrix)

    def close(self) -> None:
        """Answer what waits and end the thread."""
        if self._thread is not None:
            self._queue.put(None)

    def _run(self) -> None:
        ended = False
        while not ended:
            first = self._queue.get()
            if first is None:
                return
            batch, rows = [first], len(first.matrix)
            while rows < MOST_ROWS:
                try:
                    other = self._queue.get_nowait()
                except queue.Empty:
                    break
                if other is None:
                    ended = True
                    break
                batch.append(other)
                rows += len(other.matrix)
            self._answer([waiting for waiting in batch if waiting.future.set_running_or_notify_cancel()])

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        if not batch:
            return
        try:
            outputs = self._score(batch[0].matrix if len(batch) == 1 else np.concatenate([waiting.matrix for waiting in batch]))
            at = 0
            for waiting in batch:
                end = at + len(waiting.matrix)
                _settle(waiting.future, outputs[at:end])
                at = end
        except Exception as error:
            if len(batch) == 1:
                with suppress(Exception):
                    batch[0].future.set_exception(error)
            else:
                for waiting in batch:
                    self._answer([waiting])

    def _score(self, matrix: np.ndarray) -> Outputs:
        self._begun = time.monotonic()
        try:
            outputs = self._loaded.call(matrix)
        finally:
            self._begun = 0.0
        self.batches += 1
        self.batched_rows += len(matrix)
        return outputs


def _settle(future: Future[Any], answer: Any) -> None:
    with suppress(Exception):  # whoever asked has left
        future.set_result(answer)
