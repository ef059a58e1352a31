"""Thresholds from a tolerated rate of false alarms: simulate blocks in which nothing changed, and see how high chance alone drives a detector.

A CUSUM is judged on paths of L = 1/rate blocks: its threshold h is the value that the highest sum of a path exceeds with probability
1 - exp(-rate * L), that is 1 - 1/e on a path of full length. Alarms on unchanged data then come about as a Poisson process of the stated rate.

A path is drawn the way a threshold is used: first n reference blocks with replacement, whose mean and standard deviation stand for those that would
have been measured; then the path, standardised by them. So the threshold also covers what n blocks cannot know of their own mean and spread (with
normal blocks a prediction from Student's t, as in Hahn and Meeker, "Statistical Intervals"). Below 10 blocks both are drawn from the normal.
Source: Gandy and Kvaløy (2013), "Guaranteed Conditional Performance of Control Charts via Bootstrap Methods".

A block's standard deviation is sqrt(between^2 + variance of a row / rows): `between`, what rows of a day have in common beyond chance, is measured on
reference blocks by moments (DerSimonian and Laird 1986), so that days of few rows are trusted less.

Unit of independence: the block, or the run of neighbouring blocks where these resemble each other (`bootstrap.py`). On drift-free series of 40 and
of 90 blocks with an autocorrelation of 0, 0.3, 0.5 and 0.7, alarms came at 1.1 to 1.2, 1.6 to 1.8, 1.6 to 1.8 and 1.7 to 2.0 times the stated rate;
drawn one by one they would come at up to 6.4 times (`tests/monitoring/test_bootstrap.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from math import exp, inf, log, nan, pow, sqrt
from typing import Any, Protocol

import numpy as np

from treadle.core.declare.operations import Rate
from treadle.monitoring import recent
from treadle.monitoring.blocks import PREDICTION, BlockStats
from treadle.monitoring.bootstrap import draw
from treadle.monitoring.detectors import psi, quality
from treadle.monitoring.detectors.cusum import SLACK, peaks
from treadle.monitoring.sketches import Sketch, rolling

MOVED = 0.25  # PSI: another population (Siddiqi 2006)
LIMITS = {"missing_jump": 0.20, "new_share": 0.05, "out_of_range": 0.05}
LEAST_MATURED = 10  # outcomes a block needs to be judged by them
LEAST_WINDOW = 100  # rows PSI needs
LEAST_BLOCK = 200  # rows with which data quality is judged on the block alone, not on the window
LEAST_REFERENCE = 5  # blocks from which a spread can be measured; below, only what the model's probabilities imply is known
WATCHED = 4  # quality, calibration, input and prediction share the tolerated false alarms
PATHS = 2_000
LONGEST = 120  # blocks simulated; a lower rate is met on a shorter path, by its share
FEW = 10
_LEAST_RATE = 1e-6
_LEAST_JUMP = 6.0  # robust standard deviations: what few reference blocks cannot rule out


@dataclass(frozen=True, slots=True)
class Chart:
    """How one statistic is standardised and when its CUSUM alarms. `row_variance` is None where each block brings its own.

    `rate` and `achieved` are false alarms per block: tolerated, and had by simulation. A single block whose z is above `single` alarms too.
    """

    mean: float
    between: float
    scale: float
    row_variance: float | None
    threshold: float
    rate: float
    achieved: float
    single: float = inf

    def z(self, value: float, variance: float, rows: int) -> float:
        spread = self.scale * sqrt(self.between**2 + (variance if self.row_variance is None else self.row_variance) / rows)
        return (value - self.mean) / spread if spread > 0 else nan


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Everything `judge_block` compares with. A chart is None where nothing is known to calibrate it: then that kind is not judged.

    Args:
        week: how many blocks a rolling week has.
        block_levels, week_levels: name to the PSI of one block, and of a rolling week, above which it is a finding. A name without a block level
            is judged by the week alone, against 0.25.
        limits: data-quality metric to feature to limit.
        usually_constant: features that hold one value in whole blocks without being broken; None when it is not known.
        jump_levels: name to how far the mean of a block may lie from those of the fortnight before it. A name without one is not judged so.
        usually_units: 'feature: formula' of changes of unit that drift-free blocks looked like: they are not told.
    """

    quality: Chart | None = None
    calibration: Chart | None = None
    week: int = 7
    block_levels: Mapping[str, float] = field(default_factory=dict)
    week_levels: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    usually_constant: tuple[str, ...] | None = None
    jump_levels: Mapping[str, float] = field(default_factory=dict)
    usually_units: tuple[str, ...] = ()
    ranking: Chart | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Thresholds:
        kept = {name: stored.get(name) for name in ("quality", "calibration", "ranking")}
        charts = {name: None if chart is None else Chart(**chart) for name, chart in kept.items()}
        constant = stored["usually_constant"]
        units = tuple(stored.get("usually_units", ()))
        return cls(**{**stored, **charts, "usually_constant": None if constant is None else tuple(constant), "usually_units": units})


