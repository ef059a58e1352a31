"""Is a column of data still itself: missing values, one constant value, values never seen, values outside the range of training.

    missing_jump  = missing / rows  -  the same in the reference
    constant      = 1 if all present values are one value, though that value held less than `common` (a half) of the reference's rows
    new_share     = share of present values that are categories the reference never held
    out_of_range  = share of present values outside the range of the reference; where the blocks before are known, of theirs too, widened by half a
                    standard deviation: what comes with a season is not broken

After Breck et al. (2019), "Data Validation for Machine Learning", and Schelter et al. (2018), "Automating Large-Scale Data Quality Verification".

Unit of independence: the block. These are effects, not tests: one broken feed breaks all rows of a block, so the share itself decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from treadle.monitoring.sketches import CategorySketch, NumberSketch, Sketch

WIDER = 0.5  # standard deviations of the reference

COMMON = 0.5
LEAST = 30  # rows below which one constant value is no surprise


@dataclass(frozen=True, slots=True)
class Quality:
    missing_jump: float
    constant: bool
    new_share: float
    out_of_range: float


def score(reference: Sketch, now: Sketch, *, common: float = COMMON, before: Sequence[Sketch] = ()) -> Quality:
    """The four measures of `now` against `reference`; zeros where either has no rows.

    Args:
        common: the share of the reference that a constant value may have had without being suspect.
        before: the same column in the blocks before.

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
        return Quality(jump, stuck, 0.0, _outside(reference, now, [s for s in before if isinstance(s, NumberSketch) and s.present]))
    if isinstance(reference, CategorySketch) and isinstance(now, CategorySketch):
        value = next(iter(now.counts)) if len(now.counts) == 1 and not now.other else None
        stuck = value is not None and now.present >= LEAST and reference.counts[value] < common * reference.present
        unseen = now.present - sum(times for name, times in now.counts.items() if name in reference.counts)
        return Quality(jump, stuck, max(0.0, unseen / now.present - reference.other / reference.present), 0.0)
    raise TypeError("a sketch of numbers cannot be compared with one of categories")


def _share_at(sketch: NumberSketch, value: float) -> float:
    return float((sketch.below([value]) - sketch.below([value], inclusive=False))[0])


def _outside(reference: NumberSketch, now: NumberSketch, before: Sequence[NumberSketch]) -> float:
    least, most = reference.minimum, reference.maximum
    if before:
        wider = WIDER * reference.sd if reference.sd > 0 else 0.0
        least, most = min(least, *(s.minimum for s in before)) - wider, max(most, *(s.maximum for s in before)) + wider
    low = float(now.below([least], inclusive=False)[0]) if now.minimum < least else 0.0
    high = 1.0 - float(now.below([most])[0]) if now.maximum > most else 0.0
    return low + high
