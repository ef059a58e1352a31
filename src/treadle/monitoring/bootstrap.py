"""Paths of blocks in which nothing changed, drawn from recorded ones in runs, so that neighbouring days that resemble each other still do.

Runs of b neighbouring blocks are drawn with replacement from the recorded ones laid in a circle, and put one after another (circular moving-block
bootstrap: Künsch 1989; Politis and Romano 1992). The length b follows from how much neighbours resemble each other, r, their first autocorrelation:

    b = ( 2 r^2 / (1 - r^2)^2 )^(1/3) * n^(1/3)       (Carlstein 1986; Andrews 1991, for a first-order autoregression)

r is measured with the correction of Marriott and Pope (1954) for short series, r + (1 + 3 r) / n, and taken as 0 below twice its standard error: then
blocks are drawn one by one. A run is at most a quarter of the record.

Unit of independence: the run of blocks.
"""

from __future__ import annotations

from math import ceil, sqrt

import numpy as np

_MOST = 0.95  # autocorrelation: more cannot be told from a trend


def resemblance(values: np.ndarray) -> float:
    """The first autocorrelation of a series, corrected for its length; 0 where chance explains it.

    >>> resemblance(np.array([1.0, -1.0] * 20))
    0.0
    """
    n = len(values)
    centred = np.asarray(values, dtype=np.float64) - float(np.mean(values)) if n else np.zeros(0)
    power = float((centred * centred).sum())
    if n < 10 or power <= 0.0:
        return 0.0
    raw = float((centred[:-1] * centred[1:]).sum()) / power
    return 0.0 if raw <= 2 / sqrt(n) else min(_MOST, raw + (1 + 3 * raw) / n)


def run_length(values: np.ndarray) -> int:
    """How many neighbouring blocks are drawn together.

    >>> run_length(np.random.default_rng(0).normal(size=60))
    1
    """
    r, n = resemblance(values), len(values)
    if r <= 0:
        return 1
    return int(min(max(1, n // 4), max(2, ceil((2 * r * r / (1 - r * r) ** 2 * n) ** (1 / 3)))))


def draw(values: np.ndarray, paths: int, length: int, rng: np.random.Generator, run: int | None = None) -> np.ndarray:
    """Paths (paths, length) of values, in runs.

    Args:
        run: blocks a run; measured if None.
    """
    values = np.asarray(values, dtype=np.float64)
    n, b = len(values), run_length(values) if run is None else run
    if b <= 1:
        return np.asarray(rng.choice(values, (paths, length)))
    runs = ceil(length / b)
    start = rng.integers(0, n, (paths, runs, 1))
    return np.asarray(values[(start + np.arange(b)) % n].reshape(paths, runs * b)[:, :length])


def replay(order: np.ndarray, paths: int, rng: np.random.Generator, week: int = 7) -> np.ndarray:
    """Positions (paths, n) of the recorded blocks in their order, each week of them replaced by itself or one of its neighbours.

    What changes slowly stays where it was (local block bootstrap: Paparoditis and Politis 2002). Every path cuts the record into weeks at another
    place.

    Args:
        order: the number of each recorded block, ascending; blocks that are missing in the week that is drawn are replaced by the nearest there is.
    """
    order = np.asarray(order, dtype=np.int64)
    first, last = int(order[0]), int(order[-1])
    begin = rng.integers(0, week, (paths, 1))
    number = (order[None, :] - first + begin) // week
    weeks = int(number.max()) + 1
    wanted = order[None, :] + week * np.take_along_axis(rng.integers(-1, 2, (paths, weeks)), number, axis=1)
    wanted = np.where(wanted < first, wanted + week, np.where(wanted > last, wanted - week, wanted))
    after = np.clip(np.searchsorted(order, wanted), 0, len(order) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(order[before] - wanted) < np.abs(order[after] - wanted)
    return np.asarray(np.where(nearer, before, after))
