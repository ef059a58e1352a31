"""Two-sample Kolmogorov-Smirnov distance: the largest gap between two distribution functions, read from two KLL sketches.

    D = max over x of | F(x) - G(x) |      (Kolmogorov 1933, Smirnov 1939)

Both functions are evaluated at 400 quantiles of either sketch, so D is within about 0.015 of the exact one. Missing values take no part.

It is a distance, deliberately without a p-value: with a million rows every column of the world differs "significantly".
Unit of independence: none assumed.
"""

from __future__ import annotations

import numpy as np

from treadle.monitoring.sketches import NumberSketch

_RANKS = [float(r) for r in np.linspace(0.0, 1.0, 401)]


def score(reference: NumberSketch, now: NumberSketch) -> float:
    """D between 0 (alike) and 1 (apart); 0 when either is empty.

    >>> from treadle.monitoring.sketches import NumberSketch
    >>> low, high = NumberSketch(), NumberSketch()
    >>> low.update([1, 2, 3, 4]); high.update([3, 4, 5, 6])
    >>> score(low, high)
    0.5
    """
    if not reference.present or not now.present:
        return 0.0
    points = np.unique(np.concatenate([reference.quantiles(_RANKS), now.quantiles(_RANKS)]))
    return float(np.abs(reference.below(points) - now.below(points)).max())
