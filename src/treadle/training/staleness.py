"""How fast the model ages: the same recipe, trained on what was known some time before, judged on the same newer rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

CUTS = (0.25, 0.5)  # of the training span: ages at which an older model is made
MOST_ROWS = 20_000
FEWEST = 50


def staleness(
    moments: np.ndarray, known: np.ndarray, truth: np.ndarray, weights: np.ndarray, loss_of: Callable[[np.ndarray], np.ndarray], *, classes: bool,
    loss: str,
) -> dict[str, Any] | None:
    """The curve, as JSON; None without times.

    Args:
        moments, known, truth: of the search rows (microseconds; known is when the truth was).
        weights: the block bootstrap's, one column for each loss.
        loss_of: positions of search rows to the losses, on the test rows, of the winner's setting fitted on them.
        classes: whether the truth is one of a few classes, all of which a model must have seen. `loss`: what the losses are called.
    Returns: 'points': [{'age_days', 'rows', 'loss', 'worse_by', 'low', 'high'}], the youngest first, each made from the same number of rows so that
        only age differs; and 'per_30_days': by how much the loss grows.
    """
    there = np.isfinite(moments) & np.isfinite(known)
    if there.sum() < 4 * FEWEST:
        return None
    order = np.flatnonzero(there)[np.argsort(moments[there], kind="stable")]
    start, end = moments[order[0]], float(known[order].max())
    span = end - start
    day = 86_400e6
    if span < day:
        return None
    ends = [end, *(end - cut * span for cut in CUTS)]
    oldest = order[known[order] <= ends[-1]]
    size = min(len(oldest), MOST_ROWS)
    if size < FEWEST or (classes and len(np.unique(truth[oldest])) < len(np.unique(truth[order]))):
        return None
    points: list[dict[str, Any]] = []
    fresh: np.ndarray | None = None
    for limit in ends:
        usable = order[known[order] <= limit][-size:]  # the newest of what was known then
        if classes and len(np.unique(truth[usable])) < len(np.unique(truth[order])):
            return None
        found = loss_of(np.sort(usable))
        fresh = found if fresh is None else fresh
        totals = weights.sum(axis=1)
        means = (weights @ (found - fresh))[totals > 0] / totals[totals > 0]
        points.append({
            "age_days": round((end - limit) / day, 2), "rows": len(usable), "loss": float(found.mean()), "worse_by": float((found - fresh).mean()),
            "low": float(np.percentile(means, 2.5)), "high": float(np.percentile(means, 97.5)),
        })  # fmt: skip
    ages = np.array([p["age_days"] for p in points])
    slope = float(np.polyfit(ages, [p["loss"] for p in points], 1)[0]) * 30
    return {"points": points, "per_30_days": slope, "loss": loss}
