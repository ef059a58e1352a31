"""Wasserstein distance of two columns of numbers: how far, on average, a value must be moved to make one column of the other.

    W = integral over ranks r from 0 to 1 of | F^-1(r) - G^-1(r) |,    divided by the reference's standard deviation

Source: Vallender (1974), "Calculation of the Wasserstein Distance between Probability Distributions on the Line". Divided by the standard deviation
it is an effect size: 0.1 is a shift of a tenth of the usual spread. It is evaluated at 400 ranks of either sketch, so single extreme values beyond
the outermost ranks take no part. Where the reference has no spread, it is not divided.

Unit of independence: none assumed; it is a distance.
"""

from __future__ import annotations

import numpy as np

from treadle.monitoring.sketches import NumberSketch

_RANKS = [float(r) for r in (np.arange(400) + 0.5) / 400]


def score(reference: NumberSketch, now: NumberSketch) -> float:
    """The distance in standard deviations of the reference; 0 when either is empty.

    >>> from treadle.monitoring.sketches import sketch_column
    >>> score(sketch_column([0.0, 2.0], "number"), sketch_column([1.0, 3.0], "number")) == 1 / 2**0.5
    True
    """
    if not reference.present or not now.present:
        return 0.0
    moved = float(np.abs(reference.quantiles(_RANKS) - now.quantiles(_RANKS)).mean())
    return moved / reference.sd if reference.sd > 0 else moved
