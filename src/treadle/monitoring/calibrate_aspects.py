"""What is usual beside outcomes and columns, from drift-free blocks: limits at which blocks like them alarm falsely at a stated rate.

Unit of independence: the block, or the run of neighbouring blocks where these resemble each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from treadle.monitoring.aspects import Aspects
from treadle.monitoring.charts import chart_limits, level_threshold
from treadle.monitoring.detectors import attribution, duplicates, fairness, outliers
from treadle.monitoring.usual import LEAST_ODD, GroupChart, Usual

TIMES = 5.0  # of the usual share of unusual rows


def usual_of(blocks: Sequence[Aspects], odd_score: float, rate: float, watched: float, seed: int) -> Usual:
    """The limits at which blocks like these alarm falsely at the rate, over everything looked at here.

    Args:
        odd_score: above which the rows were counted as unusual.
        watched: among how many kinds `rate` is shared, before it is shared among the groups, the rows and the weights.
    """
    blocks = [b for b in blocks if b.rows]
    if len(blocks) < fairness.FEW:
        return Usual()
    odd = np.array([b.odd for b in blocks if b.rows >= LEAST_ODD])
    weights = average([b.weights for b in blocks if b.weights])
    moved = np.array([1 - attribution.score(weights, b.weights) for b in blocks if b.weights])
    known = fairness.usual([b.gaps for b in blocks])
    among = watched * (len(known) + 1 + bool(weights))
    groups = {}
    for name, group in known.items():
        z = np.array([(b.gaps[name] - group.mean) / group.sd for b in blocks if name in b.gaps])
        limits = chart_limits(z, rate, watched=among, two_sided=False, seed=seed)
        groups[name] = GroupChart(group.mean, group.sd, limits.threshold, limits.single)
    return Usual(
        odd_score if len(odd) >= fairness.FEW else float("inf"),
        max(TIMES * outliers.SHARE, 1.2 * float(odd.max()), level_threshold(odd, rate, watched=among)) if len(odd) >= fairness.FEW else float("inf"),
        duplicates.MORE + max(b.repeated for b in blocks),
        weights,
        max(1 - attribution.MOVED, 1.2 * float(moved.max()), level_threshold(moved, rate, watched=among)) if len(moved) >= 2 else float("inf"),
        groups,
    )


def average(weights: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each feature's contributions over blocks."""
    names = dict.fromkeys(name for one in weights for name in one)
    return {name: float(np.mean([one.get(name, 0.0) for one in weights])) for name in names}
