"""What a call of one model costs, learned from the calls themselves: it decides where the next one runs, and how many wait too long."""

from __future__ import annotations

WEIGHT = 0.1  # of the newest call in the mean


class Timing:
    """Seconds of a call: those of the first row, and of each further one.

    A call that took much longer than the one before it counts as long only if the next one does too: on a busy machine the process itself waits at
    times, which says nothing about the model.
    """

    def __init__(self) -> None:
        self.first = 0.0
        self.further = 0.0
        self._calls = 0
        self._last = self._last_further = float("inf")

    def note(self, rows: int, seconds: float) -> None:
        """Learn from a call."""
        self._calls += 1
        weight = WEIGHT if self._calls > 10 else 1 / self._calls
        if rows == 1 or self.first == 0.0:
            one = seconds / rows
            self.first += weight * (min(one, self._last) - self.first)
            self._last = one
        else:
            each = max(0.0, seconds - self.first) / (rows - 1)
            self.further += weight * (min(each, self._last_further) - self.further)
            self._last_further = each

    def expected(self, rows: int) -> float:
        """Seconds that a call of so many rows will take."""
        return self.first + (rows - 1) * self.further
