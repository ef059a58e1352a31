"""Outliers: how unusual one request is, from the sketches of the training rows, before its outcome is known.

    score = max over features of -ln( 2 min(F(x), 1 - F(x)) + 1/n ),    of a category -ln( (its share) + 1/n )

F is the reference's distribution function. It is the tail probability of ECOD (Li et al. 2022, "ECOD: Unsupervised Outlier Detection Using Empirical
Cumulative Distribution Functions") with the worst feature in place of their sum, so that the score names its cause. Missing values take no part: they
are a matter of data quality. The limit is the score that `SHARE` of the reference's own blocks exceed, learned from them; a block is a finding when
several times that share of its rows do.

Unit of independence: the request for the score, the block for the share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from treadle.monitoring.sketches import CategorySketch, NumberSketch, Sketch

SHARE = 0.01


class Outliers:
    """Scores rows against a reference; the tables it looks up are made once."""

    def __init__(self, reference: Mapping[str, Sketch]) -> None:
        self._numbers: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, float]] = {}
        self._categories: dict[str, tuple[dict[str, float], float]] = {}
        for name, sketch in reference.items():
            if isinstance(sketch, NumberSketch) and sketch.present:
                points = np.unique(sketch.quantiles([float(r) for r in np.linspace(0, 1, 401)]))
                self._numbers[name] = points, sketch.below(points), sketch.below(points, inclusive=False), 1 / sketch.present
            elif isinstance(sketch, CategorySketch) and sketch.present and sketch.other < 0.05 * sketch.present:
                self._categories[name] = {v: n / sketch.present for v, n in sketch.counts.items()}, 1 / sketch.present

    def score(self, columns: Mapping[str, Sequence[Any]]) -> tuple[np.ndarray, list[str]]:
        """The score of each row, (n,), and the feature it comes from.

        >>> from treadle.monitoring.sketches import sketch_column
        >>> usual = {"temp": sketch_column([float(v % 40) for v in range(4_000)], "number")}
        >>> scores, cause = Outliers(usual).score({"temp": [20.0, 400.0]})
        >>> bool(scores[1] > 7 > scores[0]), cause[1]
        (True, 'temp')
        """
        names = [n for n in columns if n in self._numbers or n in self._categories]
        rows = len(next(iter(columns.values()), ()))
        found = np.zeros((len(names), rows))
        for i, name in enumerate(names):
            if name in self._numbers:
                points, upto, before, least = self._numbers[name]
                values = np.array([np.nan if v is None else v for v in columns[name]], dtype=np.float64)
                place = np.clip(np.searchsorted(points, values, side="right") - 1, 0, len(points) - 1)
                low = np.where(values < points[0], 0.0, upto[place])
                exact = values == points[place]
                high = np.where(values > points[-1], 0.0, 1.0 - np.where(exact, before[place], upto[place]))
                tail = np.minimum(1.0, 2 * np.minimum(low, high))
                found[i] = np.where(np.isfinite(values), -np.log(np.minimum(1.0, tail + least)), 0.0)
            else:
                shares, least = self._categories[name]
                found[i] = [0.0 if v is None else -np.log(min(1.0, shares.get(str(v), 0.0) + least)) for v in columns[name]]
        if not names:
            return np.zeros(rows), [""] * rows
        worst = found.argmax(axis=0)
        return found.max(axis=0), [names[i] for i in worst]
