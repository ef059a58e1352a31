"""CUSUM: adds up small deviations that all point one way, until chance no longer explains their sum.

    high_t = max(0, high_{t-1} + z_t - slack),    low_t = max(0, low_{t-1} - z_t - slack)

Source: Page (1954), "Continuous Inspection Schemes", two-sided and tabular as in Montgomery, "Introduction to Statistical Quality Control".
With a slack of 0.5 it is quickest at a lasting shift of one standard deviation, the case one look at a time misses.

Unit of independence: one standardised value z a block (a day), mean 0 and standard deviation 1 while nothing changes. Fed row by row it
cries wolf, since rows of one day share their luck.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

SLACK = 0.5
FAST = 1.5  # a second chart beside it: quickest at a shift of three standard deviations


@dataclass(frozen=True, slots=True)
class CusumState:
    """The two sums, and how many blocks went in. A sum began to rise where it last was 0: that dates the change."""

    high: float = 0.0
    low: float = 0.0
    n: int = 0


def step(state: CusumState, z: float, slack: float = SLACK) -> CusumState:
    """The state after one more block. A NaN (a block that cannot be judged) changes nothing.

    >>> step(step(CusumState(), 2.0), 2.0)
    CusumState(high=3.0, low=0.0, n=2)
    """
    if z != z:
        return state
    return CusumState(max(0.0, state.high + z - slack), max(0.0, state.low - z - slack), state.n + 1)


def score(values: Iterable[float], slack: float = SLACK) -> CusumState:
    """The state after all values, from nothing."""
    state = CusumState()
    for z in values:
        state = step(state, z, slack)
    return state


def peaks(paths: np.ndarray, slack: float = SLACK, *, two_sided: bool = True) -> np.ndarray:
    """The highest sum each path ever reaches: paths (n, blocks) to (n,). An alarm comes exactly on the paths whose peak is above the threshold."""
    high, low, peak = np.zeros(len(paths)), np.zeros(len(paths)), np.zeros(len(paths))
    for z in paths.T:
        high = np.maximum(0.0, high + z - slack)
        peak = np.maximum(peak, high)
        if two_sided:
            low = np.maximum(0.0, low - z - slack)
            peak = np.maximum(peak, low)
    return peak
