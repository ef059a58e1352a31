"""Calibrates a whole watch: thresholds from drift-free blocks and the tolerated rate of false alarms, corrected for the number of things watched.

The rate is shared among the kinds that are judged (`PARTS`, Bonferroni), each kind's part among what it looks at: columns among features and what is
asked of each (the block, the week, a jump, a unit, two ranges), answers likewise, and what is beside them among groups, unusual rows, contributions.

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
from treadle.monitoring.replayed import Replays
from treadle.monitoring.sketches import NumberSketch, Sketch, rolling
from treadle.monitoring.thresholds import LEAST_BLOCK, LEAST_MATURED, LEAST_REFERENCE, LEAST_WINDOW, LIMITS, MOVED, Thresholds

_LEAST_JUMP = 6.0  # robust standard deviations: what few reference blocks cannot rule out
MARGIN = 1.2  # above what was recorded
_LEAST_LEFT = 0.5  # of the values
_LOOKS = 6  # at a feature: its block, its week, a jump, a unit, the range of training, that of the last weeks
_BESIDE = ("fairness", "outliers", "attribution")
# The order of rows shows faults soonest, and seasons least: it has the largest part.
PARTS = {"loss": 0.1, "ranking": 0.4, "calibration": 0.1, "columns": 0.25, "answers": 0.05, "beside": 0.1}
Columns = Mapping[str, Sketch]


class Watched(Protocol):
    """What is read of a `Watch` declaration."""

    @property
    def every(self) -> timedelta: ...

    @property
    def false_alarms(self) -> Rate: ...


def shares_among(kinds: Collection[str], ranked: bool = True, beside: bool = True) -> dict[str, float]:
    """The part of the tolerated rate that each kind of look may use; together 1. What is not looked at leaves its part to the others.

    Args:
        ranked: whether the order of rows is known of the reference. beside: whether aspects are.

    >>> round(sum(shares_among(("quality", "input")).values()), 9)
    1.0
    """
    looked = {
        "loss": "quality" in kinds, "ranking": "quality" in kinds and ranked, "calibration": "calibration" in kinds,
        "columns": bool({"input", "data_quality"} & set(kinds)), "answers": "prediction" in kinds,
        "beside": beside and bool(set(_BESIDE) & set(kinds)),
    }  # fmt: skip
    total = sum(part for name, part in PARTS.items() if looked[name]) or 1.0
    return {name: part / total for name, part in PARTS.items() if looked[name]} or {"columns": 1.0}


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
    ranked = sum(b.deficit is not None for b in judged) >= LEAST_REFERENCE or not judged
    shares = shares_among(getattr(watch, "kinds", JUDGED), ranked, bool(aspects))
    among = {name: 1 / shares[name] if name in shares else 1 / PARTS[name] for name in PARTS}  # what is not judged is calibrated all the same
    losses = chart([(b.excess, b.excess_variance, b) for b in judged], rate, two_sided=False, seed=seed, watched=among["loss"], trends=True)
    order_of_rows = chart([(b.deficit, b.deficit_variance, b) for b in judged], rate, two_sided=False, seed=seed + 2, watched=among["ranking"])
    gaps = chart([(b.gap, b.gap_variance, b) for b in judged], rate, two_sided=True, seed=seed + 1, watched=among["calibration"])
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
    jumps, units, lefts = _jumps(features, reference, rate, among["columns"], replays)
    return Thresholds(
        quality=losses,
        calibration=gaps,
        ranking=order_of_rows,
        week=week,
        block_levels=_levels(features, LEAST_BLOCK, 1, reference, rate, among),
        week_levels=_levels(windows[week - 1 :], LEAST_WINDOW, week, reference, rate, among),
        limits=_limits(features, windows, reference, rate, among["columns"], replays),
        usually_constant=_constant(features, reference),
        jump_levels=jumps,
        unit_levels=units,
        left_levels=lefts,
        usual=usual_of(aspects, odd_score, rate, among["beside"], seed + 3),
        achieved=achieved,
    )


def _each(reference: Columns, rate: float, watched: float) -> float:
    """The rate of one look at one feature."""
    return share_of(rate, watched * _LOOKS * max(1, sum(not name.startswith(PREDICTION) for name in reference)))


def _levels(spans: Sequence[Columns], least: int, overlap: int, reference: Columns, rate: float, among: Mapping[str, float]) -> dict[str, float]:
    """The level of each name, from drift-free blocks or from the weeks that end with them."""
    answers = sum(name.startswith(PREDICTION) for name in reference)
    levels = {}
    for name in reference:
        values = [psi.score(reference[name], span[name]).value for span in spans if name in span and span[name].count >= least]
        looks = 2 * answers * among["answers"] if name.startswith(PREDICTION) else _LOOKS * (len(reference) - answers) * among["columns"]
        if len(values) >= 2:
            levels[name] = max(MOVED, level_threshold(np.array(values), rate, watched=looks, overlap=overlap))  # answers: by block and by week
    return levels


def _jumps(
    features: Sequence[Columns], reference: Columns, rate: float, watched: float, replays: Replays | None
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """The level of each number's jump over the blocks before it; how strange drift-free blocks were that looked like another unit; and how much of
    them lay outside the range of the last weeks, with a half at least."""
    levels: dict[str, float] = {}
    strange: dict[str, float] = {}
    lefts: dict[str, float] = {}
    each, numbers = _each(reference, rate, watched), _numbers(reference)
    jumps, units, outside = _drawn(numbers, rate, watched, replays, "jump", "unit", "left")
    for name in numbers:
        looked = [(features[max(0, i - recent.BLOCKS) : i], block[name]) for i, block in enumerate(features) if name in block]
        values = [v for before, now in looked if (v := recent.jumped(name, reference, before, now, LEAST_BLOCK)) is not None]
        if len(values) >= FEW:
            levels[name] = max(_LEAST_JUMP, MARGIN * max(values), jumps.get(name, 0.0), level_threshold(np.array(values), each))
        changes = [change.strange for before, now in looked if (change := recent.unit(name, before, now, LEAST_BLOCK)) is not None]
        most = max(MARGIN * max(changes, default=0.0), units.get(name, 0.0))
        if most > 0:
            strange[name] = most
        shares = [share for before, now in looked if (share := recent.left(name, before, now, LEAST_BLOCK)) is not None]
        if len(shares) >= FEW:
            lefts[name] = max(_LEAST_LEFT, *shares, outside.get(name, 0.0))
    return levels, strange, lefts


def _limits(
    features: Sequence[Columns], windows: Sequence[Columns], reference: Columns, rate: float, watched: float, replays: Replays | None
) -> dict[str, dict[str, float]]:
    """The stated limit above the most that drift-free blocks (or windows, where blocks are small) showed, in any order of their weeks."""
    limits: dict[str, dict[str, float]] = {metric: {} for metric in LIMITS}
    (drawn,) = _drawn(_numbers(reference), rate, watched, replays, "outside")
    for name, usual in reference.items():
        judged = [(b[name] if b[name].count >= LEAST_BLOCK else w[name], i) for i, (b, w) in enumerate(zip(features, windows)) if name in b]
        before = [[b[name] for b in features[max(0, i - recent.BLOCKS) : i] if name in b] or [usual] for _, i in judged]
        measured = [quality.score(usual, sketch, before=past) for (sketch, _), past in zip(judged, before)]
        for metric, standard in LIMITS.items():
            limits[metric][name] = standard + max((max(0.0, float(getattr(m, metric))) for m in measured), default=0.0)
        limits["out_of_range"][name] = max(limits["out_of_range"][name], LIMITS["out_of_range"] + drawn.get(name, 0.0))
    return limits


def _numbers(reference: Columns) -> list[str]:
    return [name for name, sketch in reference.items() if isinstance(sketch, NumberSketch) and not name.startswith(PREDICTION)]


def _drawn(names: Sequence[str], rate: float, watched: float, replays: Replays | None, *looks: str) -> list[dict[str, float]]:
    """The limits of each way of looking that replays give to the names, where they say anything."""
    if replays is None:
        return [{} for _ in looks]
    each = share_of(rate, watched * _LOOKS)
    return [replays.together({n: found for n in names if (found := getattr(replays, look)(n)) is not None}, each) for look in looks]


def _constant(features: Sequence[Columns], reference: Columns) -> tuple[str, ...]:
    return tuple(name for name in reference if any(name in b and quality.score(reference[name], b[name], common=2.0).constant for b in features))
