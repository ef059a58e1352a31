"""Chi-square of two columns of categories, as the effect size that goes with it: Cramér's V of column against time.

    chi2 = sum over bins and both samples of (rows - expected)^2 / expected,    V = sqrt( chi2 / (n + m) )

Sources: Pearson (1900); Cramér (1946), "Mathematical Methods of Statistics". V lies between 0 and 1 whatever the number of rows (0.1 small, 0.3
middling, 0.5 large: Cohen 1988), where the p-value of chi2 calls any difference significant once there are enough rows. As chi2 of unchanged data is
about its degrees of freedom, those are taken off first (Bergsma 2013). With samples of unequal size V can reach at most 2 sqrt(n m) / (n + m), by
which it is divided.

Unit of independence: the row, in the correction only.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from treadle.monitoring.detectors import psi
from treadle.monitoring.sketches import Sketch


def score(reference: Sketch, now: Sketch) -> float:
    """Cramér's V over the bins of `psi.py`; 0 when either has no rows.

    >>> from treadle.monitoring.sketches import sketch_column
    >>> score(sketch_column(["a"] * 500, "category"), sketch_column(["b"] * 500, "category")) > 0.99
    True
    """
    if not reference.count or not now.count:
        return 0.0
    bins = psi.score(reference, now).bins
    n, m = reference.count, now.count
    q, p = np.array([b.reference for b in bins]) * n, np.array([b.now for b in bins]) * m
    kept = q + p > 1.0  # bins that hold the half rows of the prior alone
    q, p = q[kept], p[kept]
    total = q + p
    if len(total) < 2:
        return 0.0
    chi2 = float((((q - total * n / (n + m)) ** 2) / (total * n / (n + m)) + ((p - total * m / (n + m)) ** 2) / (total * m / (n + m))).sum())
    free = max(0.0, chi2 - (len(total) - 1))
    return min(1.0, sqrt(free / (n + m)) / (2 * sqrt(n * m) / (n + m)))
