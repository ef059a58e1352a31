"""Limits of a chart from a tolerated rate of false alarms: simulate blocks in which nothing changed, and see how high chance alone drives it.

A chart is judged on paths of L = 1/rate blocks: its limits are those that a path passes, any of them, with probability 1 - exp(-rate * L), that is
1 - 1/e on a path of full length. Alarms on unchanged data then come about as a Poisson process of the stated rate. The statistics of one series (its
two CUSUMs, a single block, Page-Hinkley, ADWIN) share one tail: each has the limit that the same part of the paths passes, and that part is chosen so
that the paths on which any of them speaks are as many as tolerated (the single-step maximum of Westfall and Young 1993). So statistics that say the
same cost nothing twice.

Paths are drawn in two ways, and the higher limit counts:

- Runs of neighbouring blocks (`bootstrap.draw`). First n reference blocks, whose mean and standard deviation stand for those that would have been
  measured; then the path, standardised by them. So the limit also covers what n blocks cannot know of their own mean and spread (Gandy and Kvaløy
  2013, "Guaranteed Conditional Performance of Control Charts via Bootstrap Methods"; with normal blocks a prediction from Student's t, as in Hahn
  and Meeker, "Statistical Intervals"). Below 10 blocks both are drawn from the normal.
- The recorded blocks in their order, each week by itself or a neighbouring one (`bootstrap.replay`): this keeps what changes slowly within the
  record, a season, which runs of some days do not show and which a sum adds up.

A block's standard deviation is sqrt(between^2 + variance of a row / rows): `between`, what rows of a day have in common beyond chance, is measured on
reference blocks by moments (DerSimonian and Laird 1986), so that days of few rows are trusted less.

Unit of independence: the block, or the run of neighbouring blocks where these resemble each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from math import exp, log, pow, sqrt
from statistics import NormalDist

import numpy as np

from treadle.monitoring.blocks import BlockStats
from treadle.monitoring.bootstrap import draw, replay
from treadle.monitoring.detectors import adwin, page_hinkley
from treadle.monitoring.detectors.cusum import FAST, peaks
from treadle.monitoring.thresholds import LEAST_REFERENCE, Chart, Limits

PATHS = 2_000
LONGEST = 120  # blocks simulated; a lower rate is met on a shorter path, by its share
FEW = 10
MARGIN = 1.05  # above what replays reach, which show nothing that was not recorded
_LEAST_RATE = 1e-6


def chart_limits(
    values: np.ndarray, rate: float, *, watched: float, two_sided: bool, seed: int, trends: bool = False, order: np.ndarray | None = None
) -> Limits:  # fmt: skip
    """The limits of all statistics of one series together.

    A single block's limit is at least what an exponential tail of the recorded values says, since a bootstrap never draws beyond them.

    Args:
        trends: whether Page-Hinkley and ADWIN are judged beside CUSUM and single block.
        order: the number of each block, from which weeks are known; without it the recorded order is not replayed.
    """
    each = share_of(rate, watched)
    length = max(1, min(LONGEST, round(1 / each)))
    rng = np.random.default_rng(seed)
    limits = _joint(_paths(values, length, rng), exp(-each * length), two_sided, trends)
    if order is not None and len(values) >= 3 * FEW and values.std() > 0:
        replayed = (values / max(1.0, float(values.std(ddof=1))))[replay(order, PATHS // 4, rng)]  # as `Chart.z` gives them
        limits = np.maximum(limits, MARGIN * _joint(replayed, exp(-each * replayed.shape[1]), two_sided, trends))
    if len(values) >= FEW and values.std() > 0:
        standard = (values - values.mean()) / values.std(ddof=1)
        limits[1] = max(limits[1], level_threshold(np.abs(standard) if two_sided else standard, each / len(limits)))
    limits[2] = max(limits[2], NormalDist().inv_cdf(1 - each / len(limits)) - FAST)  # one block alone must be as rare as among normal ones
    silent = float((_statistics(_paths(values, length, rng)[: PATHS // 2], two_sided, trends) <= limits).all(axis=1).mean())
    named = dict(zip(("threshold", "single", "fast", "hinkley", "adwin"), map(float, limits), strict=False))
    return Limits(rate=each, achieved=-log(max(silent, 0.5 / PATHS)) / length, **named)


def level_threshold(values: np.ndarray, rate: float, *, watched: float = 1, overlap: int = 1) -> float:
    """The level that a per-block distance like PSI exceeds `rate / watched` times per block.

    A distance is small on most days and large on few: its largest quarter (the largest four where that is more) is taken to fall off exponentially
    beyond the value u it begins at, with the mean excess m (peaks over threshold, Pickands 1975). As m is estimated from k values, one more value
    exceeds u + x with probability share * (1 + x / (k m)) ** -k, which is solved for x. Windows that `overlap` blocks count as that many
    times fewer. With less than two left nothing is known and the level is 0 (the effect alone decides).
    """
    each, n = share_of(rate, watched) * overlap, len(values) / overlap
    if n < 2:
        return 0.0
    share = min(1.0, max(0.25, 4 / n))
    if each >= share:
        return float(np.quantile(values, 1 - min(1.0, each)))
    begin = float(np.quantile(values, 1 - share))
    excess = float(np.mean(values[values >= begin] - begin))
    k = share * n
    return begin + k * excess * (pow(share / each, 1.0 / k) - 1.0)


def chart(
    rows: Sequence[tuple[float | None, float | None, BlockStats]], rate: float, *, two_sided: bool, seed: int, watched: float, trends: bool = False
) -> Chart | None:
    """How a statistic of blocks is standardised, and its limits; None where nothing is known to calibrate it.

    Args:
        rows: of each drift-free block its value, the variance of a row of it, and the block.
    """
    known = [(value, variance or 0.0, block) for value, variance, block in rows if value is not None]
    implied = all(block.expected_loss is not None for _, _, block in rows)  # a class's probability implies its variance; a number's error has none
    if len(known) < LEAST_REFERENCE:
        if known and not implied:
            return None
        return _made(0.0, 0.0, 1.0, None, chart_limits(np.array([]), rate, watched=watched, two_sided=two_sided, seed=seed, trends=trends))
    values, variances, counts = (np.array(c, dtype=np.float64) for c in zip(*((value, variance, b.matured) for value, variance, b in known)))
    row_variance = None if implied else float(np.average(variances, weights=counts))
    noise = (variances if row_variance is None else np.full(len(values), row_variance)) / counts
    between = sqrt(max(0.0, float(values.var(ddof=1) - noise.mean())))
    weights = 1 / np.maximum(between**2 + noise, 1e-18)
    mean = float(np.average(values, weights=weights))
    z = (values - mean) * np.sqrt(weights)
    every = max(1, min(b.end - b.start for _, _, b in known))
    order = np.array([b.start // every for _, _, b in known]) if 86_400_000_000 % every == 0 or every % 86_400_000_000 == 0 else None
    per_week = max(1, round(7 * 86_400_000_000 / every))
    limits = chart_limits(
        z, rate, watched=watched, two_sided=two_sided, seed=seed, trends=trends, order=order if order is not None and per_week == 7 else None
    )
    return _made(mean, between, max(1.0, float(z.std(ddof=1))), row_variance, limits)


def share_of(rate: float, watched: float) -> float:
    """The false alarms per block that one of `watched` things may have."""
    return min(1.0, max(_LEAST_RATE, rate / max(1, watched)))


def _made(mean: float, between: float, scale: float, row_variance: float | None, limits: Limits) -> Chart:
    return Chart(mean=mean, between=between, scale=scale, row_variance=row_variance, **asdict(limits))


def _statistics(paths: np.ndarray, two_sided: bool, trends: bool) -> np.ndarray:
    """The highest value of each statistic on each path, (paths, 3 or 5)."""
    single = np.abs(paths).max(axis=1) if two_sided else paths.max(axis=1)
    columns = [peaks(paths, two_sided=two_sided), single, peaks(paths, FAST, two_sided=two_sided)]
    return np.column_stack([*columns, page_hinkley.peaks(paths), adwin.peaks(paths)] if trends else columns)


def _joint(paths: np.ndarray, allowed: float, two_sided: bool, trends: bool) -> np.ndarray:
    """The limits, one a statistic, at which the part `allowed` of the paths stays silent in all of them; each is passed by equally many paths."""
    highest = _statistics(paths, two_sided, trends)
    rank = np.argsort(np.argsort(highest, axis=0, kind="stable"), axis=0, kind="stable")
    position = int(np.quantile(rank.max(axis=1), allowed, method="higher"))
    return np.asarray(np.sort(highest, axis=0)[position])


def _paths(values: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """Drift-free paths, (PATHS, length), each standardised by reference blocks of its own."""
    n = len(values)
    if n < 2:
        return rng.standard_normal((PATHS, length))  # the scale is not estimated but implied, so nothing is to be added for it
    if n < FEW or float(np.std(values)) == 0.0:
        reference, path = rng.standard_normal((PATHS, n)), rng.standard_normal((PATHS, length))
    else:
        reference, path = draw(values, PATHS, n, rng), draw(values, PATHS, length, rng)
    spread = reference.std(axis=1, ddof=1, keepdims=True)
    usual = float(np.median(spread))
    return np.asarray((path - reference.mean(axis=1, keepdims=True)) / np.maximum(spread, 0.1 * usual))
