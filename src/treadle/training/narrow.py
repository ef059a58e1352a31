"""Of very many columns those that tell most by themselves: with ten thousand of them a model of a fold sees the strongest only.

They are chosen on the rows the model is fitted on, in each fold anew, like all else that is learned from rows; so what a fold says of its validation
rows stays honest. What tells only together with another column, and nothing by itself, is not found this way: that is the price, and the version
says how many columns were left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import rankdata

WIDE = 1_000  # columns of one kind, numbers or categories: up to so many all are used
FEWEST = 300  # beyond it so many are used, or a tenth as many as there are rows to learn from
CELLS = 10_000_000  # rows times columns that are looked at
_AT_ONCE = 500  # columns


def narrow(made: Any, frame: pl.DataFrame, truth: np.ndarray, task: str) -> Any:
    """The same unfitted pipeline (see `encoding.make_pipeline`) with the strongest of its columns, where there are very many of a kind.

    Args:
        frame, truth: the rows it will be fitted on, and their class codes or numbers.
    """
    return keep(made, strongest(made, frame, truth, task)) if wide(made) else made


def wide(made: Any) -> bool:
    """Whether a pipeline takes so many columns of a kind that some are to be left out."""
    return any(len(columns) > WIDE for _, _, columns in made[0].transformers)


def strongest(made: Any, frame: pl.DataFrame, truth: np.ndarray, task: str) -> list[list[str]]:
    """The columns that each part of a pipeline's encoding is to take."""
    rows_there = frame.height
    few = max(1_000, CELLS // max(1, frame.width))
    if frame.height > few:
        rows = np.sort(np.random.default_rng(0).choice(frame.height, few, replace=False))
        frame, truth = frame[rows], truth[rows]
    found = []
    for _, _, columns in made[0].transformers:
        names = list(columns)
        if len(names) > WIDE:
            count = max(FEWEST, rows_there // 10)
            best = np.argsort(-_strengths(frame, names, truth, task), kind="stable")[:count]
            names = [names[i] for i in np.sort(best)]
        found.append(names)
    return found


def keep(made: Any, columns: Sequence[Sequence[str]]) -> Any:
    """Have a pipeline take these columns, one list for each part of its encoding."""
    made[0].transformers = [(name, step, list(kept)) for (name, step, _), kept in zip(made[0].transformers, columns)]
    return made


def afresh(fitted: Any, frame: pl.DataFrame, truth: np.ndarray, task: str) -> Any:
    """The unfitted setting of a fitted pipeline, for other rows: of very many columns those that are the strongest there."""
    from sklearn.base import clone

    made = clone(fitted)
    if len(used(made)) == frame.width:
        return made
    kinds = [frame.schema[columns[0]] for _, _, columns in made[0].transformers]
    return narrow(keep(made, [[n for n, kind in frame.schema.items() if kind == k] for k in kinds]), frame, truth, task)


def used(made: Any) -> list[str]:
    """The columns a pipeline takes."""
    return [name for _, _, columns in made[0].transformers for name in columns]


def strength(matrix: np.ndarray, truth: np.ndarray, task: str) -> np.ndarray:
    """How much each of many numbers goes with the target, 0 to 1: the largest correlation of its ranks, of their distance from the middle, and of its
    gaps, with the target's ranks or with any of its classes. Shape (rows, columns) to (columns,)."""
    targets = [rankdata(truth)] if task == "regression" else [(truth == k).astype(np.float64) for k in np.unique(truth)]
    aims = np.array([(t - t.mean()) / max(float(t.std()), 1e-12) for t in targets]) / len(truth)
    best = np.zeros(matrix.shape[1])
    for start in range(0, matrix.shape[1], _AT_ONCE):
        part = matrix[:, start : start + _AT_ONCE]
        gaps = ~np.isfinite(part)
        ranks = rankdata(np.where(gaps, -np.inf, part), axis=0)
        views = [ranks, np.abs(ranks - ranks.mean(axis=0))] + ([gaps.astype(np.float64)] if gaps.any() else [])
        for values in views:
            spread = values.std(axis=0)
            said = np.abs(aims @ values).max(axis=0) / np.where(spread > 0, spread, np.inf)
            best[start : start + _AT_ONCE] = np.maximum(best[start : start + _AT_ONCE], said)
    return best


def _strengths(frame: pl.DataFrame, names: list[str], truth: np.ndarray, task: str) -> np.ndarray:
    if frame.schema[names[0]] != pl.String:
        return strength(frame.select(names).to_numpy(), truth, task)
    return np.array([_of_categories(frame[name], truth, task) for name in names])


def _of_categories(values: pl.Series, truth: np.ndarray, task: str) -> float:
    """The correlation ratio of a category and the target, or the largest of any of its classes, less what so many categories would have by chance."""
    codes = values.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    sizes = np.bincount(codes)
    kinds, n = int((sizes > 0).sum()), len(codes)
    if kinds < 2 or kinds >= n:
        return 0.0
    best = 0.0
    for target in [rankdata(truth)] if task == "regression" else [(truth == k).astype(np.float64) for k in np.unique(truth)]:
        whole = float(((target - target.mean()) ** 2).sum())
        means = np.bincount(codes, weights=target) / np.maximum(sizes, 1)
        within = float(((target - means[codes]) ** 2).sum())
        if whole > 0:
            best = max(best, 1 - within / (n - kinds) / (whole / (n - 1)))
    return float(np.sqrt(best))
