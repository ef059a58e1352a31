"""A change of unit: the values are the old ones, put through one of the formulas between units.

    now = a * reference + b,   for example a = 5/9, b = -160/9: Fahrenheit became Celsius; a = 1000: kilograms became grams

Each known formula is put on the quantiles of the reference, and what it gives is compared with the quantiles of now:

    fit = mean over ranks of | now - (a * reference + b) | / spread of (a * reference + b)

The best formula is named when the distributions lie apart as they are (KS above `APART`), agree after it (fit below `FITS`) and have the spread that
it gives. After Breck et al. (2019), "Data Validation for Machine Learning", who name it among the commonest silent
faults; the table of formulas is that of the SI brochure and everyday units.

Where the blocks before are known, a second look allows for days that differ (`restored`): put back through the formula, a block's mean and spread
are those of a usual day, and as it came its mean is not.

Unit of independence: the block: a feed changes its unit for all rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from treadle.monitoring.detectors import ks
from treadle.monitoring.sketches import NumberSketch

APART = 0.3
FITS = 0.25
_RANKS = [float(r) for r in np.linspace(0.05, 0.95, 37)]


@dataclass(frozen=True, slots=True)
class Change:
    """`name` as in 'Fahrenheit to Celsius'; now = factor * before + offset; `fit` in standard deviations; `strange`: how far the mean lies from those
    before, in their spread."""

    name: str
    factor: float
    offset: float
    fit: float
    strange: float = float("inf")


def _back(name: str) -> str:
    before, _, after = name.partition(" to ")
    return f"{after.partition(' (')[0]} to {before}"


_PAIRS = [
    ("miles to kilometres", 1.609344), ("feet to metres", 0.3048), ("inches to centimetres", 2.54), ("pounds to kilograms", 0.45359237),
    ("seconds to minutes", 1 / 60), ("hours to days", 1 / 24), ("seconds to hours", 1 / 3600), ("knots to metres a second", 0.514444),
    ("miles to metres", 1609.344), ("gallons to litres", 3.785411784), ("inches of mercury to hectopascals", 33.8638866667),
    ("ten to one", 0.1), ("hundred to one (percent to share)", 0.01), ("thousand to one", 1e-3), ("million to one", 1e-6),
]  # fmt: skip
FORMULAS: list[tuple[str, float, float]] = [
    *((name, factor, 0.0) for name, factor in _PAIRS),
    *((_back(name), 1 / factor, 0.0) for name, factor in _PAIRS),
    ("Fahrenheit to Celsius", 5 / 9, -160 / 9), ("Celsius to Fahrenheit", 9 / 5, 32.0), ("Celsius to kelvin", 1.0, 273.15),
    ("kelvin to Celsius", 1.0, -273.15), ("Fahrenheit to kelvin", 5 / 9, 273.15 - 160 / 9), ("a change of sign", -1.0, 0.0),
]  # fmt: skip


def score(reference: NumberSketch, now: NumberSketch) -> Change | None:
    """The formula that makes the reference look like now; None when they are alike already, or no formula does.

    >>> from treadle.monitoring.sketches import sketch_column
    >>> fahrenheit = [float(v) for v in range(20, 95)]
    >>> found = score(sketch_column(fahrenheit, "number"), sketch_column([(v - 32) * 5 / 9 for v in fahrenheit], "number"))
    >>> found.name
    'Fahrenheit to Celsius'
    """
    if reference.present < 30 or now.present < 30 or not reference.sd > 0 or ks.score(reference, now) <= APART:
        return None
    before, after = reference.quantiles(_RANKS), now.quantiles(_RANKS)
    if not len(before) or before[0] == before[-1] or after[0] == after[-1]:
        return None
    changes = []
    for name, factor, offset in FORMULAS:
        expected = np.sort(factor * before + offset)
        spread = abs(factor) * reference.sd
        changes.append(Change(name, factor, offset, float(np.abs(after - expected).mean() / spread)))
    changes.sort(key=lambda c: c.fit)
    best = changes[0]
    # A formula must also keep the shape: the spread it gives is the spread there is.
    if best.fit > FITS or not 0.6 < now.sd / (abs(best.factor) * reference.sd) < 1.67:
        return None
    return best


STRANGE, USUAL = 6.0, 2.0  # spreads of the blocks' means: as it came, and put back
STRANGE_MOVED = 3.0  # where the formula also moves the zero, which chance imitates less
_STEADY = 0.35  # how far means of days may differ, as a part of their median, where a mere factor is to be seen
_SHAPE = 0.5  # of the logarithm of the ratio of standard deviations
_FACTOR, _OFFSET = (np.array([formula[i] for formula in FORMULAS]) for i in (1, 2))


def restored(before: Sequence[NumberSketch], now: NumberSketch) -> Change | None:
    """The formula that, undone, makes a strange block a usual one; None when it is usual as it is, or no formula does."""
    means = np.array([b.mean for b in before if b.present])
    spreads = np.array([b.sd for b in before if b.sd > 0])
    if len(means) < 7 or len(spreads) < 7 or not now.sd > 0:
        return None
    fit, strange = fits(means, float(np.median(spreads)), now.mean, now.sd)
    best = int(fit.argmin())
    name, factor, offset = FORMULAS[best]
    return Change(name, factor, offset, float(fit[best]), float(strange)) if np.isfinite(fit[best]) else None


def fits(means: np.ndarray, usual: np.ndarray | float, mean: np.ndarray | float, sd: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """How well each formula, undone, makes a strange block a usual one (..., formulas), infinite where it does not; and how strange it is (...).

    Args:
        means: of the blocks before (..., blocks). usual: the median of their standard deviations (...). mean, sd: of the block (...).
    """
    middle = np.median(means, axis=-1)
    apart = np.maximum(1.4826 * np.median(np.abs(means - middle[..., None]), axis=-1), 0.1 * np.asarray(usual))
    strange, shape = np.abs(mean - middle) / apart, np.abs(np.log(sd / np.asarray(usual)))
    rows = [np.asarray(v)[..., None] for v in (middle, apart, strange, shape, mean, sd, usual)]
    middle_, apart_, strange_, shape_, mean_, sd_, usual_ = rows
    moved = _OFFSET != 0
    z = np.abs((mean_ - _OFFSET) / _FACTOR - middle_) / apart_
    odd = np.abs(np.log(sd_ / np.abs(_FACTOR) / usual_))
    steady = moved | (apart_ <= _STEADY * np.abs(middle_))  # else days differ by factors anyhow, such as rain
    enough = strange_ >= np.where(moved, STRANGE_MOVED, STRANGE)
    good = enough & steady & (z < np.minimum(USUAL, strange_ / np.where(moved, 2, 3))) & (odd < _SHAPE) & (odd <= shape_ + 0.1)
    return np.where(good, z + odd, np.inf), strange
