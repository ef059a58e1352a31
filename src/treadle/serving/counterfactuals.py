"""What would have changed the answer: the fewest features that would have to be otherwise, each to a value seen in training.

A plain search, as the first that is asked for is seldom more than two features away: every single change is tried, then the most promising ones in
pairs and threes. Of changes of equally many features the one that moves numbers least (in quantiles of the training rows) is told first. Wachter,
Mittelstadt and Russell (2018), "Counterfactual Explanations without Opening the Black Box", ask for closeness; sparsity and observed values keep them
plain and possible.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

PROMISING = 8  # single changes that are tried together


def counterfactuals(
    row: Sequence[Any],
    names: Sequence[str],
    answer: Callable[[Sequence[Sequence[Any]]], np.ndarray],
    values: Mapping[str, Sequence[Any]],
    *,
    wanted: Callable[[np.ndarray], np.ndarray],
    fixed: Sequence[str] = (),
    most: int = 3,
) -> list[dict[str, Any]]:
    """Up to `most` sets of changes that lead to a wanted answer, the sparsest first; empty when none of up to three features does.

    Args:
        row, names: feature values and their names, in the model's order.
        answer: rows of feature values to outputs, shape (n, k).
        values: for each feature the values it may take.
        wanted: outputs to how far each is from what is wanted, shape (n,); 0 or less is there.
        fixed: features that nobody can change.
    Returns: [{'changes': {name: [from, to]}, 'output': [...]}].
    """
    place = {name: i for i, name in enumerate(names)}
    singles: list[tuple[str, Any, float]] = []
    for name, allowed in values.items():
        if name in fixed or name not in place:
            continue
        singles += [(name, value, _distance(row[place[name]], value, allowed)) for value in allowed if value != row[place[name]]]
    if not singles:
        return []

    def ask(changes: Sequence[Sequence[tuple[str, Any, float]]]) -> tuple[np.ndarray, np.ndarray]:
        asked = []
        for change in changes:
            line = list(row)
            for name, value, _ in change:
                line[place[name]] = value
            asked.append(line)
        outputs = answer(asked)
        return outputs, wanted(outputs)

    found: list[tuple[int, float, dict[str, Any]]] = []
    outputs, far = ask([[s] for s in singles])
    _keep(found, [[s] for s in singles], outputs, far, row, place)
    best: dict[str, tuple[float, tuple[str, Any, float]]] = {}
    for single, distance in zip(singles, far):
        if single[0] not in best or (distance, single[2]) < (best[single[0]][0], best[single[0]][1][2]):
            best[single[0]] = (float(distance), single)
    leading = [s for _, s in sorted(best.values(), key=lambda b: (b[0], b[1][2]))][:PROMISING]
    for size in (2, 3):
        if len(found) >= most:
            break
        sets = [list(c) for c in combinations(leading, size)]
        if sets:
            outputs, far = ask(sets)
            _keep(found, sets, outputs, far, row, place)
    told: list[dict[str, Any]] = []
    for _, _, entry in sorted(found, key=lambda f: f[:2]):
        if not any(set(t["changes"]) <= set(entry["changes"]) for t in told):  # the same features, or more of them, tell nothing new
            told.append(entry)
        if len(told) == most:
            break
    return told


def _keep(found: list[tuple[int, float, dict[str, Any]]], sets: Sequence[Sequence[tuple[str, Any, float]]], outputs: np.ndarray, far: np.ndarray,
          row: Sequence[Any], place: Mapping[str, int]) -> None:  # fmt: skip
    for change, output, distance in zip(sets, outputs, far):
        if distance <= 0:
            changes = {name: [row[place[name]], value] for name, value, _ in change}
            found.append((len(change), float(sum(d for _, _, d in change)), {"changes": changes, "output": [float(o) for o in output]}))


def _distance(now: Any, then: Any, allowed: Sequence[Any]) -> float:
    """How far a change goes: for a number the part of the training rows that lie between, for a category 0.5."""
    if isinstance(now, str) or isinstance(then, str) or now is None or now != now:
        return 0.5
    grid = np.asarray(allowed, dtype=np.float64)
    return abs(float(np.searchsorted(grid, then)) - float(np.searchsorted(grid, now))) / max(1, len(grid))