class Watched(Protocol):
    """What is read of a `Watch` declaration."""

    @property
    def every(self) -> timedelta: ...

    @property
    def false_alarms(self) -> Rate: ...


def calibrate_watch(
    reference_blocks: Sequence[BlockStats], watch: Watched, seed: int = 0, *,
    features: Sequence[Mapping[str, Sketch]] = (), reference: Mapping[str, Sketch] | None = None,
) -> Thresholds:  # fmt: skip
    """Thresholds at which blocks like these alarm falsely at the watch's rate, over everything watched together.

    Args:
        reference_blocks: drift-free blocks the model was not fitted on (its test window, validation folds), of the same length as production's.
        features: the sketches of each of those blocks, in order of time; with `reference`, the sketches `judge_block` will compare with, they say how
            much a feature moves from block to block without drift. Without them PSI is held against 0.25 alone.
    """
    rate, week = watch.false_alarms.within(watch.every), max(1, round(timedelta(days=7) / watch.every))
    judged = [b for b in reference_blocks if b.matured >= LEAST_MATURED]
    half = 2 * WATCHED  # quality is told by two charts
    quality_chart = _chart([(b.excess, b.excess_variance, b) for b in judged], rate, two_sided=False, seed=seed, watched=half)
    ranking_chart = _chart([(b.deficit, b.deficit_variance, b) for b in judged], rate, two_sided=False, seed=seed + 2, watched=half)
    calibration_chart = _chart([(b.gap, b.gap_variance, b) for b in judged], rate, two_sided=True, seed=seed + 1)
    if not features or reference is None:
        return Thresholds(quality_chart, calibration_chart, week, ranking=ranking_chart)
    windows = [rolling(features[: i + 1], week) for i in range(len(features))]
    return Thresholds(
        quality_chart,
        calibration_chart,
        week,
        _levels(features, LEAST_BLOCK, 1, reference, rate),
        _levels(windows[week - 1 :], LEAST_WINDOW, week, reference, rate),
        _limits(features, windows, reference),
        _constant(features, reference),
        *_jumps(features, reference, rate),
        ranking_chart,
    )


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


def chart_limits(values: np.ndarray, rate: float, *, watched: int, two_sided: bool, seed: int) -> tuple[float, float, float, float]:
    """(threshold of the CUSUM, tolerated rate, achieved rate, limit of a single block), which share the rate in halves.

    A single block's limit is at least what an exponential tail of the recorded values says, since a bootstrap never draws beyond them.
    """
    each = _each(rate, watched)
    length = max(1, min(LONGEST, round(1 / each)))
    rng = np.random.default_rng(seed)
    allowed = exp(-each / 2 * length)
    paths = _paths(values, length, rng)
    h = float(np.quantile(peaks(paths, two_sided=two_sided), allowed, method="higher"))
    highest = np.abs(paths).max(axis=1) if two_sided else paths.max(axis=1)
    single = float(np.quantile(highest, allowed, method="higher"))
    if len(values) >= FEW and values.std() > 0:
        standard = (values - values.mean()) / values.std(ddof=1)
        single = max(single, level_threshold(np.abs(standard) if two_sided else standard, each / 2))
    fresh = _paths(values, length, rng)
    calm = (np.abs(fresh).max(axis=1) if two_sided else fresh.max(axis=1)) <= single
    silent = float(((peaks(fresh, two_sided=two_sided) <= h) & calm).mean())
    return h, each, -log(max(silent, 0.5 / PATHS)) / length, single


def level_threshold(values: np.ndarray, rate: float, *, watched: int = 1, overlap: int = 1) -> float:
    """The level that a per-block distance like PSI exceeds `rate / watched` times per block.

    A distance is small on most days and large on few: its largest quarter (the largest four where that is more) is taken to fall off exponentially
    beyond the value u it begins at, with the mean excess m (peaks over threshold, Pickands 1975). As m is estimated from k values, one more value
    exceeds u + x with probability share * (1 + x / (k m)) ** -k, which is solved for x. Windows that `overlap` blocks count as that many
    times fewer. With less than two left nothing is known and the level is 0 (the effect alone decides).
    """
    each, n = _each(rate, watched) * overlap, len(values) / overlap
    if n < 2:
        return 0.0
    share = min(1.0, max(0.25, 4 / n))
    if each >= share:
        return float(np.quantile(values, 1 - min(1.0, each)))
    begin = float(np.quantile(values, 1 - share))
    excess = float(np.mean(values[values >= begin] - begin))
    k = share * n
    return begin + k * excess * (pow(share / each, 1.0 / k) - 1.0)


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
        reference, path = draw(values, PATHS, n, rng), draw(values, PATHS, length, rng)
    spread = reference.std(axis=1, ddof=1, keepdims=True)
    usual = float(np.median(spread))
    return np.asarray((path - reference.mean(axis=1, keepdims=True)) / np.maximum(spread, 0.1 * usual))


