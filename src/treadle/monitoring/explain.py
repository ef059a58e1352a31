"""Where an alarm comes from: which values of which columns carry more of what went wrong than of the rows.

Of each category column a block keeps, for its most frequent values: rows, matured rows, and the sums of loss in excess of what the model expected and
of truth minus prediction. Sums add up over blocks, so an alarm that began weeks ago is explained from all blocks since.

    lift of a value = (its part of the excess) / (its part of the rows);   named when it is above `LIFT` and carries at least `LEAST` of the excess

Unit of independence: none; it ranks, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from treadle.core.declare.model import Task
from treadle.training.losses import FLOOR, row_loss

VALUES = 30  # values of a column that are kept
LIFT, LEAST = 1.5, 0.1
SHOWN = 5
Sums = dict[str, dict[str, list[float]]]  # column to value to [rows, matured, excess, gap]


def sums_of(task: Task, labels: Sequence[Any], columns: Mapping[str, Sequence[Any]], outputs: np.ndarray, truth: np.ndarray) -> Sums:
    """The sums of one block by value; `outputs` and `truth` as in `blocks.block_stats`."""
    known = np.isfinite(truth) if task == "regression" else np.asarray(truth) >= 0
    excess, gap = np.zeros(len(truth)), np.zeros(len(truth))
    if known.any():
        p, y = outputs[known], np.asarray(truth)[known]
        if task == "regression":
            excess[known], gap[known] = row_loss(task, y, p), y - p[:, 0]
        else:
            codes = y.astype(np.int64)
            excess[known] = row_loss(task, codes, p) - (p * -np.log(np.clip(p, FLOOR, 1.0))).sum(axis=1)
            gap[known] = (codes == 1) - p[:, 1] if task == "binary" else (codes == p.argmax(axis=1)) - p.max(axis=1)
    found: Sums = {}
    for name, values in columns.items():
        texts = np.array(["" if v is None else str(v) for v in values], dtype=object)
        names, position = np.unique(texts.astype(str), return_inverse=True)
        rows = np.bincount(position, minlength=len(names))
        weights = [np.bincount(position, weights=w, minlength=len(names)) for w in (known, excess, gap)]
        kept = np.argsort(-rows, kind="stable")[:VALUES]
        found[name] = {str(names[i]): [float(rows[i]), *(round(float(w[i]), 6) for w in weights)] for i in kept}
    return found


def explaining(blocks: Iterable[Sums], of: str) -> tuple[tuple[str, float], ...]:
    """'column = value' and its share of what went wrong, largest first: the values that carry more of it than of the rows.

    Args:
        of: 'excess', or 'gap' with its sign as it is in all.
    """
    place = {"excess": 2, "gap": 3}[of]
    total: Sums = {}
    for sums in blocks:
        for column, values in sums.items():
            for value, numbers in values.items():
                kept = total.setdefault(column, {}).setdefault(value, [0.0] * 4)
                for i, number in enumerate(numbers):
                    kept[i] += number
    found: list[tuple[str, float]] = []
    for column, values in total.items():
        matured, wrong = (sum(v[i] for v in values.values()) for i in (1, place))
        if matured <= 0 or wrong == 0:
            continue
        for value, numbers in values.items():
            share, rows = numbers[place] / wrong, numbers[1] / matured
            if rows > 0 and share >= LEAST and share / rows >= LIFT:
                found.append((f"{column} = {value or 'missing'}", round(share, 3)))
    return tuple(sorted(found, key=lambda item: -item[1])[:SHOWN])
