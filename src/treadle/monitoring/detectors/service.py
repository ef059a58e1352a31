"""Service levels: is the endpoint fast and does it answer; told by how fast the allowance for failures is used up.

    burn = (share of bad requests) / (1 - objective)

A request is bad when it failed or took longer than the limit. At a burn of 1 the allowance of the period is used up exactly at its end. It is a
finding above `FAST` over a block, or `SLOW` over a week of blocks: the two-window alert of Beyer et al. (2018), "The Site Reliability Workbook",
chapter 5. Latency is read from a quantile sketch, so its p50, p95 and p99 are of all requests of the block.

Unit of independence: the block: a slow minute is slow for all its requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from treadle.monitoring.sketches import NumberSketch

OBJECTIVE = 0.99
FAST, SLOW = 14.4, 3.0
LEAST = 100  # requests of a block


@dataclass(frozen=True, slots=True)
class Service:
    """One block: requests, failed ones, the latency of the others in milliseconds, and the share of time that workers were busy (nan unknown)."""

    requests: int
    failed: int
    latency: NumberSketch
    busy: float = float("nan")


@dataclass(frozen=True, slots=True)
class Level:
    """`bad`: share of bad requests; `burn`: how many times faster than allowed; latencies in milliseconds."""

    bad: float
    burn: float
    p50: float
    p95: float
    p99: float


def score(blocks: Sequence[Service], limit_ms: float, objective: float = OBJECTIVE) -> Level | None:
    """The level over some blocks together; None with too few requests.

    >>> from treadle.monitoring.sketches import sketch_column
    >>> level = score([Service(1_000, 50, sketch_column([5.0] * 900 + [80.0] * 50, "number"))], limit_ms=50)
    >>> round(level.bad, 2), round(level.burn, 1)
    (0.1, 10.0)
    """
    requests = sum(b.requests for b in blocks)
    if requests < LEAST:
        return None
    latency = blocks[0].latency
    for b in blocks[1:]:
        latency = latency.merge(b.latency)
    slow = (1.0 - float(latency.below([limit_ms])[0])) * latency.present if latency.present else 0.0
    bad = (sum(b.failed for b in blocks) + slow) / requests
    p50, p95, p99 = (float(v) for v in latency.quantiles([0.5, 0.95, 0.99])) if latency.present else (0.0, 0.0, 0.0)
    return Level(bad, bad / (1 - objective), p50, p95, p99)
