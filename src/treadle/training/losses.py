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
        return np.abs(truth - output[:, 0])
    return -np.log(np.clip(output[np.arange(len(truth)), truth], FLOOR, 1.0))


def metrics(task: Task) -> dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]]:
    """Metric name to function of (truth, output, weights). The first one is the primary metric."""
    if task == "regression":
        return {"mae": _mae, "rmse": _rmse, "r2": _r2}
    if task == "binary":
        return {"roc_auc": _auc, "log_loss": _log_loss, "brier": _brier, "accuracy": _accuracy}
    return {"log_loss": _log_loss, "accuracy": _accuracy}


HIGHER_IS_BETTER = {"roc_auc", "accuracy", "r2"}


def auc(truth: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Weighted area under the ROC curve: the probability that a positive row scores above a negative one, ties counting half. NaN with one class."""
    weights = np.ones(len(truth)) if weights is None else weights
    order = np.argsort(score, kind="stable")
    s, y, w = score[order], truth[order], weights[order]
    negative, positive = w * (y == 0), w * (y == 1)
    ends = np.flatnonzero(np.append(s[1:] != s[:-1], True)) if len(s) else np.array([], int)
    n, p = np.cumsum(negative)[ends], np.cumsum(positive)[ends]
    if not len(n) or n[-1] == 0 or p[-1] == 0:
        return float("nan")
    n0, p_step = np.concatenate([[0.0], n[:-1]]), np.diff(np.concatenate([[0.0], p]))
    return float(np.sum(p_step * (n0 + n) / 2) / (n[-1] * p[-1]))


def _auc(truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> float:
    return auc(truth, output[:, 1], weights)


def _log_loss(truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(row_loss("multiclass", truth, output), weights=weights))


def _brier(truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average((output[:, 1] - truth) ** 2, weights=weights))


def _accuracy(truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(output.argmax(axis=1) == truth, weights=weights))


def _mae(truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(np.abs(truth - output[:, 0]), weights=weights))


def _rmse(truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sqrt(np.average((truth - output[:, 0]) ** 2, weights=weights)))


def _r2(truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> float:
    spread = np.average((truth - np.average(truth, weights=weights)) ** 2, weights=weights)
    return float(1 - np.average((truth - output[:, 0]) ** 2, weights=weights) / spread) if spread > 0 else float("nan")


def calibration(truth: np.ndarray, probability: np.ndarray, bins: int = 10) -> tuple[float, list[dict[str, float]]]:
    """Expected calibration error over bins of equal count, and the curve: predicted and observed share of each bin.

    Source: Naeini, Cooper, Hauskrecht (2015), "Obtaining Well Calibrated Probabilities Using Bayesian Binning", with equal-mass bins.
    """
    parts = [part for part in np.array_split(np.argsort(probability, kind="stable"), bins) if len(part)]
    curve = [{"predicted": float(probability[p].mean()), "observed": float(truth[p].mean()), "rows": float(len(p))} for p in parts]
    error = sum(abs(c["predicted"] - c["observed"]) * c["rows"] for c in curve) / max(1, len(truth))
    return float(error), curve
