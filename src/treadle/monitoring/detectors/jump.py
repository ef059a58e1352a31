"""A jump: the mean of a block lies far from those of the blocks just before it.

    jump = | mean of the block - median of the means before | / max( 1.4826 * MAD of the means before, 0.05 * sd of the reference )

Median and MAD do not follow a single odd day (Hampel 1974; Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers"). Against the last weeks
instead of the year of training, a season is no news, and a feed that breaks is: on flights a change from Fahrenheit to Celsius shows the same day.

Unit of independence: the block. What is unusual is learned from drift-free blocks compared with the ones before them in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from treadle.monitoring.sketches import NumberSketch

BEFORE = 14  # blocks that are looked back at
LEAST = 7
FLOOR = 0.05


def score(reference: NumberSketch, before: Sequence[NumberSketch], now: NumberSketch) -> float | None:
    """The jump of `now` over the blocks `before`, old to new; None with fewer than `LEAST` of them, or without values.

    >>> from treadle.monitoring.sketches import sketch_column
    >>> days = [sketch_column([20.0 + d % 3, 22.0 + d % 3], "number") for d in range(10)]
    >>> round(score(days[0].merge(days[1]), days, sketch_column([5.0, 7.0], "number")), 1)
    10.8
    """
    means = np.array([b.mean for b in before[-BEFORE:] if b.present])
    if len(means) < LEAST or not now.present:
        return None
    middle = float(np.median(means))
    spread = max(1.4826 * float(np.median(np.abs(means - middle))), FLOOR * (reference.sd if reference.sd > 0 else 0.0))
    return abs(now.mean - middle) / spread if spread > 0 else (0.0 if now.mean == middle else float("inf"))
