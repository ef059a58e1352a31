"""Service levels: is the endpoint fast and does it answer; told by how fast the allowance for bad requests is used up.

    burn = (share of bad requests) / (share that is allowed)

Bad is a request that failed, that took longer than its limit, or that was told to come back later (saturation): each has an allowance of its own. At
a burn of 1 the allowance of the period is used up exactly at its end. It is a finding above `FAST` over an hour, or above `SLOW` over a day: the
alerts with two windows of Beyer et al. (2018), "The Site Reliability Workbook", chapter 5. What is counted are the endpoint's own counters, so
nothing is sampled.

Unit of independence: the hour: a slow minute is slow for all its requests.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FAST, SLOW = 14.4, 3.0
LEAST = 100  # requests with which anything is said


@dataclass(frozen=True, slots=True)
class Service:
    """Counts of some time. `within`: upper bound in seconds to how many requests took no longer, ascending."""

    requests: int = 0
    failed: int = 0
    shed: int = 0
    within: Mapping[float, int] = field(default_factory=dict)

    def __add__(self, other: Service) -> Service:
        bounds = sorted({*self.within, *other.within})
        within = {b: self.within.get(b, 0) + other.within.get(b, 0) for b in bounds}
        return Service(self.requests + other.requests, self.failed + other.failed, self.shed + other.shed, within)

    def slow(self, limit: float) -> float:
        """The share of requests that took longer than `limit` seconds; within a bucket they are taken to be spread evenly.

            >>> Service(100, within={0.5: 50, 1.0: 75, 2.0: 100}).slow(1.0)
        0.25
        """
        bounds, counts = list(self.within), list(self.within.values())
        total = counts[-1] if counts else 0
        if not total:
            return 0.0
        at = bisect_left(bounds, limit)
        if at == len(bounds):
            return 0.0
        low, before = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0)
        part = 1.0 if bounds[at] == float("inf") else (limit - low) / (bounds[at] - low)
        return 1 - (before + part * (counts[at] - before)) / total

    def quantile(self, rank: float) -> float:
        """The time in seconds within which this share of the requests was answered; the last bound where they took longer.

        >>> Service(100, within={0.5: 50, 1.0: 100}).quantile(0.75)
        0.75
        """
        counts = list(self.within.values())
        if not counts or not counts[-1]:
            return float("nan")
        low, before = 0.0, 0
        for bound, count in self.within.items():
            if count >= rank * counts[-1]:
                return low if bound == float("inf") else low + (bound - low) * (rank * counts[-1] - before) / max(1, count - before)
            low, before = bound, count
        return low


@dataclass(frozen=True, slots=True)
class Burn:
    """How much faster than allowed something happens: `share` of the requests in `hours`, where `allowed` is; `limit` of the burn."""

    share: float
    allowed: float
    burn: float
    limit: float
    hours: int


def score(hours: Sequence[Service], allowed: Mapping[str, float], limit: float = float("inf")) -> dict[str, Burn]:
    """What burns its allowance too fast, by name: over the newest hour, else over all hours given (a day).

    Args:
        hours: old to new. allowed: of 'errors', 'p99' and 'shed', the shares that are allowed. limit: seconds above which a request is slow.

    >>> score([Service(1_000, failed=200)], {"errors": 0.01})["errors"].burn
    20.0
    """
    found = {}
    for name, share in allowed.items():
        for count, most in ((1, FAST), (len(hours), SLOW)):
            together = sum(hours[-count:], Service())
            if together.requests + together.shed < LEAST:
                continue
            now = shares(together, limit)[name]
            if now / share > most:
                found[name] = Burn(now, share, now / share, most, count)
                break
    return found


def shares(counted: Service, limit: float) -> dict[str, float]:
    """The shares of failed, slow (longer than `limit` seconds) and shed requests."""
    asked = counted.requests + counted.shed
    failed = counted.failed / counted.requests if counted.requests else 0.0
    return {"errors": failed, "p99": counted.slow(limit), "shed": counted.shed / asked if asked else 0.0}
