"""ADWIN: keeps a window of block values as long as it looks like one population, and drops its older part when two halves differ.

A cut of the window into n0 and n1 values is a change when the means differ by more than

    e = sqrt( (2 / m) * v * ln(2 / d') ) + (2 / (3 m)) * ln(2 / d'),   m = 1 / (1/n0 + 1/n1),  d' = delta / ln(n)

with v the variance of the window. Source: Bifet and Gavaldà (2007), "Learning from Time-Changing Data with Adaptive Windowing". Their bucket lists
serve millions of values; block values are some hundred, so every cut is tried exactly.

Unit of independence: one value a block (a day). Fed row by row it cries wolf: on a year of flights its default found 434 changes in the loss, because
rows of one day share their weather; on the same values shuffled it was right.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, sqrt

import numpy as np

DELTA = 0.002
LEAST = 5  # blocks on either side of a cut
LONGEST = 400  # blocks kept


@dataclass(frozen=True, slots=True)
class AdwinState:
    """The values of the window, old to new, and how many blocks went in."""

    window: tuple[float, ...] = ()
    n: int = 0


def step(state: AdwinState, value: float, delta: float = DELTA, level: float = 1.0) -> tuple[AdwinState, int | None]:
    """The state after one more block, and how many blocks ago the change began that it showed, if any. A NaN changes nothing.

    Args:
        level: how many times its bound a difference must be: 1 as published, or as calibrated on blocks in which nothing changed (`peaks`).

    >>> state, found = AdwinState(), []
    >>> for i in range(80):
    ...     state, change = step(state, (i % 3) / 10 + (i >= 40))
    ...     found += [i] if change else []
    >>> 40 <= found[0] <= 60
    True
    """
    if value != value:
        return state, None
    values = np.array((*state.window, value)[-LONGEST:])
    change = None
    while (cut := _cut(values, delta, level)) is not None:
        values = values[cut:]
        change = len(values)
    return AdwinState(tuple(values.tolist()), state.n + 1), change


def rose(before: AdwinState, after: AdwinState) -> bool:
    """Whether what is left of a window that was cut lies above what was dropped."""
    dropped = len(before.window) + 1 - len(after.window)
    return 0 < dropped <= len(before.window) and float(np.mean(after.window)) > float(np.mean(before.window[:dropped]))


def peaks(paths: np.ndarray, delta: float = DELTA) -> np.ndarray:
    """How many times its bound the largest rise between two parts of each path ever is: paths (n, blocks) to (n,).

    >>> quiet, risen = np.tile([0.0, 1.0], 60), np.repeat([0.0, 1.0], 60)
    >>> below, above = peaks(np.array([quiet, risen]))
    >>> bool(below < 1 < above)
    True
    """
    sums, squares = np.cumsum(paths, axis=1), np.cumsum(paths * paths, axis=1)
    highest = np.zeros(len(paths))
    for n in range(2 * LEAST, paths.shape[1] + 1):
        first = np.arange(LEAST, n - LEAST + 1)
        whole = sums[:, n - 1 : n]
        apart = (whole - sums[:, first - 1]) / (n - first) - sums[:, first - 1] / first
        variance = np.maximum(0.0, squares[:, n - 1] / n - (whole[:, 0] / n) ** 2)
        parts = 1 / first + 1 / (n - first)
        bits = log(2 * log(n) / delta)
        bound = np.sqrt(variance)[:, None] * (sqrt(2 * bits) * np.sqrt(parts) + 2 / 3 * parts * bits * 2)
        highest = np.maximum(highest, (apart / np.maximum(bound, 1e-12)).max(axis=1))
    return highest


def _cut(values: np.ndarray, delta: float, level: float) -> int | None:
    """Where the window is cut: the cut that exceeds its bound by most; None when none does."""
    n = len(values)
    if n < 2 * LEAST:
        return None
    first = np.arange(LEAST, n - LEAST + 1)
    sums = np.cumsum(values)
    before, after = sums[first - 1] / first, (sums[-1] - sums[first - 1]) / (n - first)
    harmonic = 1 / (1 / first + 1 / (n - first))
    bits = log(2 * log(n) / delta)
    bound = sqrt(2 * float(values.var()) * bits) / np.sqrt(harmonic) + 2 / (3 * harmonic) * bits * _scale(values)
    over = np.abs(before - after) - level * bound
    best = int(over.argmax())
    return int(first[best]) if over[best] > 0 else None


def _scale(values: np.ndarray) -> float:
    """The published bound is of values between 0 and 1, whose standard deviation is at most a half: here twice that of those seen stands for it."""
    return 2 * float(values.std())
