"""How wrong a prediction is, row by row, and summary metrics that accept row weights (for fast bootstraps)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from treadle.core.declare.model import Task

FLOOR = 1e-6  # a probability of exactly 0 would make one wrong row infinitely bad


def row_loss(task: Task, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Loss of each row: minus log probability of the true class, the absolute error, or what the task is judged by.

    Args:
        truth: class codes or numbers, shape (n,).
        output: probabilities (n, classes), or (n, 1) predictions. Of a 'ranking' (n, 3): score, number of the group, how many places count. Of a
            'forecast' or 'quantile' (n, 3): prediction, the naive forecast's mean error in training, and the quantile.
    """
    if task == "regression":
        return np.asarray(np.abs(truth - output[:, 0]))
    if task == "ranking":
        return _ranking_loss(truth, output)
    if task == "forecast":
        return np.asarray(np.abs(truth - output[:, 0]) / output[:, 1])
    if task == "quantile":
        return np.asarray(_pinball(truth, output) / output[:, 1])
    return np.asarray(-np.log(np.clip(output[np.arange(len(truth)), truth], FLOOR, 1.0)))


def of_classes(task: Task) -> bool:
    """Whether outputs are probabilities of classes."""
    return task in ("binary", "multiclass")


def loss_name(task: Task, metric: str = "") -> str:
    """What `row_loss` is called, or with a metric the mean of `measured`."""
    if metric:
        return {"roc_auc": "1 - ROC-AUC", "accuracy": "1 - accuracy", "rmse": "squared error", "mae": "absolute error"}.get(metric, metric)
    names = {"regression": "absolute error", "ranking": "1 - NDCG", "forecast": "scaled error", "quantile": "scaled pinball loss"}
    return names.get(task, "log loss")


