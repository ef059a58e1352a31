"""What the last weeks say of a block: whether a feature jumped against them, changed its unit, or came with too few rows for its weekday.

Training is far away in time, and seasons lie between; the last fortnight and the same weekday of the last four weeks are near.

| what | compared with |
|---|---|
| jump of a number's mean | the blocks of the last fortnight |
| a formula between units | the blocks of the last fortnight |
| the range of a number's values | the blocks of the last four weeks |
| rows of a block | those of the same weekday in the last four weeks |
| season | PSI against the same weekday of the last four weeks, as evidence for what kind of change it is |
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from treadle.monitoring.detectors import jump, psi, units
from treadle.monitoring.detectors.units import Change
from treadle.monitoring.sketches import NumberSketch, Sketch, merged

WEEKS = 4
BLOCKS = 28  # looked back at where blocks are days
EFFECT = 0.5  # standard deviations of the reference that a jump must have, whatever is usual
Columns = Mapping[str, Sketch]


@dataclass(frozen=True)
class Recent:
    """The blocks before one, old to new: their columns and how many rows each had. `week`: blocks a week, 0 where blocks are longer than a day."""

    blocks: Sequence[Columns] = ()
    rows: Sequence[int] = ()
    week: int = 7
    starts: Sequence[int] = field(default_factory=tuple)

    def same_weekday(self, start: int, every: int) -> list[int]:
        """Positions of the blocks that began a whole number of weeks before `start` (microseconds), at most four weeks back."""
        week = round(timedelta(days=7).total_seconds() * 1e6)
        if not self.week or week % max(1, every):
            return []
        return [i for i, s in enumerate(self.starts) if 0 < start - s <= WEEKS * week and (start - s) % week == 0]


NOTHING = Recent()


def looked_back(every: int) -> int:
    """How many blocks of `every` microseconds are looked back at: four weeks, or seven blocks where they are longer than half a week."""
    return max(7, WEEKS * 7 * 86_400_000_000 // every)


def broken_in(opened: Iterable[str]) -> frozenset[str]:
    """The features that were found broken or jumped in a block whose open findings these are ('kind:name'): a fault must not become what is usual."""
    return frozenset(name.split(":", 1)[1] for name in opened if not name.startswith(("input:", "prediction:")))


def jumped(name: str, reference: Columns, before: Sequence[Columns], now: Sketch, least: int) -> float | None:
    """How far a number jumped, in spreads of the blocks before it; None where that cannot be said, or the effect is small."""
    usual = reference.get(name)
    if not isinstance(usual, NumberSketch) or not isinstance(now, NumberSketch) or now.count < least:
        return None
    days = [s for block in before[-jump.BEFORE :] if isinstance(s := block.get(name), NumberSketch) and s.count >= least]
    value = jump.score(usual, days, now)
    if value is None:
        return None
    middle = sorted(d.mean for d in days if d.present)[sum(d.present > 0 for d in days) // 2]
    return value if usual.sd > 0 and abs(now.mean - middle) > EFFECT * usual.sd else 0.0


def left(name: str, before: Sequence[Columns], now: Sketch, least: int) -> float | None:
    """The share of a number's values outside the range of the blocks before; None with too few of them.

    A feed that is scaled or in another unit leaves the range of the last weeks whole, though a year of training may hold such values.
    """
    days = [s for block in before[-BLOCKS:] if isinstance(s := block.get(name), NumberSketch) and s.count >= least and s.present]
    if not isinstance(now, NumberSketch) or now.present < least or len(days) < jump.BEFORE:
        return None
    low, high = min(s.minimum for s in days), max(s.maximum for s in days)
    below = float(now.below([low], inclusive=False)[0]) if now.minimum < low else 0.0
    return below + (1.0 - float(now.below([high])[0]) if now.maximum > high else 0.0)


def unit(name: str, before: Sequence[Columns], now: Sketch, least: int) -> Change | None:
    """The formula between units that, undone, makes now a day like those of the last fortnight, if there is one."""
    days = [s for block in before[-jump.BEFORE :] if isinstance(s := block.get(name), NumberSketch) and s.present >= least]
    if not isinstance(now, NumberSketch) or now.present < least or len(days) < jump.LEAST:
        return None
    return units.restored(days, now)


def seasonal(name: str, now: Sketch, recent: Recent, start: int, every: int) -> float | None:
    """PSI against the same weekday of the last four weeks; None where there are fewer than two of them."""
    found = [recent.blocks[i].get(name) for i in recent.same_weekday(start, every)]
    days = [s for s in found if s is not None and s.count and type(s) is type(now)]
    return psi.score(merged(days), now).value if len(days) >= 2 else None
