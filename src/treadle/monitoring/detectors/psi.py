"""Population stability index: how far the shares of a column's values have moved from a reference.

    PSI = sum over bins of (p - q) * ln(p / q),    q: share in the reference, p: share now

It is the symmetrised Kullback-Leibler divergence (Jeffreys 1946; Siddiqi 2006, "Credit Risk Scorecards"). Read as: below 0.1 alike, 0.1 to 0.25
moved, above 0.25 another population. Numbers are binned at the deciles of the reference, a value that holds more than one decile alone being its own
bin; categories are their own bins down to a share of 1 %, rarer and new ones share one. Missing is a bin of its own.

With n and m rows and nothing changed, PSI is about (B - 1)(1/n + 1/m) on average, not 0 (it is a chi-square; Yurdakul 2018, "Statistical Properties
of the Population Stability Index"): that is subtracted, so `value` may be slightly negative. Half a row is added to each bin (Jeffreys' prior)
and no share is taken as less than 0.0001, so that an empty bin is not infinitely surprising.

Unit of independence: the row, in the correction only. Rows of one block share their luck, so what PSI is unusual must be learned from blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from treadle.monitoring.sketches import CategorySketch, NumberSketch, Sketch

RARE = 0.01
LEAST_SHARE = 1e-4
MISSING, OTHER = "missing", "other"


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin: its name, its share in the reference and now, and its part of the index."""

    name: str
    reference: float
    now: float
    part: float


@dataclass(frozen=True, slots=True)
class Stability:
    """`value` is corrected for small samples, `raw` is not."""

    value: float
    raw: float
    bins: tuple[Bin, ...]


def score(reference: Sketch, now: Sketch) -> Stability:
    """PSI of `now` against `reference`; 0 when either has no rows.

    >>> from treadle.monitoring.sketches import sketch_column
    >>> year = sketch_column(["ice"] * 500 + ["sun"] * 500, "category")
    >>> week = sketch_column(["ice"] * 900 + ["sun"] * 100, "category")
    >>> round(score(year, week).value, 2)
    0.87
    """
    if not reference.count or not now.count:
        return Stability(0.0, 0.0, ())
    names, q_rows, p_rows = _bins(reference, now)
    q, p = _shares(q_rows), _shares(p_rows)
    parts = (p - q) * np.log(p / q)
    raw = float(parts.sum())
    occupied = int(((q_rows > 0) | (p_rows > 0)).sum())
    expected = (occupied - 1) * (1 / now.count + 1 / reference.count)
    bins = tuple(Bin(*row) for row in zip(names, q.tolist(), p.tolist(), parts.tolist()))
    return Stability(raw - expected, raw, bins)


def _shares(rows: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.maximum((rows + 0.5) / (rows.sum() + 0.5 * len(rows)), LEAST_SHARE)
    return shares


def _bins(reference: Sketch, now: Sketch) -> tuple[list[str], np.ndarray, np.ndarray]:
    if isinstance(reference, NumberSketch) and isinstance(now, NumberSketch):
        cuts = _cuts(reference)
        names = _names(cuts)
        q, p = _number_rows(reference, cuts), _number_rows(now, cuts)
    elif isinstance(reference, CategorySketch) and isinstance(now, CategorySketch):
        kept = sorted(value for value, times in reference.counts.items() if times >= RARE * reference.present)
        names = [*kept, OTHER]
        q, p = _category_rows(reference, kept), _category_rows(now, kept)
    else:
        raise TypeError("a sketch of numbers cannot be compared with one of categories")
    return [*names, MISSING], np.append(q, reference.missing), np.append(p, now.missing)


def _cuts(reference: NumberSketch) -> list[tuple[float, bool]]:
    """Where bins end: (value, whether the value itself lies before the cut). A value met as two deciles is cut off on both sides."""
    deciles = reference.quantiles([i / 10 for i in range(1, 10)])
    values, times = np.unique(deciles, return_counts=True)
    return [cut for value, t in zip(values.tolist(), times.tolist()) for cut in ([(value, False), (value, True)] if t > 1 else [(value, True)])]


def _number_rows(sketch: NumberSketch, cuts: list[tuple[float, bool]]) -> np.ndarray:
    values = sorted({value for value, _ in cuts})
    upto, before = (dict(zip(values, sketch.below(values, inclusive=inclusive))) for inclusive in (True, False))
    ends = [upto[value] if inclusive else before[value] for value, inclusive in cuts]
    return np.diff(np.array([0.0, *ends, 1.0])) * sketch.present


def _names(cuts: list[tuple[float, bool]]) -> list[str]:
    ends = [f"{value:g}" + ("]" if inclusive else ")") for value, inclusive in cuts]
    starts = [("(" if inclusive else "[") + f"{value:g}" for value, inclusive in cuts]
    return [f"{start}, {end}" for start, end in zip(["(-inf", *starts], [*ends, "inf)"])]


def _category_rows(sketch: CategorySketch, kept: list[str]) -> np.ndarray:
    rows = np.array([sketch.counts[value] for value in kept], dtype=np.float64)
    return np.append(rows, sketch.present - rows.sum())
