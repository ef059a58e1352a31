"""What one version did while it answered: calls, failures, times. Counted where the model is called, judged by `serving.guard`.

A call is one call of the model, with one row or many. Whether the caller sent nonsense, the store was down or the log was full says nothing about a
version and is not counted here.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)  # seconds
_NANOS = tuple(int(seconds * 1e9) for seconds in BUCKETS)
_NEVER = 1 << 62


@dataclass(frozen=True, slots=True)
class Counts:
    """The sums at one moment.

    Args:
        calls: calls that ended, the failed ones too. slow: calls that took longer than the limit.
        pairs: calls for which another version answered the same rows. slower: of these, in which this one took more than the allowed times as long.
    """

    calls: int = 0
    failed: int = 0
    slow: int = 0
    pairs: int = 0
    slower: int = 0

    def since(self, before: Counts) -> Counts:
        """What came after `before`."""
        return Counts(
            self.calls - before.calls, self.failed - before.failed, self.slow - before.slow, self.pairs - before.pairs, self.slower - before.slower
        )


class Service:
    """The counters of one loaded version. Not locked: a version is called by one thread at a time.

    Attributes:
        limit: nanoseconds above which a call is slow. times: how many times the other version's time is too much.
        seconds, buckets: the histogram of the times of calls that did not fail.
        rows: rows answered.
    """

    __slots__ = ("_last", "_pairs", "_slow", "_slower", "buckets", "failed", "limit", "nanos", "ok", "rows", "times")

    def __init__(self) -> None:
        self.ok = self.failed = self.rows = self.nanos = 0
        self.limit, self.times = _NEVER, 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)
        self._slow = self._pairs = self._slower = self._last = 0

    def done(self, rows: int, nanos: int) -> None:
        """A call answered `rows` rows in `nanos` nanoseconds."""
        self.ok += 1
        self.rows += rows
        self.nanos += nanos
        self._last = nanos
        self.buckets[bisect_left(_NANOS, nanos)] += 1
        if nanos > self.limit:
            self._slow += 1

    def broke(self) -> None:
        """A call raised, or answered nonsense."""
        self.failed += 1
        self._last = 0

    def beside(self, other: Service) -> None:
        """Both have just answered the same rows."""
        if self._last and other._last:
            self._pairs += 1
            if self._last > self.times * other._last:
                self._slower += 1

    def judged_by(self, slow: float | None, slower: float | None) -> None:
        """Count from now on what takes longer than `slow` seconds, and more than `slower` times as long as the other version."""
        self.limit = _NEVER if slow is None else int(slow * 1e9)
        self.times = slower or 0.0

    @property
    def counts(self) -> Counts:
        return Counts(self.ok + self.failed, self.failed, self._slow, self._pairs, self._slower)
