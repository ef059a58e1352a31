"""Worst slices, found: parts of the test rows on which the model is worse than it says, beyond chance and beyond the number of parts looked at.

Looked at are the values of each feature (numbers in quarters, missing values by themselves) and of pairs of the features that matter most. For
classes a part is bad where the log loss is above what the model's own probabilities lead to expect: a hard part that the model knows to be hard is
not a fault. For numbers it is bad where the error is above the mean error. Like SliceFinder (Chung, Kraska, Polyzotis and others 2019) it
asks for a size, an effect and significance; significance is a block bootstrap's, with Holm's (1979) correction over all parts looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Task
from treadle.training.losses import loss_name, of_classes, row_loss

MOST_ROWS = 20_000
REPLICATES = 400
PAIRED = 5  # how many features, those whose parts differ most, are also looked at in pairs
MOST_VALUES = 30  # of a category, the most frequent ones
SHOWN = 5


def worst_slices(
    task: Task, truth: np.ndarray, output: np.ndarray, features: pl.DataFrame, blocks: np.ndarray, seed: int = 0, least: int = 50
) -> dict[str, Any]:
    """The parts of the test rows on which the model is worst, as JSON.

    Args:
        features: the test rows' features, numbers and text.
        least: parts with fewer rows are not looked at.
    Returns: 'looked_at' (how many parts), 'least', 'measure', and 'worst': up to SHOWN parts, each {'where', 'rows', 'loss', 'expected', 'excess',
    'low',
        'p'}; p is corrected for all parts looked at, low the one-sided 95 % lower end of the excess.
    """
    if len(truth) > MOST_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(len(truth), MOST_ROWS, replace=False))
        truth, output, features, blocks = truth[chosen], output[chosen], features[chosen], blocks[chosen]
    least = max(least, len(truth) // 100)
    loss = row_loss(task, truth, output)
    expected = _entropy(output) if of_classes(task) else np.full(len(loss), loss.mean())
    measure = "log loss above what its own probabilities expect" if of_classes(task) else f"{loss_name(task)} above the mean"
    return worst_parts(loss, expected, features, blocks, measure, least, seed)


def worst_parts(
    loss: np.ndarray, expected: np.ndarray, features: pl.DataFrame, blocks: np.ndarray, measure: str, least: int, seed: int = 0
) -> dict[str, Any]:
    """The same of losses that are known: one a row of `features`, with what was to be expected there."""
    excess = loss - expected
    single = [part for name in features.columns for part in _parts(features[name], least)]
    masks = [m for _, m in single]
    scores = _scores(excess, masks, blocks, seed)
    strength: dict[str, float] = {}
    for (where, _), (value, deviation) in zip(single, scores):
        strength[where[0][0]] = max(strength.get(where[0][0], -math.inf), value / max(deviation, 1e-12))
    top = sorted(strength, key=lambda n: -strength[n])[:PAIRED]
    by_name: dict[str, list[tuple[list[tuple[str, str]], np.ndarray]]] = {n: [p for p in single if p[0][0][0] == n] for n in top}
    double = [
        (a[0] + b[0], a[1] & b[1]) for left, right in combinations(top, 2) for a in by_name[left] for b in by_name[right]
        if (a[1] & b[1]).sum() >= least
    ]  # fmt: skip
    parts, scores = single + double, scores + _scores(excess, [m for _, m in double], blocks, seed)
    p = _holm([_above(value, deviation) for value, deviation in scores])
    order = sorted(range(len(parts)), key=lambda i: (p[i], -scores[i][0] / max(scores[i][1], 1e-12)))
    found: list[dict[str, Any]] = []
    shown: list[np.ndarray] = []
    for i in order:
        where, mask = parts[i]
        if scores[i][0] <= 0 or any((mask & s).sum() > 0.8 * min(mask.sum(), s.sum()) for s in shown):  # the same rows under another name
            continue
        shown.append(mask)
        found.append({
            "where": [list(w) for w in where], "rows": int(mask.sum()), "loss": float(loss[mask].mean()), "expected": float(expected[mask].mean()),
            "excess": scores[i][0], "low": scores[i][0] - 1.645 * scores[i][1], "p": p[i],
        })  # fmt: skip
        if len(found) == SHOWN:
            break
    return {"looked_at": len(parts), "least": least, "measure": measure, "scale": float(loss.mean()), "worst": found}


def _parts(values: pl.Series, least: int) -> list[tuple[list[tuple[str, str]], np.ndarray]]:
    """The parts of one feature that are large enough, each with its words and its rows."""
    found: list[tuple[str, np.ndarray]] = []
    if values.dtype == pl.String:
        for value, _ in values.fill_null("").value_counts(sort=True).head(MOST_VALUES).iter_rows():
            found.append((f"= {value or 'missing'}", (values.fill_null("") == value).to_numpy()))
    else:
        numbers = values.cast(pl.Float64).to_numpy()
        there = np.isfinite(numbers)
        found.append(("missing", ~there))
        levels = np.unique(numbers[there])
        if len(levels) <= 6:
            found += [(f"= {level:g}", there & (numbers == level)) for level in levels]
        else:
            cuts = np.unique(np.quantile(numbers[there], [0.25, 0.5, 0.75]))
            edges = [-np.inf, *cuts, np.inf]
            for low, high in pairwise(edges):
                words = f"< {high:.4g}" if low == -np.inf else f">= {low:.4g}" if high == np.inf else f"{low:.4g} to {high:.4g}"
                found.append((words, there & (numbers >= low) & (numbers < high)))
    return [([(values.name, words)], mask) for words, mask in found if least <= mask.sum() < len(mask)]


def _entropy(output: np.ndarray) -> np.ndarray:
    clipped = np.clip(output, 1e-6, 1.0)
    return np.asarray(-(clipped * np.log(clipped)).sum(axis=1))


def _scores(excess: np.ndarray, masks: Sequence[np.ndarray], blocks: np.ndarray, seed: int) -> list[tuple[float, float]]:
    """(mean excess, its standard deviation over resampled blocks) of each part."""
    if not masks:
        return []
    _, position = np.unique(blocks, return_inverse=True)
    count = int(position.max()) + 1
    draws = np.random.default_rng(seed + 7).multinomial(count, np.full(count, 1 / count), size=REPLICATES).astype(np.float32)
    found = []
    for start in range(0, len(masks), 64):
        part = masks[start : start + 64]
        sums = np.column_stack([np.bincount(position, weights=excess * m, minlength=count) for m in part]).astype(np.float32)
        sizes = np.column_stack([np.bincount(position, weights=m, minlength=count) for m in part]).astype(np.float32)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (draws @ sums) / (draws @ sizes)
        for k, m in enumerate(part):
            found.append((float(excess[m].mean()), _deviation(means[:, k], int((sizes[:, k] > 0).sum()))))
    return found


def _deviation(means: np.ndarray, blocks: int) -> float:
    """With few blocks the bootstrap's deviation is too small by about the square root of (b - 1) / b; with fewer than five nothing can be said."""
    finite = means[np.isfinite(means)]
    return float(finite.std() * math.sqrt(blocks / (blocks - 1))) if blocks >= 5 and len(finite) > REPLICATES / 2 else math.inf


def _above(value: float, deviation: float) -> float:
    return 1.0 if not math.isfinite(deviation) or deviation <= 0 else 0.5 * math.erfc(value / deviation / math.sqrt(2))


def _holm(p: Sequence[float]) -> list[float]:
    order = sorted(range(len(p)), key=lambda i: p[i])
    found, running = [1.0] * len(p), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p) - rank) * p[i]))
        found[i] = running
    return found


def words(where: Sequence[Sequence[str]]) -> str:
    """A part in words: 'carrier = HA and distance >= 1400'."""
    return " and ".join(f"{name} {value}" for name, value in where)


def rows_in(features: pl.DataFrame, where: Mapping[str, str]) -> np.ndarray:
    """Which rows lie in a part given as feature to words, for a test or a page."""
    mask = np.ones(features.height, dtype=bool)
    for name, value in where.items():
        mask &= next((m for w, m in _parts(features[name], 0) if w[0][1] == value), np.zeros(features.height, dtype=bool))
    return mask
