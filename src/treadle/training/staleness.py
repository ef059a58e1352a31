"""How fast the model ages: the same recipe, trained on what was known some time before, judged on the same newer rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from treadle.core.declare.model import Task
from treadle.training.losses import row_loss

CUTS = (0.25, 0.5)  # of the training span: ages at which an older model is made
MOST_ROWS = 20_000
FEWEST = 50


def staleness(
    task: Task, moments: np.ndarray, known: np.ndarray, truth: np.ndarray, test_truth: np.ndarray, weights: np.ndarray,
    refit: Callable[[np.ndarray], np.ndarray], seed: int = 0,
) -> dict[str, Any] | None:  # fmt: skip
    """The curve, as JSON; None without times.

    Args:
        moments, known, truth: of the search rows (microseconds; known is when the truth was).
        test_truth, weights: of the test rows; weights are the block bootstrap's.
        refit: positions of search rows to the outputs, on the test rows, of the winner's setting fitted on them.
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
    if size < FEWEST or (task != "regression" and len(np.unique(truth[oldest])) < len(np.unique(truth[order]))):
        return None
    points: list[dict[str, Any]] = []
    fresh: np.ndarray | None = None
    for limit in ends:
        usable = order[known[order] <= limit][-size:]  # the newest of what was known then
        if task != "regression" and len(np.unique(truth[usable])) < len(np.unique(truth[order])):
            return None
        loss = row_loss(task, test_truth, refit(np.sort(usable)))
        fresh = loss if fresh is None else fresh
        totals = weights.sum(axis=1)
        means = (weights @ (loss - fresh))[totals > 0] / totals[totals > 0]
        points.append({
            "age_days": round((end - limit) / day, 2), "rows": len(usable), "loss": float(loss.mean()), "worse_by": float((loss - fresh).mean()),
            "low": float(np.percentile(means, 2.5)), "high": float(np.percentile(means, 97.5)),
        })  # fmt: skip
    ages = np.array([p["age_days"] for p in points])
    slope = float(np.polyfit(ages, [p["loss"] for p in points], 1)[0]) * 30
    return {"points": points, "per_30_days": slope, "loss": "absolute error" if task == "regression" else "log loss"}
