"""Fairness over protected attributes: what each group gets, with intervals, alone and in combination; and what evening it out would cost.

The attributes need not be features of the model. For classes: the share that is selected, the true and false positive rates, accuracy,
calibration. For numbers: the mean error and the mean absolute error. Four-fifths rule: US Equal Employment Opportunity Commission (1978), 29 CFR
1607.4(D), the lowest selection rate over the highest. Equalised odds difference: Hardt, Price and Srebro (2016), the largest gap between groups in
true or false positive rates. Mitigation: a threshold for each group chosen on validation rows (theirs too), or rows weighted so that group and
target are independent (Kamiran and Calders 2012, "Data preprocessing techniques for classification without discrimination").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from treadle.core.declare.model import Task
from treadle.training.losses import auc, of_classes, row_loss

LEAST = 50  # rows of a group below which it is counted, not judged
REPLICATES = 200
MOST_GROUPS = 40
MISSING = "missing"


def banded(values: Sequence[str | None], cuts: Sequence[float] | None) -> np.ndarray:
    """An attribute's value as text; a number with cuts as the band it lies in; nothing as 'missing'."""
    if not cuts:
        return np.array([MISSING if v is None or v == "" else str(v) for v in values], dtype=object)
    edges = sorted(cuts)
    found = []
    for v in values:
        try:
            number = float(v) if v is not None else float("nan")
        except ValueError:
            number = float("nan")
        if number != number:
            found.append(MISSING)
        else:
            place = int(np.searchsorted(edges, number, side="right"))
            low, high = (edges[place - 1] if place else None), (edges[place] if place < len(edges) else None)
            found.append(f"below {high:g}" if low is None else f"{low:g} and more" if high is None else f"{low:g} to {high:g}")
    return np.array(found, dtype=object)


def groups_of(attributes: Mapping[str, np.ndarray]) -> dict[tuple[str, ...], np.ndarray]:
    """Attribute, and pair of attributes, to each row's group."""
    found: dict[tuple[str, ...], np.ndarray] = {(name,): values for name, values in attributes.items()}
    for a, b in combinations(attributes, 2):
        found[a, b] = np.array([f"{x} + {y}" for x, y in zip(attributes[a], attributes[b])], dtype=object)
    return found


def fairness(
    task: Task, truth: np.ndarray, output: np.ndarray, attributes: Mapping[str, np.ndarray], blocks: np.ndarray, seed: int = 0, threshold: float = 0.5
) -> dict[str, Any]:
    """Group metrics over every attribute and pair of attributes, as JSON.

    Args:
        truth, output: of the test rows. Of a 'ranking' there is one entry a group, and `truth` is its 1 - NDCG.
        attributes: attribute to each test row's value, as `banded` gives it.
        threshold: from which probability on a binary model's row counts as selected.
    Returns: 'attributes': [{'attribute', 'groups': [{'value', 'rows', metric: {'value', 'low', 'high'}}], 'ratio', 'odds', ...}]. For binary models
        'ratio' is the four-fifths ratio and 'odds' the equalised odds difference. 'gap' is, for several classes, the difference in accuracy, for a
        ranking in NDCG, for numbers in the mean absolute error (for a quantile in the pinball loss), in parts of the overall one. Each has a 95 %
        interval (block bootstrap).
    """
    draws = _draws(blocks, seed)
    found = []
    for names, values in groups_of(attributes).items():
        levels = [v for v in sorted(set(values)) if (values == v).sum() >= LEAST and v != MISSING]
        entry: dict[str, Any] = {
            "attribute": " x ".join(names), "judged": len(levels), "small": int(sum((values == v).sum() < LEAST for v in set(values))), "groups": [],
        }  # fmt: skip
        per_group: dict[str, dict[str, np.ndarray]] = {}
        for level in levels[:MOST_GROUPS]:
            mask = values == level
            own = _metrics(task, truth, output, mask, draws, threshold)
            per_group[level] = own
            entry["groups"].append({"value": level, "rows": int(mask.sum()), **{name: _interval(series) for name, series in own.items()}})
        if len(per_group) >= 2:
            entry |= _compared(task, per_group)
        found.append(entry)
    return {"threshold": threshold if task == "binary" else None, "rows": len(truth), "least": LEAST, "attributes": found}


