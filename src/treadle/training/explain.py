"""Explanation: how much each feature matters to the model as a whole, with how sure that is; and what is stored to take single answers apart.

Importance is by permutation (Breiman 2001; Fisher, Rudin and Dominici 2019): by how much the loss grows on the test rows when a feature's values are
exchanged between rows. It is repeated, so that its order can be called stable or not.

What is stored for single answers are the model's terms. For trees: every leaf with the conditions on its path, one a feature, and the share of
training rows that meet each. The contributions computed from them by `serving.contributions` are exact Shapley values of the path-dependent game
of Lundberg and others (2020), "From local explanations to global understanding with explainable AI for trees", the ones LightGBM's pred_contrib
gives. For linear models: coefficients and the training rows' means, whose products are Shapley values too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Task
from treadle.training.losses import row_loss

FILE, TERMS = "explanation.json", "contributions.npz"
REPEATS = 5
MOST_ROWS, MOST_FEATURES = 1_000, 100
FEWEST_FEATURES, CELLS = 20, 50_000_000  # of wide rows fewer features, so that no more values than these are answered for in one repeat
MOST_TERMS = 1_500_000  # leaves times features on a path: beyond this a single answer takes longer than a caller waits
GRID = 21  # values of a number that counterfactuals may take: its quantiles

Answer = Callable[[pl.DataFrame], np.ndarray]


def importance(
    task: Task, frame: pl.DataFrame, truth: np.ndarray, answer: Answer, seed: int = 0, first: Sequence[str] = (), most: int = MOST_ROWS
) -> dict[str, Any]:
    """Permutation importance with its stability, as JSON.

    Args:
        frame, truth: features and truths of the test rows.
        first: features in the order in which they are looked at, when there are more than MOST_FEATURES, or rows are wide.
    Returns: 'features': [{'name', 'importance', 'low', 'high'}], the most important first, in units of the mean row loss; `low` and `high` are the
        smallest and largest of the repeats. 'stability': mean rank correlation between repeats, 1 is the same order each time. 'left_out': how many.
    """
    rng = np.random.default_rng(seed + 41)
    if frame.height > most:
        chosen = np.sort(rng.choice(frame.height, most, replace=False))
        frame, truth = frame[chosen], truth[chosen]
    ordered = [*(n for n in first if n in frame.columns), *(n for n in frame.columns if n not in first)]
    names = ordered[: max(FEWEST_FEATURES, min(MOST_FEATURES, CELLS // max(1, frame.height * frame.width)))]
    clean = float(row_loss(task, truth, answer(frame)).mean())
    table = np.zeros((REPEATS, len(names)))
    for k in range(REPEATS):
        for i, name in enumerate(names):
            mixed = frame.with_columns(frame[name].gather(rng.permutation(frame.height)).alias(name))
            table[k, i] = float(row_loss(task, truth, answer(mixed)).mean()) - clean
    order = np.argsort(-table.mean(axis=0), kind="stable")
    found = [
        {"name": names[i], "importance": float(table[:, i].mean()), "low": float(table[:, i].min()), "high": float(table[:, i].max())} for i in order
    ]
    return {
        "features": found, "stability": _agreement(table), "rows": frame.height, "repeats": REPEATS,
        "left_out": len(ordered) - len(names), "loss": clean,
    }  # fmt: skip


def _agreement(table: np.ndarray) -> float:
    """Mean Spearman correlation between the repeats' orders."""
    if table.shape[1] < 2:
        return 1.0
    ranks = np.array([np.argsort(np.argsort(-row, kind="stable"), kind="stable") for row in table], dtype=np.float64)
    pairs = [float(np.corrcoef(ranks[a], ranks[b])[0, 1]) for a in range(len(ranks)) for b in range(a)]
    return float(np.mean(pairs))


def linear_terms(model: Any, matrix: np.ndarray) -> dict[str, np.ndarray] | None:
    """The terms of a linear model; None for any other."""
    if type(model).__name__.removeprefix("Online") not in ("LogisticRegression", "Ridge", "LinearRegression", "Lasso", "ElasticNet"):
        return None
    weight = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
    mean = matrix.astype(np.float64).mean(axis=0)
    link = "identity" if not hasattr(model, "classes_") else "sigmoid" if len(weight) == 1 else "softmax"
    return {"kind": np.array("linear"), "link": np.array(link), "weight": weight, "mean": mean,
            "base": np.asarray(model.intercept_, dtype=np.float64).reshape(-1) + weight @ mean}  # fmt: skip


