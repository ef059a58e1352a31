"""Calibrates a whole watch: thresholds from drift-free blocks and the tolerated rate of false alarms, corrected for the number of things watched.

The rate is shared among the kinds that are judged (Bonferroni), each kind's part among what it looks at: quality among the loss and the order of
rows, inputs among the features and what is asked of each (the block, the week, a jump, a range, a unit), answers likewise, and what is beside them
among groups, unusual rows and contributions.

Unit of independence: the block, or the run or week of neighbouring blocks where these resemble each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import numpy as np

from treadle.core.declare.operations import JUDGED, Rate
from treadle.monitoring import recent
from treadle.monitoring.aspects import Aspects
from treadle.monitoring.blocks import PREDICTION, BlockStats
from treadle.monitoring.calibrate_aspects import usual_of
from treadle.monitoring.charts import FEW, chart, level_threshold, share_of
from treadle.monitoring.detectors import psi, quality
from treadle.monitoring.replayed import MARGIN, Replays
from treadle.monitoring.sketches import NumberSketch, Sketch, rolling
from treadle.monitoring.thresholds import LEAST_BLOCK, LEAST_MATURED, LEAST_WINDOW, LIMITS, MOVED, Thresholds

_LEAST_JUMP = 6.0  # robust standard deviations: what few reference blocks cannot rule out
_LOOKS = 5  # at a feature: its block, its week, a jump, a range, a unit
_BESIDE = ("fairness", "outliers", "attribution")
Columns = Mapping[str, Sketch]


class Watched(Protocol):
    """What is read of a `Watch` declaration."""

    @property
    def every(self) -> timedelta: ...

    @property
    def false_alarms(self) -> Rate: ...


def kinds_among(kinds: Collection[str], beside: bool = True) -> int:
    """Among how many kinds the tolerated rate is shared: quality, calibration, columns, answers, and what is beside them."""
    found = sum(kind in kinds for kind in ("quality", "calibration", "prediction"))
    return max(1, found + bool({"input", "data_quality"} & set(kinds)) + (beside and bool(set(_BESIDE) & set(kinds))))


def calibrate_watch(
    reference_blocks: Sequence[BlockStats], watch: Watched, seed: int = 0, *,
    features: Sequence[Columns] = (), reference: Columns | None = None, aspects: Sequence[Aspects] = (), odd_score: float = float("inf"),
) -> Thresholds:  # fmt: skip
    """Thresholds at which blocks like these alarm falsely at the watch's rate, over everything watched together.

    Args:
        reference_blocks: drift-free blocks the model was not fitted on (its test window, validation folds), of the same length as production's.
        features: the sketches of each of those blocks, in order of time; with `reference`, the sketches `judge_block` will compare with, they say how
            much a feature moves from block to block without drift. Without them PSI is held against 0.25 alone.
        aspects: what those blocks said beside, with rows counted as unusual above `odd_score`.
    """
    rate, week = watch.false_alarms.within(watch.every), max(1, round(timedelta(days=7) / watch.every))
    judged = [b for b in reference_blocks if b.matured >= LEAST_MATURED]
    watched = kinds_among(getattr(watch, "kinds", JUDGED), bool(aspects))
    half = 2 * watched  # quality is told by two series
    losses = chart([(b.excess, b.excess_variance, b) for b in judged], rate, two_sided=False, seed=seed, watched=half, trends=True)
    order_of_rows = chart([(b.deficit, b.deficit_variance, b) for b in judged], rate, two_sided=False, seed=seed + 2, watched=half)
    gaps = chart([(b.gap, b.gap_variance, b) for b in judged], rate, two_sided=True, seed=seed + 1, watched=watched)
    charts = {"quality": losses, "ranking": order_of_rows, "calibration": gaps}
    achieved = {name: one.achieved for name, one in charts.items() if one is not None}
    if not features or reference is None:
        return Thresholds(losses, gaps, week, ranking=order_of_rows, achieved=achieved)
    windows = [rolling(features[: i + 1], week) for i in range(len(features))]
    every = max(1, round(watch.every.total_seconds() * 1e6))
    order = np.array([b.start // every for b in reference_blocks])
    replays = None
    if week == 7 and len(order) == len(features) >= 3 * FEW and (np.diff(order) > 0).all():
        replays = Replays(features, order, reference, LEAST_BLOCK, seed)
    jumps, units = _jumps(features, reference, rate, watched, replays)
    return Thresholds(
        quality=losses,
        calibration=gaps,
        ranking=order_of_rows,
        week=week,
        block_levels=_levels(features, LEAST_BLOCK, 1, reference, rate, watched),
        week_levels=_levels(windows[week - 1 :], LEAST_WINDOW, week, reference, rate, watched),
        limits=_limits(features, windows, reference, rate, watched, replays),
        usually_constant=_constant(features, reference),
        jump_levels=jumps,
        unit_levels=units,
        usual=usual_of(aspects, odd_score, rate, watched, seed + 3),
        achieved=achieved,
    )


def _each(reference: Columns, rate: float, watched: int) -> float:
    """The rate of one look at one feature."""
    return share_of(rate, watched * _LOOKS * max(1, sum(not name.startswith(PREDICTION) for name in reference)))


def _levels(spans: Sequence[Columns], least: int, overlap: int, reference: Columns, rate: float, watched: int) -> dict[str, float]:
    """The level of each name, from drift-free blocks or from the weeks that end with them."""
    answers = sum(name.startswith(PREDICTION) for name in reference)
    levels = {}
    for name in reference:
        values = [psi.score(reference[name], span[name]).value for span in spans if name in span and span[name].count >= least]
        among = 2 * answers if name.startswith(PREDICTION) else _LOOKS * (len(reference) - answers)  # answers: by block and by week
        if len(values) >= 2:
            levels[name] = max(MOVED, level_threshold(np.array(values), rate, watched=watched * among, overlap=overlap))
    return levels


def _jumps(
    features: Sequence[Columns], reference: Columns, rate: float, watched: int, replays: Replays | None
) -> tuple[dict[str, float], dict[str, float]]:
    """The level of each number's jump over the blocks before it; and how strange drift-free blocks were that looked like another unit."""
    levels: dict[str, float] = {}
    strange: dict[str, float] = {}
    each = _each(reference, rate, watched)
    for name, usual in reference.items():
        if name.startswith(PREDICTION) or not isinstance(usual, NumberSketch):
            continue
        looked = [(features[max(0, i - recent.BLOCKS) : i], block[name]) for i, block in enumerate(features) if name in block]
        values = [v for before, now in looked if (v := recent.jumped(name, reference, before, now, LEAST_BLOCK)) is not None]
        if len(values) >= FEW:
            drawn = 0.0 if replays is None else replays.jump(name, each)
            levels[name] = max(_LEAST_JUMP, MARGIN * max(values), drawn, level_threshold(np.array(values), each))
        changes = [change.strange for before, now in looked if (change := recent.unit(name, before, now, LEAST_BLOCK)) is not None]
        most = max(MARGIN * max(changes, default=0.0), 0.0 if replays is None else replays.unit(name, each))
        if most > 0:
            strange[name] = most
    return levels, strange