def _draws(blocks: np.ndarray, seed: int) -> np.ndarray:
    """Row weights, first the rows as they are and then resampled blocks, shape (1 + replicates, n)."""
    _, position = np.unique(blocks, return_inverse=True)
    count = int(position.max()) + 1
    draws = np.random.default_rng(seed + 31).multinomial(count, np.full(count, 1 / count), size=REPLICATES)
    return np.vstack([np.ones(len(blocks)), draws[:, position]]).astype(np.float32)


def _metrics(task: Task, truth: np.ndarray, output: np.ndarray, mask: np.ndarray, draws: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """Metric to its value on the rows as they are (first) and on each replicate."""
    w = draws[:, mask]
    y, o = truth[mask], output[mask]

    def mean(values: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        v = w if where is None else w * where
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(v @ values.astype(np.float32) / v.sum(axis=1))

    if task == "ranking":
        return {"ndcg": mean(1 - y)}
    if task == "quantile":
        return {"scaled_pinball": mean(row_loss(task, y, o)), "below": mean(y <= o[:, 0])}
    if not of_classes(task):
        return {"mae": mean(np.abs(y - o[:, 0])), "mean_error": mean(o[:, 0] - y)}
    right = mean(o.argmax(axis=1) == y)
    loss = mean(row_loss(task, y, o))
    if task == "multiclass":
        return {"accuracy": right, "log_loss": loss}
    selected = o[:, 1] >= threshold
    return {
        "selected": mean(selected), "true_positive": mean(selected, y == 1), "false_positive": mean(selected, y == 0),
        "accuracy": mean(selected == y), "positives": mean(y == 1), "overstated": mean(o[:, 1] - y), "log_loss": loss,
        "roc_auc": np.array([auc(y, o[:, 1])]),
    }  # fmt: skip


def _compared(task: Task, groups: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    def stack(name: str) -> np.ndarray:
        return np.vstack([g[name] for g in groups.values()])

    names = list(groups)
    if task != "binary":
        first = stack(next(iter(next(iter(groups.values())))))
        scale = 1.0 if task in ("multiclass", "ranking") else first.mean(axis=0)
        return {"gap": _interval((first.max(axis=0) - first.min(axis=0)) / scale), "between": _extremes(names, first)}
    selected = stack("selected")
    odds = np.maximum(*(np.ptp(stack(rate), axis=0) for rate in ("true_positive", "false_positive")))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = selected.min(axis=0) / selected.max(axis=0)
    return {"ratio": _interval(ratio), "parity": _interval(np.ptp(selected, axis=0)), "odds": _interval(odds), "between": _extremes(names, selected)}


def _extremes(names: Sequence[str], values: np.ndarray) -> list[str]:
    """The groups with the lowest and the highest value on the rows as they are."""
    first = np.nan_to_num(values[:, 0], nan=0.0)
    return [names[int(first.argmin())], names[int(first.argmax())]]


def _interval(series: np.ndarray) -> dict[str, float | None]:
    replicates = series[1:][np.isfinite(series[1:])]
    low, high = np.percentile(replicates, [2.5, 97.5]) if len(replicates) >= REPLICATES / 2 else (np.nan, np.nan)
    return {"value": _number(series[0]), "low": _number(low), "high": _number(high)}


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


# Mitigation


def by_threshold(
    truth: np.ndarray, probability: np.ndarray, groups: np.ndarray, *, ask_probability: np.ndarray, ask_groups: np.ndarray, ratio: float = 0.8,
    threshold: float = 0.5, odds: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A threshold for each group, chosen on validation rows so that selection rates stand in at least `ratio` (or odds differ by at most `odds`).

    Args:
        truth, probability, groups: of rows the model was not fitted on, to choose on.
        ask_probability, ask_groups: of the rows to decide.
    Returns: {'thresholds': group to threshold, 'selected': a decision for each asked row}.
    """
    levels = sorted(set(groups))
    overall = float((probability >= threshold).mean())
    found: dict[str, float] = {}
    for level in levels:
        own = probability[groups == level]
        y = truth[groups == level]
        if len(own) < LEAST:
            found[str(level)] = threshold
            continue
        if odds is not None:
            wanted = float((probability[truth == 1] >= threshold).mean())
            pool = own[y == 1] if (y == 1).sum() >= 10 else own
            found[str(level)] = float(np.quantile(pool, 1 - wanted))
            continue
        rate = float((own >= threshold).mean())
        # As little as is needed: rates are drawn into a band around the overall rate whose ends stand in `ratio`, with a little room for chance.
        room = (1 + ratio) / 2
        low, high = overall * np.sqrt(room), overall / np.sqrt(room)
        target = min(max(rate, low), high)
        found[str(level)] = threshold if target == rate else float(np.quantile(own, 1 - min(1.0, target)))
    limits = np.array([found.get(str(g), threshold) for g in ask_groups])
    return {"thresholds": found, "selected": ask_probability >= limits}


def reweighting(truth: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Row weights that make group and class independent: expected share over observed share."""
    weights = np.ones(len(truth))
    for level in set(groups):
        for k in set(truth.tolist()):
            mask = (groups == level) & (truth == k)
            if mask.any():
                weights[mask] = (groups == level).mean() * (truth == k).mean() / mask.mean()
    return weights


def mitigation(
    truth: np.ndarray, probability: np.ndarray, groups: np.ndarray, validation: tuple[np.ndarray, np.ndarray, np.ndarray], threshold: float = 0.5,
    refit: Callable[[np.ndarray], np.ndarray] | None = None, weights: np.ndarray | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """What each way of evening out selection brings and costs on the test rows, beside doing nothing.

    Args:
        truth, probability, groups: of the test rows.
        validation: (truth, probability, groups) of rows to choose thresholds on.
        refit, weights: row weights of the search rows to the probabilities, on the test rows, of the winner's setting fitted with them.
    """
    ways: dict[str, tuple[np.ndarray, np.ndarray]] = {"as it is": (probability >= threshold, probability)}
    chosen = by_threshold(*validation, ask_probability=probability, ask_groups=groups, threshold=threshold)
    ways["a threshold for each group"] = (chosen["selected"], probability)
    evened = by_threshold(*validation, ask_probability=probability, ask_groups=groups, threshold=threshold, odds=0.0)
    ways["thresholds for equal true positive rates"] = (evened["selected"], probability)
    if refit is not None and weights is not None:
        again = refit(weights)
        ways["rows weighted so that group and target are independent"] = (again >= threshold, again)
    found: list[dict[str, Any]] = []
    for name, (selected, p) in ways.items():
        rates = _rates(truth, selected, groups)
        entry: dict[str, Any] = {
            "way": name, "accuracy": float((selected == truth).mean()),
            "log_loss": float(row_loss("binary", truth, np.column_stack([1 - p, p])).mean()), "roc_auc": _number(auc(truth, p)), **rates,
        }  # fmt: skip
        if name == "a threshold for each group":
            entry["thresholds"] = chosen["thresholds"]
        if name == "thresholds for equal true positive rates":
            entry["thresholds"] = evened["thresholds"]
        found.append(entry)
    for entry in found:
        entry["costs"] = {"accuracy": found[0]["accuracy"] - entry["accuracy"], "log_loss": entry["log_loss"] - found[0]["log_loss"]}
    return found


def _rates(truth: np.ndarray, selected: np.ndarray, groups: np.ndarray) -> dict[str, float | None]:
    levels = [g for g in sorted(set(groups)) if (groups == g).sum() >= LEAST and g != MISSING]
    if len(levels) < 2:
        return {"ratio": None, "odds": None}
    rates = [float(selected[groups == g].mean()) for g in levels]
    gaps = []
    for k in (0, 1):
        own = [float(selected[(groups == g) & (truth == k)].mean()) for g in levels if ((groups == g) & (truth == k)).sum() >= 10]
        gaps.append(max(own) - min(own) if len(own) >= 2 else 0.0)
    return {"ratio": min(rates) / max(rates) if max(rates) > 0 else None, "odds": max(gaps)}