def measured(task: Task, metric: str, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
    """What a search by `metric` makes less of: one value a row, of which the mean is the loss of a setting. Without a metric, `row_loss`.

    The ROC-AUC is a mean over pairs; here each row gets its influence on it, so that the mean is 1 - AUC and the spread of a difference is that of
    DeLong, DeLong and Clarke-Pearson (1988), "Comparing the Areas under Two or More Correlated ROC Curves".
    """
    if metric == "roc_auc" and task == "binary":
        return 1 - _auc_rows(truth, output[:, 1])
    if metric == "brier" and task in ("binary", "multiclass"):
        return np.asarray(((output - np.eye(output.shape[1])[truth]) ** 2).sum(axis=1) / (2 if task == "binary" else 1))
    if metric == "accuracy" and task in ("binary", "multiclass"):
        return np.asarray(output.argmax(axis=1) != truth, dtype=np.float64)
    if metric == "rmse" and task in ("regression", "forecast"):
        return np.asarray((truth - output[:, 0]) ** 2)
    return row_loss(task, truth, output)


def as_shown(metric: str, loss: float) -> float:
    """The metric's own value of a mean of `measured`."""
    return 1 - loss if metric in ("roc_auc", "accuracy") else float(np.sqrt(loss)) if metric == "rmse" else loss


def suits(task: Task, metric: str) -> bool:
    """Whether a search of this task can go by the metric."""
    fitting = {"binary": ("roc_auc", "brier", "accuracy", "log_loss"), "multiclass": ("brier", "accuracy", "log_loss")}
    return metric in ("", *fitting.get(task, ("mae", "rmse") if task in ("regression", "forecast") else ()))


def _auc_rows(truth: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Each row's influence on the area under the ROC curve; their mean is the area. NaN with one class."""
    positive, n = truth == 1, len(truth)
    p = int(positive.sum())
    if not 0 < p < n:
        return np.full(n, np.nan)
    beaten = np.empty(n)  # the share of the other class that a row stands on the right side of, ties counting half
    up, down = np.sort(score[~positive]), np.sort(score[positive])
    s = score[positive]
    beaten[positive] = (np.searchsorted(up, s, "left") + np.searchsorted(up, s, "right")) / (2 * (n - p))
    s = score[~positive]
    beaten[~positive] = 1 - (np.searchsorted(down, s, "left") + np.searchsorted(down, s, "right")) / (2 * p)
    area = float(beaten[positive].mean())
    return area + (beaten - area) * np.where(positive, n / p, n / (n - p))


def _pinball(truth: np.ndarray, output: np.ndarray) -> np.ndarray:
    """Twice the pinball loss, so that it is the absolute error at the median. Source: Koenker and Bassett (1978), "Regression Quantiles"."""
    gap = truth - output[:, 0]
    return np.asarray(2 * np.maximum(output[:, 2] * gap, (output[:, 2] - 1) * gap))


def _ranking_loss(truth: np.ndarray, output: np.ndarray) -> np.ndarray:
    """1 - NDCG of the row's group, in the weight that makes the mean over rows the mean over groups."""
    gain, sizes, position = ndcg(truth, output)
    return np.asarray(((1 - gain) * len(truth) / (len(gain) * sizes))[position])


def ndcg(truth: np.ndarray, output: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """NDCG of each group, how many rows it has, and for each row the position of its group.

    Gains are 2^relevance - 1; rows with equal scores share the gain of their places, so that a constant score earns what chance does; a group
    without anything relevant counts as 1. Source: Järvelin and Kekäläinen (2002), "Cumulated Gain-Based Evaluation of IR Techniques"; ties after
    McSherry and Najork (2008).
    """
    if not len(truth):
        return np.empty(0), np.empty(0), np.empty(0, dtype=np.int64)
    _, position = np.unique(output[:, 1], return_inverse=True)
    order = np.lexsort((-output[:, 0], position))
    group, score, gains = position[order], output[order, 0], np.exp2(np.clip(truth[order], 0, 60)) - 1
    sizes = np.bincount(group)
    place = np.arange(len(group)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    worth = np.where(place < output[order, 2], 1 / np.log2(place + 2.0), 0.0)
    new = np.r_[True, (group[1:] != group[:-1]) | (score[1:] != score[:-1])]
    tie = np.cumsum(new) - 1
    each = np.bincount(tie, gains) / np.bincount(tie)
    found = np.bincount(group, each[tie] * worth)
    best = np.lexsort((-gains, group))
    ideal = np.bincount(group, gains[best] * worth)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(ideal > 0, found / ideal, 1.0), sizes, position


Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def metrics(task: Task) -> dict[str, Metric]:
    """Metric name to a function of (truth (n,), output, weights (replicates, n)) that gives one value a replicate; NaN where it is not defined.

    The first one is the primary metric.
    """
    if task == "ranking":
        return {"ndcg": _mean_of_groups}
    if task == "quantile":
        return {
            "pinball": _mean(lambda y, o: _pinball(y, o) / 2), "scaled_pinball": _mean(lambda y, o: _pinball(y, o) / o[:, 1]),
            "below": _mean(lambda y, o: (y <= o[:, 0]).astype(np.float64)),
        }  # fmt: skip
    if task == "forecast":
        return {
            "mase": _mean(lambda y, o: np.abs(y - o[:, 0]) / o[:, 1]), "mae": _mean(lambda y, o: np.abs(y - o[:, 0])),
            "rmse": lambda y, o, w: np.sqrt(_mean(lambda y, o: (y - o[:, 0]) ** 2)(y, o, w)),
        }  # fmt: skip
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
            "average_precision": lambda y, o, w: average_precision_each(y, o[:, 1], w),
        }  # fmt: skip
    return {"log_loss": log_loss, "accuracy": accuracy}


HIGHER_IS_BETTER = {"roc_auc", "accuracy", "r2", "ndcg", "average_precision"}


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


def average_precision_each(truth: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision for each row of weights (replicates, n): the mean, over the positive rows, of the precision down to their score."""
    order = np.argsort(-score, kind="stable")
    s, y = score[order], truth[order]
    ends = np.flatnonzero(np.append(s[1:] != s[:-1], True)) if len(s) else np.empty(0, dtype=np.int64)
    found = np.empty(len(weights))
    for start in range(0, len(weights), 64):
        w = weights[start : start + 64][:, order]
        p, every = np.cumsum(w * (y == 1), axis=1)[:, ends], np.cumsum(w, axis=1)[:, ends]
        steps = np.diff(np.hstack([np.zeros((len(w), 1)), p]), axis=1)
        total = p[:, -1] if len(s) else np.zeros(len(w))
        with np.errstate(invalid="ignore", divide="ignore"):
            found[start : start + 64] = np.where(total > 0, np.sum(steps * np.nan_to_num(p / every), axis=1) / total, np.nan)
    return found


def _mean_of_groups(truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """NDCG, a group counting as often as its rows do on average."""
    gain, sizes, position = ndcg(truth, output)
    shares = np.zeros((len(weights), len(gain)))
    for i, w in enumerate(weights):
        shares[i] = np.bincount(position, w, minlength=len(gain)) / np.maximum(sizes, 1)
    total = shares.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, shares @ gain / total, np.nan)


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
