"""Page-Hinkley: adds up how far block values lie above their own running mean, and speaks when the sum rises far above its lowest point.

    m_t = m_{t-1} + (x_t - mean_t - slack),    alarm when m_t - min(m) > threshold          (and mirrored for a fall)

Sources: Page (1954); Hinkley (1971), "Inference about the Change-Point from Cumulative Sum Tests". It is CUSUM without a known mean: for series that
have no reference of their own, such as the share of rejected requests. `slack` and `threshold` are in the unit of the values; for standardised ones
0.5 and the calibrated threshold of `thresholds.py` are meant.

Unit of independence: one value a block (a day). Fed row by row it cries wolf (476 times on a year of flights' losses).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SLACK = 0.5


@dataclass(frozen=True, slots=True)
class PageHinkleyState:
    """Sums and their extremes, the running mean, and how many blocks went in."""

    up: float = 0.0
    down: float = 0.0
    lowest: float = 0.0
    highest: float = 0.0
    mean: float = 0.0
    n: int = 0

    @property
    def rise(self) -> float:
        """How far the sum has risen above its lowest point."""
        return self.up - self.lowest

    @property
    def fall(self) -> float:
        """How far the mirrored sum has fallen below its highest point."""
        return self.highest - self.down


def step(state: PageHinkleyState, value: float, slack: float = SLACK) -> PageHinkleyState:
    """The state after one more block. A NaN changes nothing.

    >>> state = PageHinkleyState()
    >>> for value in [0.0] * 20 + [2.0] * 5:
    ...     state = step(state, value)
    >>> state.rise > 5 and state.fall < 1
    True
    """
    if value != value:
        return state
    n = state.n + 1
    mean = state.mean + (value - state.mean) / n
    up, down = state.up + value - mean - slack, state.down + value - mean + slack
    return PageHinkleyState(up, down, min(state.lowest, up), max(state.highest, down), mean, n)


def peaks(paths: np.ndarray, slack: float = SLACK) -> np.ndarray:
    """The highest rise each path ever reaches: paths (n, blocks) to (n,).

    >>> state, path = PageHinkleyState(), [0.3, 2.0, -1.0, 1.5, 2.5]
    >>> rises = [(state := step(state, value)).rise for value in path]
    >>> bool(abs(peaks(np.array([path]))[0] - max(rises)) < 1e-12)
    True
    """
    mean = np.cumsum(paths, axis=1) / np.arange(1, paths.shape[1] + 1)
    up = np.cumsum(paths - mean - slack, axis=1)
    return np.asarray((up - np.minimum(0.0, np.minimum.accumulate(up, axis=1))).max(axis=1))
