"""Thresholds from a tolerated rate of false alarms: simulate blocks in which nothing changed, and see how high chance alone drives a detector.

A CUSUM is judged on paths of L = 1/rate blocks: its threshold h is the value that the highest sum of a path exceeds with probability
1 - exp(-rate * L), that is 1 - 1/e on a path of full length. Alarms on unchanged data then come about as a Poisson process of the stated rate.

A path is drawn the way a threshold is used: first n reference blocks with replacement, whose mean and standard deviation stand for those that would
have been measured; then the path, standardised by them. So the threshold also covers what n blocks cannot know of their own mean and spread (with
normal blocks a prediction from Student's t, as in Hahn and Meeker, "Statistical Intervals"). Below 10 blocks both are drawn from the normal.
Source: bootstrap calibration of control charts, Gandy and Kvaløy (2013), "Guaranteed Conditional Performance of Control Charts via Bootstrap Methods".

Unit of independence: the block. Where neighbouring blocks resemble each other, alarms come more often than stated.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log

import numpy as np

from treadle.monitoring.detectors.cusum import SLACK, peaks

PATHS = 2_000
LONGEST = 120  # blocks simulated; a lower rate is met on a shorter path, by its share
FEW = 10
_LEAST_RATE = 1e-6


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A threshold, the false alarms per block it was made for, and those fresh simulated paths then had."""

    threshold: float
    rate: float
    achieved: float


def cusum_threshold(values: np.ndarray, rate: float, *, watched: int = 1, two_sided: bool = True, slack: float = SLACK, seed: int = 0) -> Calibrated:
    """The CUSUM threshold h at which blocks like `values` alarm falsely `rate / watched` times per block.

    Args:
        values: the statistic of each drift-free block, (n,), in any unit: what is watched is its standardised value.
        rate: tolerated false alarms per block, over all things watched together: `false_alarms.within(every)`.
        watched: among how many things that rate is shared (Bonferroni).
    """
    each = _each(rate, watched)
    length = max(1, min(LONGEST, round(1 / each)))
    rng = np.random.default_rng(seed)
    highest = peaks(_paths(values, length, rng), slack, two_sided=two_sided)
    h = float(np.quantile(highest, exp(-each * length), method="higher"))
    silent = float((peaks(_paths(values, length, rng), slack, two_sided=two_sided) <= h).mean())
    return Calibrated(h, each, -log(max(silent, 0.5 / PATHS)) / length)


def level_threshold(values: np.ndarray, rate: float, *, watched: int = 1, seed: int = 0) -> Calibrated:
    """The level that a per-block distance like PSI exceeds `rate / watched` times per block: at least the largest seen.

    PSI is a squared distance, so its root is taken as normal; the level is the upper prediction limit of one more block, from simulated Student's t:
    mean + t * sd * sqrt(1 + 1/n). Below 2 values nothing is known and the level is 0 (the effect alone decides).
    """
    each = _each(rate, watched)
    if len(values) < 2:
        return Calibrated(0.0, each, inf)
    roots = np.sqrt(np.maximum(0.0, values))
    n, spread = len(roots), max(float(roots.std(ddof=1)), 1e-9)
    draws = np.abs(np.random.default_rng(seed).standard_t(n - 1, size=200_000))
    t = float(np.quantile(draws, 1 - min(1.0, 2 * each)))
    level = max(float(roots.max()), float(roots.mean()) + t * spread * (1 + 1 / n) ** 0.5)
    past = (level - float(roots.mean())) / (spread * (1 + 1 / n) ** 0.5)
    return Calibrated(level**2, each, float((draws > past).mean()) / 2)


def _each(rate: float, watched: int) -> float:
    return min(1.0, max(_LEAST_RATE, rate / max(1, watched)))


def _paths(values: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Drift-free paths, (PATHS, length), each standardised by reference blocks of its own."""
    n = len(values)
    if n < 2:
        return rng.standard_normal((PATHS, length))  # the scale is not estimated but implied, so nothing is to be added for it
    if n < FEW or float(np.std(values)) == 0.0:
        reference, path = rng.standard_normal((PATHS, n)), rng.standard_normal((PATHS, length))
    else:
        reference, path = rng.choice(values, (PATHS, n)), rng.choice(values, (PATHS, length))
    spread = reference.std(axis=1, ddof=1, keepdims=True)
    usual = float(np.median(spread))
    return np.asarray((path - reference.mean(axis=1, keepdims=True)) / np.maximum(spread, 0.1 * usual))
