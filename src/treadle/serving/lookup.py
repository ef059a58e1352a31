"""Asks the online store for one request, and knows what to do while it does not answer.

A store that just failed is left alone for a moment: requests that come meanwhile are answered or refused at once, instead of each waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

from treadle.core.errors import StorageError, Unavailable
from treadle.ports.online import Key, OnlineStore, Value

RETRY_SECONDS = 1.0


class Lookup:
    """One store. `failures` counts the times it did not answer; `down` says whether it did not the last time."""

    def __init__(self, store: OnlineStore, when_down: Literal["refuse", "answer"] = "refuse", clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.when_down = when_down
        self.failures = 0
        self.down = ""
        self._clock = clock
        self._again = 0.0

    def get_many(self, keys: Sequence[Key]) -> list[Value | None] | None:
        """The values of the keys; None when the store is down and requests are to be answered without it. Raises Unavailable when they are not."""
        if not self.down or self._clock() >= self._again:
            try:
                found = self.store.get_many(keys)
                self.down = ""
                return found
            except (Unavailable, StorageError) as error:
                self.failures += 1
                self.down = error.what
                self._again = self._clock() + RETRY_SECONDS
        if self.when_down == "answer":
            return None
        raise Unavailable(
            f"The feature store is down: {self.down}",
            hint="Try again in a moment. To answer without its features instead, declare project.serve(..., store_down='answer').",
        )
