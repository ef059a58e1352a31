"""Duplicates: the share of a block's rows that stand in it more than once, from a sketch of distinct rows.

    share = 1 - (distinct rows) / rows;    distinct = (k - 1) / (k-th smallest hash as a part of the range of hashes)

Source: Bar-Yossef et al. (2002), "Counting Distinct Elements in a Data Stream" (k minimum values); standard error 1 / sqrt(k - 2). Sketches of parts
merge by keeping the k smallest of both. It is a finding when the share is `MORE` above what drift-free blocks had: an event log that was read twice.

Unit of independence: the block: one read too many doubles all of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from hashlib import blake2b

K = 1_024
MORE = 0.2
_RANGE = float(2**64)


class DistinctSketch:
    """How many different rows there were; exact up to K, within about 3 % above."""

    __slots__ = ("_kept", "_largest", "rows")

    def __init__(self) -> None:
        self.rows = 0
        self._kept: set[int] = set()
        self._largest: list[int] = []  # a heap of the kept hashes, negated

    def update(self, rows: Iterable[bytes]) -> None:
        """Add rows, each as bytes."""
        for row in rows:
            self.rows += 1
            self._add(int.from_bytes(blake2b(row, digest_size=8).digest(), "big"))

    def merge(self, other: DistinctSketch) -> DistinctSketch:
        """A new sketch of both together."""
        both = DistinctSketch()
        both.rows = self.rows + other.rows
        for hashed in self._kept | other._kept:
            both._add(hashed)
        return both

    @property
    def distinct(self) -> float:
        """How many different rows there were, about."""
        if len(self._kept) < K:
            return float(len(self._kept))
        return (K - 1) / (-self._largest[0] / _RANGE)

    @property
    def repeated(self) -> float:
        """The share of rows that stood there before.

        >>> sketch = DistinctSketch()
        >>> sketch.update([b"a", b"b", b"a", b"a"])
        >>> sketch.repeated
        0.5
        """
        return max(0.0, 1.0 - self.distinct / self.rows) if self.rows else 0.0

    def _add(self, hashed: int) -> None:
        if hashed in self._kept:
            return
        if len(self._kept) < K:
            self._kept.add(hashed)
            heapq.heappush(self._largest, -hashed)
        elif hashed < -self._largest[0]:
            self._kept.discard(-heapq.heappushpop(self._largest, -hashed))
            self._kept.add(hashed)
