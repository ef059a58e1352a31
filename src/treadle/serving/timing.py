"""What a call of one model costs, learned from the calls themselves: it decides where the next one runs, and how many wait too long."""

from __future__ import annotations

WEIGHT = 0.1  # of the newest call in the mean
_RISE = 0.02  # of a call that took longer than the quickest, in those


class Timing:
    """Seconds of a call: those of the first row, and of each further one.

    A call that took much longer than the one before it counts as long only if the next one does too: on a busy machine the process itself waits at
    times, which says nothing about the model. Where a call runs is decided by the quickest of late: one quick call proves that the model can be, and
    sending it to a thread because the machine is busy would make it busier.
    """

    def __init__(self) -> None:
        self.first = 0.0
        self.further = 0.0
        self._calls = 0
        self._quick = self._quick_further = float("inf")
        self._last = self._last_further = float("inf")

    def note(self, rows: int, seconds: float) -> None:
        """Learn from a call."""
        self._calls += 1
        weight = WEIGHT if self._calls > 10 else 1 / self._calls
        if rows == 1 or self.first == 0.0:
            one = seconds / rows
            sure = min(one, self._last)
            self.first += weight * (sure - self.first)
            self._last = one
            self._quick = one if one < self._quick else self._quick + _RISE * max(0.0, sure - self._quick)
        else:
            each = max(0.0, seconds - self.first) / (rows - 1)
            self.further += weight * (min(each, self._last_further) - self.further)
            self._last_further = each
            least = max(0.0, seconds - min(self.first, self._quick)) / (rows - 1)
            self._quick_further = least if least < self._quick_further else self._quick_further + _RISE * (least - self._quick_further)

    def expected(self, rows: int) -> float:
        """Seconds that a call of so many rows will take."""
        return self.first + (rows - 1) * self.further

    def at_best(self, rows: int) -> float:
        """Seconds that a call of so many rows takes when nothing disturbs it."""
        if rows == 1 or self._quick_further == float("inf"):
            return self.expected(rows) if self._quick == float("inf") else self._quick * rows
        return min(self._quick, self.first) + (rows - 1) * self._quick_further
