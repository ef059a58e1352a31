"""How the model bears rows that are not as clean as the test rows: noise on numbers, values that are missing, and changes that must not matter.

Every answer is asked twice, on the rows as they are and as they were changed, so that the difference is the change's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Task
from treadle.core.errors import DataError
from treadle.training.losses import of_classes, row_loss

MOST_ROWS = 3_000
NOISE = (0.05, 0.1)  # of each number's standard deviation on the training rows
GAPS = (0.05, 0.2)  # share of all values that are taken away
SAME = 0.01  # answers that differ by no more are the same: of a probability, or of the standard deviation of the target (or of a ranking's scores)

Answer = Callable[[pl.DataFrame], np.ndarray]


def robustness(
    task: Task, frame: pl.DataFrame, truth: np.ndarray, answer: Answer, spread: Mapping[str, float], invariances: Sequence[Any] = (), seed: int = 0,
    most: int = MOST_ROWS,
) -> dict[str, Any]:
    """What each change costs, as JSON.

    Args:
        frame: features of the test rows.
        answer: features to outputs, as the model gives them.
        spread: each number's standard deviation on the training rows.
        invariances: names of features, whose value must not matter, or functions of the frame that return it changed in a way that must not matter.
    Returns: 'rows', 'changes': [{'change', 'amount', 'loss', 'worse_by', 'relative', 'moved'}], 'invariances': [{'name', 'moved', 'flipped',
    'largest'}].
        `moved` is the share of answers that change by more than SAME, `flipped` of labels that change.
    """
    rng = np.random.default_rng(seed + 23)
    if frame.height > most:
        chosen = np.sort(rng.choice(frame.height, most, replace=False))
        frame, truth = frame[chosen], truth[chosen]
    clean = answer(frame)
    loss = float(row_loss(task, truth, clean).mean())
    scale = 1.0 if of_classes(task) else max(float(np.std(clean[:, 0] if task == "ranking" else truth)), 1e-12)
    changes = []
    for kind, amounts, change in (("noise", NOISE, _noisy), ("missing", GAPS, _gappy)):
        for amount in amounts:
            said = answer(change(frame, amount, spread, rng))
            after = float(row_loss(task, truth, said).mean())
            changes.append({
                "change": kind, "amount": amount, "loss": after, "worse_by": after - loss, "relative": (after - loss) / max(loss, 1e-12),
                "moved": _moved(clean, said, scale),
            })  # fmt: skip
    found = []
    for invariance in invariances:
        name = invariance if isinstance(invariance, str) else getattr(invariance, "__name__", "invariance")
        changed = _shuffled(frame, invariance, rng) if isinstance(invariance, str) else invariance(frame)
        if not isinstance(changed, pl.DataFrame) or changed.height != frame.height or set(changed.columns) != set(frame.columns):
            raise DataError(
                f"The invariance {name!r} returned no frame of the same rows and columns.", hint="Return the frame with some values changed."
            )
        said = answer(changed.select(frame.columns))
        flips = 0.0 if not of_classes(task) else float(np.mean(said.argmax(1) != clean.argmax(1)))
        found.append({"name": name, "moved": _moved(clean, said, scale), "flipped": flips, "largest": float(np.abs(said - clean).max() / scale)})
    return {"rows": frame.height, "loss": loss, "changes": changes, "invariances": found}


def _moved(clean: np.ndarray, said: np.ndarray, scale: float) -> float:
    return float(np.mean(np.abs(said - clean).max(axis=1) > SAME * scale))


def _noisy(frame: pl.DataFrame, amount: float, spread: Mapping[str, float], rng: np.random.Generator) -> pl.DataFrame:
    changed = [
        pl.Series(name, frame[name].to_numpy() + amount * spread[name] * rng.normal(size=frame.height))
        for name in frame.columns if frame[name].dtype == pl.Float64 and np.isfinite(spread.get(name, np.nan))
    ]  # fmt: skip
    return frame.with_columns(changed)


def _gappy(frame: pl.DataFrame, amount: float, spread: Mapping[str, float], rng: np.random.Generator) -> pl.DataFrame:
    changed = []
    for name in frame.columns:
        gap = pl.Series(rng.uniform(size=frame.height) < amount)
        nothing = pl.lit(None, pl.Float64) if frame[name].dtype == pl.Float64 else pl.lit("")
        changed.append(pl.when(gap).then(nothing).otherwise(pl.col(name)).alias(name))
    return frame.with_columns(changed)


def _shuffled(frame: pl.DataFrame, name: str, rng: np.random.Generator) -> pl.DataFrame:
    if name not in frame.columns:
        raise DataError(f"The invariance {name!r} is no feature of the model.", hint=f"Features are: {', '.join(frame.columns)}.")
    return frame.with_columns(frame[name].gather(rng.permutation(frame.height)).alias(name))
