"""Tests that may be looked at all the time: when there is nothing to find, the evidence ever reaches 1 / alpha in at most alpha of cases.

Whoever looks at a p-value after each request and stops at 5 % finds something almost always. Evidence here is a non-negative martingale (or less)
that begins at 1, so by Ville's inequality it may be looked at after each observation, for ever, at no cost in false alarms. Grünwald, de Heide and
Koolen (2024), "Safe Testing"; Johari, Koomen, Pekelis and Walsh (2022), "Always Valid Inference".

    >>> more_often(0, 500, 0.01) < 1 < more_often(9, 100, 0.01)
    True

Unit of independence: the observation. Observations that share their luck (rows of one day, requests of one customer) are averaged before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_TIMES = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0)  # how many times the limit the true share may be: a mixture over these
_EFFECTS = (0.25, 0.5, 1.0, 1.5, 2.5, 4.0)  # mean per standard deviation of a block
_LOG_SCALE = np.linspace(-14.0, 14.0, 561)  # log of the unknown precision's root, relative to what was observed


def more_often(times: int, of: int, limit: float) -> float:
    """Evidence that something happens with a probability above `limit`, after it happened `times` of `of` times.

    A mixture of likelihood ratios against the limit itself; for every smaller probability each ratio shrinks on average, so the bound holds for
    "at most `limit`". Raises ValueError when the limit is not between 0 and 1.
    """
    if not 0 < limit < 1:
        raise ValueError(f"The limit {limit} is not between 0 and 1.")
    others = sorted({min(limit * t, (1 + limit * 9) / 10 if limit > 0.5 else 0.99) for t in _TIMES} | {(1 + limit) / 2})
    logs = [times * math.log(p / limit) + (of - times) * math.log((1 - p) / (1 - limit)) for p in others if limit < p < 1]
    return _mean_exp(logs)


def above_zero(values: Sequence[float]) -> float:
    """Evidence that the mean is above 0, of values that are normal with an unknown variance: for example one difference a day.

    The likelihood ratio of the t statistic (the variance integrated out with its right Haar prior, which makes it exact at any number of values),
    mixed over effects above 0. 1 for fewer than two values, and when none differs from 0.
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    total, squares = float(x.sum()), float(np.dot(x, x))
    if n < 2 or squares <= 0:
        return 1.0
    root = math.sqrt(squares)
    t = total / root  # of unit sum of squares now: the scale is integrated out anyway
    grid = np.exp(_LOG_SCALE) * math.sqrt(n)
    base = n * np.log(grid) - 0.5 * grid**2  # log of u^n exp(-u^2 / 2); du = u d(log u)
    below = _log_sum_exp(base)
    return _mean_exp([_log_sum_exp(base + d * t * grid) - below - 0.5 * n * d * d for d in _EFFECTS])


@dataclass(frozen=True, slots=True)
class Sample:
    """Sums over the units of one side of an A/B test."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> Sample:
        return Sample(self.count + 1, self.total + value, self.squares + value * value)

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def variance(self) -> float:
        """Of one unit, unbiased."""
        return max(0.0, (self.squares - self.count * self.mean**2) / (self.count - 1)) if self.count > 1 else 0.0


def of(values: Sequence[float]) -> Sample:
    """The sums over some units."""
    x = np.asarray(values, dtype=np.float64)
    return Sample(len(x), float(x.sum()), float(np.dot(x, x)))


LEAST = 100  # units on each side before the variance is known well enough


def differs(a: Sample, b: Sample, effect: float) -> tuple[float, float, float]:
    """(b's mean - a's mean, its standard error, evidence that it is not 0), of two independent samples.

    The mixture sequential probability ratio test with a normal mixture of standard deviation `effect`, which is the difference one would act on; the
    variances are estimated, so the bound holds as the samples grow, and 1 is returned below 100 units a side (Johari et al. 2022, section 5).
    """
    difference = b.mean - a.mean
    if min(a.count, b.count) < LEAST:
        return difference, math.inf, 1.0
    error2 = a.variance / a.count + b.variance / b.count
    if error2 <= 0:
        return difference, 0.0, 1.0 if difference == 0 else math.inf
    mixed = error2 + effect * effect
    log = 0.5 * math.log(error2 / mixed) + difference**2 * effect**2 / (2 * error2 * mixed)
    return difference, math.sqrt(error2), _exp(log)


def _mean_exp(logs: Sequence[float]) -> float:
    return _exp(_log_sum_exp(np.array(logs)) - math.log(len(logs)))


def _log_sum_exp(logs: np.ndarray) -> float:
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).sum()))


def _exp(log: float) -> float:
    return math.exp(min(log, 700.0))
