"""Attribution drift: which features the model leans on, now and before; it moves when what the model sees or what it makes of it does.

    NDCG = sum over ranks i of (weight of the feature ranked i now) / log2(i + 1), over the same with the features ranked as before

The weights are mean absolute contributions. 1 means that the order has not changed; below `MOVED` it has. Source: Järvelin and Kekäläinen (2002),
"Cumulated Gain-Based Evaluation of IR Techniques", as used for attributions by Nigenda et al. (2022), "Amazon SageMaker Model Monitor".

Unit of independence: the block: contributions of one day share its weather.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

MOVED = 0.9


def score(before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """NDCG of the order of `now` by the weights of `before`; 1 where there is nothing to compare.

    Args:
        before, now: feature to its mean absolute contribution.

    >>> score({"a": 3.0, "b": 1.0}, {"a": 2.0, "b": 1.9})
    1.0
    >>> round(score({"a": 3.0, "b": 1.0}, {"a": 0.1, "b": 2.0}), 2)
    0.8
    """
    names = sorted(set(before) & set(now))
    weights = np.array([before[n] for n in names])
    if len(names) < 2 or not weights.sum():
        return 1.0
    discount = 1 / np.log2(np.arange(len(names)) + 2)
    by_now = weights[np.argsort([-now[n] for n in names], kind="stable")]
    best = np.sort(weights)[::-1]
    return float((by_now * discount).sum() / (best * discount).sum())
