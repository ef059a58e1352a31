"""Is a column of data still itself: missing values, one constant value, values never seen, values outside the range of training.

    missing_jump  = missing / rows  -  the same in the reference
    constant      = 1 if all present values are one value, though that value held less than `common` (a half) of the reference's rows
    new_share     = share of present values that are categories the reference never held
    out_of_range  = share of present values below the reference's least or above its largest value

After Breck et al. (2019), "Data Validation for Machine Learning", and Schelter et al. (2018), "Automating Large-Scale Data Quality Verification".

Unit of independence: the block. These are effects, not tests: one broken feed breaks all rows of a block, so the share itself decides.
"""

from __future__ import annotations

from dataclasses import dataclass

from treadle.monitoring.sketches import CategorySketch, NumberSketch, Sketch

COMMON = 0.5
LEAST = 30  # rows below which one constant value is no surprise


@dataclass(frozen=True, slots=True)
class Quality:
    missing_jump: float
    constant: bool
    new_share: float
    out_of_range: float


def score(reference: Sketch, now: Sketch, *, common: float = COMMON) -> Quality:
    """The four measures of `now` against `reference`; zeros where either has no rows.

    >>> from treadle.monitoring.sketches import sketch_column
    >>> score(sketch_column(["a", "b"], "category"), sketch_column(["a", "c", None, None], "category"))
    Quality(missing_jump=0.5, constant=False, new_share=0.5, out_of_range=0.0)
    """
    if not reference.count or not now.count:
        return Quality(0.0, False, 0.0, 0.0)
    jump = now.missing / now.count - reference.missing / reference.count
    if not reference.present or not now.present:
        return Quality(jump, False, 0.0, 0.0)
    if isinstance(reference, NumberSketch) and isinstance(now, NumberSketch):
        stuck = now.present >= LEAST and now.minimum == now.maximum and _share_at(reference, now.minimum) < common
        return Quality(jump, stuck, 0.0, _outside(reference, now))
    if isinstance(reference, CategorySketch) and isinstance(now, CategorySketch):
        value = next(iter(now.counts)) if len(now.counts) == 1 and not now.other else None
        stuck = value is not None and now.present >= LEAST and reference.counts[value] < common * reference.present
        unseen = now.present - sum(times for name, times in now.counts.items() if name in reference.counts)
        return Quality(jump, stuck, max(0.0, unseen / now.present - reference.other / reference.present), 0.0)
    raise TypeError("a sketch of numbers cannot be compared with one of categories")


def _share_at(sketch: NumberSketch, value: float) -> float:
    return float((sketch.below([value]) - sketch.below([value], inclusive=False))[0])


def _outside(reference: NumberSketch, now: NumberSketch) -> float:
    low = float(now.below([reference.minimum], inclusive=False)[0]) if now.minimum < reference.minimum else 0.0
    high = 1.0 - float(now.below([reference.maximum])[0]) if now.maximum > reference.maximum else 0.0
    return low + high
