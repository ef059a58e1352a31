"""What one block of predictions of one version (a day, by default) says about the model: a dozen numbers, whatever its rows.

Of a row with probabilities p and the true class y, the log loss is -ln p_y, and the model itself expects it to be the entropy -sum p ln p. Only
what exceeds that is news: an easy or a hard day, as the model foresaw it, is not (the calibration test of Spiegelhalter 1986, "Probabilistic
Prediction in Patient Management", with the logarithmic score).

    excess        = mean loss - mean expected loss
    gap           = mean truth - mean p                                       (of the positive class)
    calibration_z = sum(truth - p) / sqrt(dispersion * sum p(1 - p))

With several classes, 'truth' is whether the class held most probable was right and p its probability (Guo et al. 2017, "On Calibration of Modern
Neural Networks"). For a regression nothing is expected: excess is the mean absolute error itself, to be compared with that of reference blocks,
and gap is the mean of truth - prediction.

Unit of independence: the block. Rows inside share their luck, so the variances here are the least a block can have, not what it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np

from treadle.core.declare.model import Task
from treadle.core.schema import Kind
from treadle.monitoring import ranking
from treadle.monitoring.sketches import Sketch, sketch_column
from treadle.training.losses import FLOOR, row_loss

PREDICTION = "@prediction"  # no feature can have this name


@dataclass(frozen=True, slots=True)
class BlockStats:
    """One block. Moments are microseconds since 1970 UTC; what needs a truth is None where no row has one.

    Args:
        start, end: start <= moment < end.
        rows, matured: predictions, and those of them with a known truth.
        mean_output: mean probability of each class, or the mean prediction.
        excess_variance, gap_variance: of one row: as the model's probabilities imply it, for a regression as observed.
        deficit, deficit_variance: see `ranking.py`; None with too few rows of either outcome.
    """

    start: int
    end: int
    rows: int
    matured: int
    mean_output: tuple[float, ...]
    loss: float | None = None
    expected_loss: float | None = None
    excess: float | None = None
    excess_variance: float | None = None
    gap: float | None = None
    gap_variance: float | None = None
    calibration_z: float | None = None
    deficit: float | None = None
    deficit_variance: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "mean_output": list(self.mean_output)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> BlockStats:
        return cls(**{**stored, "mean_output": tuple(stored["mean_output"])})


def block_stats(
    task: Task, labels: Sequence[Any], outputs: np.ndarray, truth: np.ndarray | None, moments: np.ndarray, *,
    start: int | None = None, end: int | None = None, dispersion: float = 1.0,
) -> BlockStats:  # fmt: skip
    """The numbers of one block.

    Args:
        labels: the classes, in the order of the outputs' columns; empty for a regression.
        outputs: probabilities (n, classes) or predictions (n, 1).
        truth: class codes with -1 for unknown, or numbers with NaN for unknown; None when none is known.
        moments: microseconds since 1970 UTC, (n,).
        start, end: the block's own limits; without them those of its rows.
        dispersion: how many times wider than the model implies calibration is known to vary.
    """
    outputs = np.asarray(outputs, dtype=np.float64)
    if outputs.ndim != 2 or outputs.shape[1] != max(1, len(labels)):
        raise ValueError(f"outputs of shape {outputs.shape} do not fit {len(labels)} labels")
    first = start if start is not None else int(moments.min()) if len(moments) else 0
    last = end if end is not None else int(moments.max()) + 1 if len(moments) else first
    known = np.zeros(len(outputs), bool) if truth is None else np.isfinite(truth) if task == "regression" else np.asarray(truth) >= 0
    mean = tuple(outputs.mean(axis=0).tolist()) if len(outputs) else ()
    if truth is None or not known.any():
        return BlockStats(first, last, len(outputs), 0, mean)
    matured, y, p = int(known.sum()), np.asarray(truth)[known], outputs[known]
    loss, expected, excess_variance, residual, gap_variance = _regression(y, p) if task == "regression" else _classes(task, y.astype(np.int64), p)
    ranked = ranking.deficit(task, y, p)
    noise = sqrt(dispersion * matured * gap_variance)
    return BlockStats(
        first, last, len(outputs), matured, mean, loss, expected, loss - (expected or 0.0), excess_variance, float(residual.mean()), gap_variance,
        float(residual.sum()) / noise if noise > 0 else 0.0, *(ranked or (None, None)),
    )  # fmt: skip


def prediction_sketches(labels: Sequence[Any], outputs: np.ndarray) -> dict[str, Sketch]:
    """Sketches of what the model answered: '@prediction' for a number or the positive class, '@prediction:label' for each of more classes."""
    columns = {PREDICTION: outputs[:, -1]} if len(labels) <= 2 else {f"{PREDICTION}:{label}": outputs[:, i] for i, label in enumerate(labels)}
    kind: Kind = "number"
    return {name: sketch_column(column, kind) for name, column in columns.items()}


def _regression(y: np.ndarray, p: np.ndarray) -> tuple[float, None, float, np.ndarray, float]:
    error = row_loss("regression", y, p)
    residual = y - p[:, 0]
    return float(error.mean()), None, float(error.var()), residual, float(residual.var())


def _classes(task: Task, y: np.ndarray, p: np.ndarray) -> tuple[float, float, float, np.ndarray, float]:
    surprise = -np.log(np.clip(p, FLOOR, 1.0))
    entropy = (p * surprise).sum(axis=1)
    variance = float(((p * surprise**2).sum(axis=1) - entropy**2).mean())
    if task == "binary":
        right, held = (y == 1).astype(np.float64), p[:, 1]
    else:
        right, held = (y == p.argmax(axis=1)).astype(np.float64), p.max(axis=1)
    return float(row_loss(task, y, p).mean()), float(entropy.mean()), max(0.0, variance), right - held, float((held * (1 - held)).mean())