def _limits(
    features: Sequence[Columns], windows: Sequence[Columns], reference: Columns, rate: float, watched: int, replays: Replays | None
) -> dict[str, dict[str, float]]:
    """The stated limit above the most that drift-free blocks (or windows, where blocks are small) showed, in any order of their weeks."""
    limits: dict[str, dict[str, float]] = {metric: {} for metric in LIMITS}
    each = _each(reference, rate, watched)
    for name, usual in reference.items():
        judged = [(b[name] if b[name].count >= LEAST_BLOCK else w[name], i) for i, (b, w) in enumerate(zip(features, windows)) if name in b]
        before = [[b[name] for b in features[max(0, i - recent.BLOCKS) : i] if name in b] or [usual] for _, i in judged]
        measured = [quality.score(usual, sketch, before=past) for (sketch, _), past in zip(judged, before)]
        for metric, standard in LIMITS.items():
            limits[metric][name] = standard + max((max(0.0, float(getattr(m, metric))) for m in measured), default=0.0)
        if replays is not None and isinstance(usual, NumberSketch) and not name.startswith(PREDICTION):
            limits["out_of_range"][name] = max(limits["out_of_range"][name], LIMITS["out_of_range"] + replays.outside(name, each))
    return limits


def _constant(features: Sequence[Columns], reference: Columns) -> tuple[str, ...]:
    return tuple(name for name in reference if any(name in b and quality.score(reference[name], b[name], common=2.0).constant for b in features))
