"""How wrong a prediction is, row by row, and summary metrics that accept row weights (for fast bootstraps)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from treadle.core.declare.model import Task

FLOOR = 1e-6  # a probability of exactly 0 would make one wrong row infinitely bad


def row_loss(task: Task, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Loss of each row: minus log probability of the true class, or the absolute error.

    Args:
        truth: class codes or numbers, shape (n,).
        output: probabilities (n, classes), or (n, 1) predictions.
    """
    if task == "regression":
        return np.asarray(np.abs(truth - output[:, 0]))
    return np.asarray(-np.log(np.clip(output[np.arange(len(truth)), truth], FLOOR, 1.0)))


Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def metrics(task: Task) -> dict[str, Metric]:
    """Metric name to a function of (truth (n,), output, weights (replicates, n)) that gives one value a replicate; NaN where it is not defined.

    The first one is the primary metric.
    """
    if task == "regression":
        return {
            "mae": _mean(lambda y, o: np.abs(y - o[:, 0])),
            "rmse": lambda y, o, w: np.sqrt(_mean(lambda y, o: (y - o[:, 0]) ** 2)(y, o, w)),
            "r2": _r2,
        }
    log_loss = _mean(lambda y, o: row_loss("multiclass", y, o))
    accuracy = _mean(lambda y, o: (o.argmax(axis=1) == y).astype(np.float64))
    if task == "binary":
        return {
            "roc_auc": lambda y, o, w: auc_each(y, o[:, 1], w), "log_loss": log_loss,
            "brier": _mean(lambda y, o: (o[:, 1] - y) ** 2), "accuracy": accuracy,
        }  # fmt: skip
    return {"log_loss": log_loss, "accuracy": accuracy}


HIGHER_IS_BETTER = {"roc_auc", "accuracy", "r2"}


def auc(truth: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Weighted area under the ROC curve: the probability that a positive row scores above a negative one, ties counting half. NaN with one class."""
    return float(auc_each(truth, score, (np.ones(len(truth)) if weights is None else weights)[None, :])[0])


def auc_each(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The area under the ROC curve for each row of weights (replicates, n); the scores are sorted once for all."""
    if not len(truth):
        return np.full(len(weights), np.nan)
    order = np.argsort(score, kind="stable")
    s, y = score[order], truth[order]
    ends = np.flatnonzero(np.append(s[1:] != s[:-1], True))
    found = np.empty(len(weights))
    for start in range(0, len(weights), 64):  # in parts: all replicates of a large test set at once would fill the memory
        w = weights[start : start + 64][:, order]
        n = np.cumsum(w * (y == 0), axis=1)[:, ends]
        p = np.cumsum(w * (y == 1), axis=1)[:, ends]
        before = np.hstack([np.zeros((len(w), 1)), n[:, :-1]])
        steps = np.diff(np.hstack([np.zeros((len(w), 1)), p]), axis=1)
        total = n[:, -1] * p[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            found[start : start + 64] = np.where(total > 0, np.sum(steps * (before + n) / 2, axis=1) / total, np.nan)
    return found


def _mean(values: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Metric:
    def metric(truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> np.ndarray:
        total = weights.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total > 0, weights @ values(truth, output) / total, np.nan)

    return metric


def _r2(truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1)
    near = truth - truth.mean()  # else values far from zero with a small spread would lose it to rounding
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = weights @ near**2 / total - (weights @ near / total) ** 2
        error = weights @ (truth - output[:, 0]) ** 2 / total
        return np.where(spread > 1e-18 * np.max(truth**2), 1 - error / spread, np.nan)


def calibration(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> tuple[float, list[dict[str, float]]]:
    """Expected calibration error over bins of equal count, and the curve: predicted and observed share of each bin.

    Source: Naeini, Cooper, Hauskrecht (2015), "Obtaining Well Calibrated Probabilities Using Bayesian Binning", with equal-mass bins.
    """
    parts = [part for part in np.array_split(np.argsort(probability, kind="stable"), bins) if len(part)]
    curve = [{"predicted": float(probability[p].mean()), "observed": float(truth[p].mean()), "rows": float(len(p))} for p in parts]
    error = sum(abs(c["predicted"] - c["observed"]) * c["rows"] for c in curve) / max(1, len(truth))
    return float(error), curve
