"""Does a model still put the right rows first: the area under the ROC curve of a block, against what its own probabilities promise.

    deficit = (AUC if every row came true with its probability p) - (AUC)
    expected AUC = sum over i != j of p_i (1 - p_j) [p_i > p_j or half of a tie] / sum over i != j of p_i (1 - p_j)

A day on which everything is late shifts truth against prediction for all rows alike and leaves their order: the loss of such a day is large, this is
not. So what mixes rows up (a broken join, wrong labels, a wrong score) shows in it within a day where the loss needs a week. For several classes the
rows are ranked by the probability of the class held most probable, and 'came true' is whether that was right. For a regression it is 1 minus the rank
correlation of prediction and truth, and nothing is expected.

Variance of an AUC: Hanley and McNeil (1982), "The Meaning and Use of the Area under a ROC Curve".
Unit of independence: the block; the variance is that of independent rows, the least a block can have.
"""

from __future__ import annotations

import numpy as np

from treadle.core.declare.model import Task

LEAST = 10  # rows of either outcome


def deficit(task: Task, y: np.ndarray, p: np.ndarray) -> tuple[float, float] | None:
    """(deficit, variance of a row: that of the deficit is this over the number of rows); None where there are too few rows of either outcome.

    Args:
        y: class codes or numbers; p: outputs (n, classes) or (n, 1); all known.
    """
    if task == "regression":
        return _correlation(y, p[:, 0])
    score = p[:, 1] if task == "binary" else p.max(axis=1)
    truth = (y == 1) if task == "binary" else (y == p.argmax(axis=1))
    n, positive = len(truth), int(truth.sum())
    if min(positive, n - positive) < LEAST:
        return None
    a = _area(score, truth.astype(np.float64), 1.0 - truth)
    expected = _area(score, score, 1.0 - score, itself=True)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (positive - 1) * (q1 - a * a) + (n - positive - 1) * (q2 - a * a)) / (positive * (n - positive))
    return expected - a, max(0.0, variance) * n


def _area(score: np.ndarray, positive: np.ndarray, negative: np.ndarray, *, itself: bool = False) -> float:
    """Weighted area under the ROC curve; ties count half. `itself`: each row is both, and is not compared with itself."""
    values, place = np.unique(score, return_inverse=True)
    plus, minus = (np.bincount(place, weights=w, minlength=len(values)) for w in (positive, negative))
    before = np.cumsum(minus) - minus
    own = float((positive * negative).sum()) if itself else 0.0
    whole = float(plus.sum() * minus.sum()) - own
    return (float((plus * (before + 0.5 * minus)).sum()) - 0.5 * own) / whole if whole > 0 else 0.5


def _correlation(y: np.ndarray, p: np.ndarray) -> tuple[float, float] | None:
    if len(y) < 2 * LEAST:
        return None
    first, second = (np.unique(v, return_inverse=True, return_counts=True) for v in (y, p))
    ranks = [(np.cumsum(counts) - (counts - 1) / 2)[place] for _, place, counts in (first, second)]
    spread = float(ranks[0].std() * ranks[1].std())
    if spread <= 0:
        return None
    r = float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean()))) / spread
    return 1.0 - r, (1.0 - r * r) ** 2 + 0.06
