"""What quality is to be expected before any outcome is known, from the model's own probabilities: confidence-based performance estimation.

A row with probability p of the positive class counts as p of a positive and 1 - p of a negative row. Then

    expected accuracy = mean of max p,    expected log loss = mean of the entropy -sum p ln p,    expected Brier score = mean of p (1 - p)
    expected ROC-AUC  = that of 2n rows with weights p and 1 - p

Source: Garg et al. (2022), "Leveraging Unlabeled Data to Predict Out-of-Distribution Performance", for the idea of confidence; Białek et al. (2024),
"Estimating Model Performance Under Covariate Shift Without Labels" (CBPE), for the weighted metrics.

It assumes that the probabilities are right: that the model is calibrated, and that the relation of inputs and outcome is what it was (no concept
drift). It sees that cases became harder, not that the model became wrong. How far off it was on windows whose outcomes have come is told beside it.

Unit of independence: none assumed; it is a mean over rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from treadle.training.losses import FLOOR, auc

ASSUMES = "the probabilities are right: the model is calibrated, and inputs lead to outcomes as they did"
FEWEST = 3  # windows from which on an error is told


@dataclass(frozen=True)
class Estimate:
    """Metric to its expected value, and to the root mean square of its errors on mature windows, where there are three or more."""

    rows: int
    metrics: Mapping[str, float]
    error: Mapping[str, float] = field(default_factory=dict)
    windows: int = 0

    def with_error(self, errors: Mapping[str, Sequence[float]]) -> Estimate:
        """With the errors that such estimates had."""
        told = {name: float(np.sqrt(np.mean(np.square(e)))) for name, e in errors.items() if len(e) >= FEWEST and name in self.metrics}
        return replace(self, error=told, windows=max((len(e) for e in errors.values()), default=0))


def estimate(task: Any, labels: Sequence[Any], outputs: np.ndarray) -> Estimate | None:
    """The expected metrics of rows with these probabilities (n, classes); None for numbers, which say nothing of their own error.

    >>> estimate("binary", ["no", "yes"], np.array([[0.9, 0.1], [0.2, 0.8]])).metrics["accuracy"]
    0.85
    """
    if task not in ("binary", "multiclass") or not len(outputs):
        return None
    p = np.clip(outputs, FLOOR, 1.0)
    found = {"log_loss": float((-outputs * np.log(p)).sum(axis=1).mean()), "accuracy": float(outputs.max(axis=1).mean())}
    if task == "binary":
        positive = outputs[:, 1]
        found["brier"] = float((positive * (1 - positive)).mean())
        both = np.repeat(positive, 2)
        truth = np.tile([1, 0], len(positive))
        weights = np.column_stack([positive, 1 - positive]).ravel()
        area = auc(truth, both, weights)
        if np.isfinite(area):
            found["roc_auc"] = area
    return Estimate(len(outputs), found)
