"""Intervals and sets that hold what they promise: split conformal prediction, with the coverage measured on the test rows.

Scores are those of rows the answering model was not fitted on: the validation rows of the search's folds. For numbers the score is the absolute
error and the interval plus or minus its quantile; for a quantile forecast by how much the truth is above it (the one-sided form of Romano,
Patterson and Candès 2019); for classes it is 1 minus the probability of the true class and the set holds every class above
the threshold. Sources: Vovk, Gammerman and Shafer (2005); Lei and others (2018), "Distribution-Free Predictive Inference for Regression"; Sadinle,
Lei and Wasserman (2019) for sets of classes. Taking the scores from the folds is Vovk's (2015) cross-conformal prediction: the folds' models saw
fewer rows, so that the promise is kept with a little room, as long as rows are exchangeable. Over time they are not, and the measured coverage
says how far it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.core.declare.model import Task
from treadle.training.losses import of_classes

LEVELS = (0.9,)
FEWEST = 20


def scores(task: Task, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
    """How strange each row's truth is in the light of its output."""
    if task == "quantile":  # one side is promised: that the truth is not above
        return np.asarray(truth - output[:, 0])
    if not of_classes(task):
        return np.asarray(np.abs(truth - output[:, 0]))
    return np.asarray(1 - output[np.arange(len(truth)), truth.astype(int)])


def threshold(values: np.ndarray, level: float) -> float | None:
    """The conformal quantile: the ceil((n + 1) level)-th smallest score; None when there are too few to promise the level."""
    n = len(values)
    rank = int(np.ceil((n + 1) * level))
    return float(np.sort(values)[rank - 1]) if n >= FEWEST and rank <= n else None


def conformal(
    task: Task, validation: Sequence[tuple[np.ndarray, np.ndarray]], searched: np.ndarray, truth: np.ndarray, output: np.ndarray, weights: np.ndarray,
    levels: Sequence[float] = LEVELS,
) -> list[dict[str, Any]]:
    """What each level promises and what it keeps, as JSON.

    Args:
        validation: for each fold the positions of its validation rows into `searched`, and what was said of them.
        searched: the truths of the search rows.
        truth, output, weights: of the test rows; weights are the block bootstrap's.
        levels: how often the truth is to be held; of a quantile forecast, that quantile.
    Returns: for each level {'level', 'threshold', 'calibrated_on', 'coverage', 'low', 'high', 'size'}; size is the mean number of classes, the width
        of the interval, or what is added to a quantile. Empty when too few rows are there to promise anything.
    """
    if not validation:
        return []
    calibration = np.concatenate([scores(task, searched[rows], said) for rows, said in validation])
    own = scores(task, truth, output)
    found = []
    for level in levels:
        limit = threshold(calibration, level)
        if limit is None:
            continue
        covered = (own <= limit).astype(np.float64)
        totals = weights.sum(axis=1)
        means = (weights @ covered)[totals > 0] / totals[totals > 0]
        size = float((1 - output <= limit).sum(axis=1).mean()) if of_classes(task) else limit if task == "quantile" else 2 * limit
        found.append({
            "level": level, "threshold": limit, "calibrated_on": len(calibration), "coverage": float(covered.mean()),
            "low": float(np.percentile(means, 2.5)), "high": float(np.percentile(means, 97.5)), "size": size,
        })  # fmt: skip
    return found
