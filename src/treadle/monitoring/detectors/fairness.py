"""Fairness drift: a group is treated otherwise than it was, compared with the others of the same block.

    gap of a block = (mean excess loss of the group) - (mean excess loss of all others);    the same of the share that is selected

Each group's series of gaps is standardised by drift-free blocks and added up in a CUSUM, as quality is; a bad day is bad for all groups and cancels.
After Ghosh et al. (2022), "Faircanary: Rapid Continuous Explainable Fairness", and the equalised-odds gap of Hardt, Price and Srebro (2016) in its
form for losses.

Unit of independence: the block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from treadle.monitoring.detectors.cusum import CusumState, step

LEAST = 20  # matured rows of the group, and of the others, in a block
FEW = 8  # drift-free blocks a group needs


@dataclass(frozen=True, slots=True)
class Group:
    """What is usual for a group: mean and standard deviation of its gap over drift-free blocks."""

    mean: float
    sd: float
    blocks: int


def gaps(values: Mapping[str, Sequence[float]], place: int = 2) -> dict[str, float]:
    """The gap of each group of one attribute in one block.

    Args:
        values: group to [rows, matured, sum of excess loss, sum of truth minus prediction], as `explain.sums_of` gives them.
        place: which sum; 2 is excess loss, 3 is truth minus prediction.

    >>> gaps({"a": [50, 50, 10.0, 0.0], "b": [50, 50, 5.0, 0.0]})
    {'a': 0.1, 'b': -0.1}
    """
    matured, total = sum(v[1] for v in values.values()), sum(v[place] for v in values.values())
    return {
        group: float(v[place] / v[1] - (total - v[place]) / (matured - v[1]))
        for group, v in values.items() if v[1] >= LEAST and matured - v[1] >= LEAST
    }  # fmt: skip


def usual(blocks: Sequence[Mapping[str, float]]) -> dict[str, Group]:
    """What is usual for each group that enough drift-free blocks had."""
    names = dict.fromkeys(name for block in blocks for name in block)
    found = {}
    for name in names:
        series = np.array([block[name] for block in blocks if name in block])
        if len(series) >= FEW and series.std() > 0:
            found[name] = Group(float(series.mean()), float(series.std(ddof=1)), len(series))
    return found


def advance(states: Mapping[str, CusumState], now: Mapping[str, float], known: Mapping[str, Group]) -> dict[str, CusumState]:
    """The CUSUM of each group after one more block."""
    return {name: step(states.get(name, CusumState()), (now[name] - g.mean) / g.sd if name in now else float("nan")) for name, g in known.items()}