def _chart(
    rows: Sequence[tuple[float | None, float | None, BlockStats]], rate: float, *, two_sided: bool, seed: int, watched: int = WATCHED
) -> Chart | None:
    known = [(value, variance or 0.0, block.matured) for value, variance, block in rows if value is not None]
    implied = all(block.expected_loss is not None for _, _, block in rows)  # a class's probability implies its variance; a number's error has none
    if len(known) < LEAST_REFERENCE:
        if known and not implied:
            return None
        return Chart(0.0, 0.0, 1.0, None, *chart_limits(np.array([]), rate, watched=watched, two_sided=two_sided, seed=seed))
    values, variances, counts = (np.array(column, dtype=np.float64) for column in zip(*known))
    row_variance = None if implied else float(np.average(variances, weights=counts))
    noise = (variances if row_variance is None else np.full(len(values), row_variance)) / counts
    between = sqrt(max(0.0, float(values.var(ddof=1) - noise.mean())))
    weights = 1 / np.maximum(between**2 + noise, 1e-18)
    mean = float(np.average(values, weights=weights))
    z = (values - mean) * np.sqrt(weights)
    limits = chart_limits(z, rate, watched=watched, two_sided=two_sided, seed=seed)
    return Chart(mean, between, max(1.0, float(z.std(ddof=1))), row_variance, *limits)


def _levels(spans: Sequence[Mapping[str, Sketch]], least: int, overlap: int, reference: Mapping[str, Sketch], rate: float) -> dict[str, float]:
    """The level of each name, from drift-free blocks or from the weeks that end with them."""
    answers = sum(name.startswith(PREDICTION) for name in reference)
    levels = {}
    for name in reference:
        values = [psi.score(reference[name], span[name]).value for span in spans if name in span and span[name].count >= least]
        among = 2 * answers if name.startswith(PREDICTION) else 3 * (len(reference) - answers)  # by block, by week, and (inputs) for jumps
        if len(values) >= 2:
            levels[name] = max(MOVED, level_threshold(np.array(values), rate, watched=WATCHED * among, overlap=overlap))
    return levels


def _jumps(
    features: Sequence[Mapping[str, Sketch]], reference: Mapping[str, Sketch], rate: float
) -> tuple[dict[str, float], tuple[str, ...]]:
    """The level of each number's jump over the blocks before it, and the changes of unit that drift-free blocks look like."""
    levels: dict[str, float] = {}
    odd: list[str] = []
    for name in reference:
        if name.startswith(PREDICTION):
            continue
        looked = [(features[:i], block[name]) for i, block in enumerate(features) if name in block]
        values = [v for before, now in looked if (v := recent.jumped(name, reference, before, now, LEAST_BLOCK)) is not None]
        if len(values) >= FEW:
            usual = level_threshold(np.array(values), rate, watched=WATCHED * 3 * len(reference))
            levels[name] = max(_LEAST_JUMP, 1.2 * max(values), usual)
        changes = [recent.unit(name, before, now, LEAST_BLOCK) for before, now in looked]
        odd += dict.fromkeys(f"{name}: {change.name}" for change in changes if change is not None)
    return levels, tuple(odd)


def _limits(
    features: Sequence[Mapping[str, Sketch]], windows: Sequence[Mapping[str, Sketch]], reference: Mapping[str, Sketch]
) -> dict[str, dict[str, float]]:
    """The stated limit above the most that drift-free blocks (or windows, where blocks are small) showed."""
    limits: dict[str, dict[str, float]] = {metric: {} for metric in LIMITS}
    for name in reference:
        judged = [(b[name] if b[name].count >= LEAST_BLOCK else w[name], i) for i, (b, w) in enumerate(zip(features, windows)) if name in b]
        before = [[b[name] for b in features[max(0, i - recent.BLOCKS) : i] if name in b] or [reference[name]] for _, i in judged]
        measured = [quality.score(reference[name], sketch, before=past) for (sketch, _), past in zip(judged, before)]
        for metric, standard in LIMITS.items():
            limits[metric][name] = standard + max((max(0.0, float(getattr(m, metric))) for m in measured), default=0.0)
    return limits


def _constant(features: Sequence[Mapping[str, Sketch]], reference: Mapping[str, Sketch]) -> tuple[str, ...]:
    return tuple(name for name in reference if any(name in b and quality.score(reference[name], b[name], common=2.0).constant for b in features))
