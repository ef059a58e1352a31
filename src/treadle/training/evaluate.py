"""Honest evaluation: one look at rows no search has seen, with intervals, against the baseline and the champion on the same rows.

Intervals and comparisons resample whole blocks (days, where rows have a time), since rows of one block share their luck. Source: Efron and
Tibshirani (1993), "An Introduction to the Bootstrap", percentile intervals; the block as the unit after Künsch (1989).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from treadle.core.declare.model import Task
from treadle.training.losses import HIGHER_IS_BETTER, Metric, calibration, loss_name, metrics, row_loss

REPLICATES = 400
SHUFFLES = 999


def evaluate(
    task: Task,
    truth: np.ndarray,
    outputs: Mapping[str, np.ndarray],
    blocks: np.ndarray,
    slices: Mapping[str, list[str | None]],
    seed: int = 0,
    least_slice: int = 50,
) -> dict[str, Any]:
    """Everything the gates look at, as JSON.

    Args:
        truth: class codes or numbers, shape (n,).
        outputs: 'model', 'baseline' and possibly 'champion' to their outputs on the same rows, (n, classes) or (n, 1).
        blocks: the block each row lies in, shape (n,).
        slices: column to each row's value.
        least_slice: slices with fewer rows are counted, not judged.
    """
    weights = block_weights(blocks, seed)
    model = outputs["model"]
    result: dict[str, Any] = {
        "task": task,
        "rows": len(truth),
        "blocks": len(np.unique(blocks)),
        "primary": next(iter(metrics(task))),
        "metrics": {name: summary(task, truth, output, weights) for name, output in outputs.items()},
        "against": {name: compare(task, truth, model, output, weights) for name, output in outputs.items() if name != "model"},
        "shuffled_labels": shuffled_labels(task, truth, model, seed),
        "slices": _slices(task, truth, model, blocks, slices, seed, least_slice),
    }
    if task in ("binary", "multiclass"):
        result["classes"] = np.bincount(truth, minlength=model.shape[1]).tolist()
    if task == "binary":
        error, curve = calibration(truth, model[:, 1])
        result["calibration"] = {"error": error, "curve": curve}
    return result


def block_weights(blocks: np.ndarray, seed: int, replicates: int = REPLICATES) -> np.ndarray:
    """How often each row is drawn in each replicate when blocks are drawn with replacement, shape (replicates, n)."""
    _, position = np.unique(blocks, return_inverse=True)
    count = int(position.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=replicates)
    return draws[:, position].astype(np.float64)


def summary(task: Task, truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Each metric with its 95 % interval."""
    return {name: _interval(metric, truth, output, weights) for name, metric in metrics(task).items()}


def _interval(metric: Metric, truth: np.ndarray, output: np.ndarray, weights: np.ndarray) -> dict[str, float | None]:
    replicates = metric(truth, output, weights)
    replicates = replicates[np.isfinite(replicates)]
    low, high = np.percentile(replicates, [2.5, 97.5]) if len(replicates) >= 20 else (np.nan, np.nan)
    return {"value": _number(float(metric(truth, output, np.ones((1, len(truth))))[0])), "low": _number(low), "high": _number(high)}


def compare(task: Task, truth: np.ndarray, model: np.ndarray, other: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """Is the model better than another on the same rows? Difference of the mean row loss (other - model) with its 95 % interval.

    `p` is one-sided: how often chance alone gives as much. `worst` is the one-sided 95 % lower limit: how much worse the model may be.
    """
    difference = row_loss(task, truth, other) - row_loss(task, truth, model)
    observed = float(difference.mean())
    totals = weights.sum(axis=1)
    means = (weights @ difference)[totals > 0] / totals[totals > 0]
    worst, low, high = np.percentile(means, [5, 2.5, 97.5])
    # The bootstrap centred on no difference: how often does chance alone give as much?
    p = float((1 + np.sum(means - observed >= observed)) / (1 + len(means)))
    return {
        "better_by": observed,
        "low": float(low),
        "high": float(high),
        "worst": float(worst),
        "p": p,
        "loss": loss_name(task),
    }


def shuffled_labels(task: Task, truth: np.ndarray, output: np.ndarray, seed: int, shuffles: int = SHUFFLES) -> dict[str, float]:
    """How often shuffled labels fit the predictions as well as the real ones.

    Source: Ojala and Garriga (2010), "Permutation Tests for Studying Classifier Performance".
    """
    rng = np.random.default_rng(seed + 1)
    observed = row_loss(task, truth, output).mean()
    as_good = sum(row_loss(task, rng.permutation(truth), output).mean() <= observed + 1e-12 for _ in range(shuffles))
    return {"p": (1 + int(as_good)) / (1 + shuffles), "shuffles": shuffles}


def _slices(
    task: Task, truth: np.ndarray, output: np.ndarray, blocks: np.ndarray, slices: Mapping[str, list[str | None]], seed: int, least: int
) -> list[dict[str, Any]]:
    primary, metric = next(iter(metrics(task).items()))
    found = []
    for column, values in slices.items():
        array = np.array(["" if v is None else v for v in values], dtype=object)
        for value in sorted(set(array.tolist())):
            mask = array == value
            entry: dict[str, Any] = {"column": column, "value": value, "rows": int(mask.sum()), "metric": primary}
            if mask.sum() >= least:
                interval = _interval(metric, truth[mask], output[mask], block_weights(blocks[mask], seed, 200))
                entry.update(value_of_metric=interval["value"], low=interval["low"], high=interval["high"])
            found.append(entry)
    return found


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def better(metric: str, left: float, right: float) -> bool:
    """Whether `left` is a better value of the metric than `right`."""
    return left > right if metric in HIGHER_IS_BETTER else left < right