def tree_terms(ensemble: Any, matrix: np.ndarray) -> dict[str, np.ndarray] | None:
    """The terms of a tree ensemble (a table as `backends.tree_tables` makes it); None when there are too many.

    Args:
        matrix: the encoded training rows, whose shares say how often each branch is taken.
    """
    leaves: list[tuple[dict[int, list[float]], np.ndarray, int]] = []
    outputs = len(ensemble.base)
    for tree in ensemble.trees:
        cover = _cover(tree, matrix)
        stack: list[tuple[int, dict[int, list[float]]]] = [(0, {})]
        while stack:
            node, path = stack.pop()
            feature = int(tree.feature[node])
            if feature < 0:
                leaves.append((path, tree.value[node], tree.output))
                continue
            threshold, total = float(tree.threshold[node]), cover[node]
            for child, low, high, goes in (
                (int(tree.left[node]), -np.inf, threshold, bool(tree.missing_left[node])),
                (int(tree.right[node]), threshold, np.inf, not tree.missing_left[node]),
            ):
                before = path.get(feature, [-np.inf, np.inf, 1.0, 1.0])
                share = cover[child] / total if total > 0 else 0.5
                after = [max(before[0], low), min(before[1], high), float(before[2] and goes), before[3] * share]
                stack.append((child, {**path, feature: after}))
    leaves = [leaf for leaf in leaves if np.any(leaf[1])]
    depth = max((len(path) for path, _, _ in leaves), default=0)
    if len(leaves) * depth > MOST_TERMS or not leaves:
        return None
    shape = (len(leaves), depth)
    asked, missing = np.full(shape, -1, dtype=np.int32), np.ones(shape, dtype=bool)
    lows, highs = np.full(shape, -np.inf, dtype=np.float32), np.full(shape, np.inf, dtype=np.float32)
    shares, value = np.ones(shape, dtype=np.float32), np.zeros((len(leaves), outputs))
    for i, (path, own, output) in enumerate(leaves):
        for j, (name, (a, b, m, z)) in enumerate(path.items()):
            asked[i, j], lows[i, j], highs[i, j], missing[i, j], shares[i, j] = name, a, b, bool(m), z
        value[i, output : output + len(own)] = np.asarray(own) / ensemble.divide
    base = np.asarray(ensemble.base, dtype=np.float64) + shares.astype(np.float64).prod(axis=1) @ value
    return {
        "kind": np.array("trees"), "link": np.array(ensemble.link), "feature": asked, "low": lows, "high": highs, "missing": missing,
        "share": shares, "value": value, "base": base,
    }  # fmt: skip


def _cover(tree: Any, matrix: np.ndarray) -> np.ndarray:
    """How many of the rows come through each node."""
    count = np.zeros(len(tree.feature))
    stack = [(0, np.arange(len(matrix)))]
    while stack:
        node, rows = stack.pop()
        count[node] = len(rows)
        feature = int(tree.feature[node])
        if feature < 0:
            continue
        values = matrix[rows, feature]
        left = np.where(np.isnan(values), tree.missing_left[node], values <= tree.threshold[node])
        stack.append((int(tree.left[node]), rows[left]))
        stack.append((int(tree.right[node]), rows[~left]))
    return count


def observed(frame: pl.DataFrame) -> dict[str, list[Any]]:
    """The values a counterfactual may give each feature: quantiles of a number, the most frequent categories. All were seen in training."""
    found: dict[str, list[Any]] = {}
    for name in frame.columns:
        if frame[name].dtype == pl.String:
            found[name] = sorted(v for v, _ in frame[name].value_counts(sort=True).head(20).iter_rows() if v)
        else:
            numbers = frame[name].cast(pl.Float64).to_numpy()
            there = numbers[np.isfinite(numbers)]
            found[name] = np.unique(np.quantile(there, np.linspace(0, 1, GRID), method="nearest")).tolist() if len(there) else []
    return found


def write(folder: Path, terms: Mapping[str, np.ndarray] | None) -> None:
    """Put the terms beside the model's files; the same terms give the same bytes."""
    if terms is not None:
        with (folder / TERMS).open("wb") as file:
            np.savez(file, **dict(terms))  # type: ignore[arg-type]
