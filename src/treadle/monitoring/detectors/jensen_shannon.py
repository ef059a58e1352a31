"""Jensen-Shannon distance: how far two distributions of shares lie apart, between 0 (alike) and 1 (nothing in common).

    JS = sqrt( H((p + q) / 2) - (H(p) + H(q)) / 2 ),    H in bits

Source: Lin (1991), "Divergence Measures Based on the Shannon Entropy"; its root is a metric (Endres and Schindelin 2003). The shares are those of the
bins of `psi.py`: deciles of the reference, categories, missing. Unlike PSI it is bounded, so that one empty bin cannot outweigh the rest.

Unit of independence: none assumed; it is a distance, and what is unusual must be learned from blocks.
"""

from __future__ import annotations

from math import sqrt

import numpy as np

from treadle.monitoring.detectors import psi
from treadle.monitoring.sketches import Sketch


def score(reference: Sketch, now: Sketch) -> float:
    """The distance; 0 when either has no rows.

    >>> from treadle.monitoring.sketches import sketch_column
    >>> year = sketch_column(["ice"] * 5_000, "category")
    >>> score(year, sketch_column(["sun"] * 5_000, "category")) > 0.99
    True
    """
    bins = psi.score(reference, now).bins
    return of_shares([b.reference for b in bins], [b.now for b in bins])


def of_shares(reference: list[float], now: list[float]) -> float:
    """The distance of two lists of shares over the same bins."""
    q, p = np.array(reference), np.array(now)
    if not len(q):
        return 0.0
    q, p = q / q.sum(), p / p.sum()
    return sqrt(max(0.0, _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2))


def _entropy(shares: np.ndarray) -> float:
    known = shares[shares > 0]
    return float(-(known * np.log2(known)).sum())
