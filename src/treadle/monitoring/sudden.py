"""What changed from one block to the next: a mean that jumped, values that left the range of the last weeks, another unit, rows that stayed away.

These are found the day they begin and are hard to miss; what creeps is for PSI over a week and for the outcomes. A jump counts when it is above what
drift-free blocks showed and above half a standard deviation; a unit when a known formula turns the last fortnight into today, and today is stranger
than drift-free blocks that looked so or lies outside the range of the last weeks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from treadle.monitoring.blocks import PREDICTION, BlockStats
from treadle.monitoring.detectors import volume
from treadle.monitoring.detectors.units import Change
from treadle.monitoring.findings import Finding, Row, by_share, found, listed
from treadle.monitoring.recent import Recent, jumped, left, unit
from treadle.monitoring.sketches import Sketch
from treadle.monitoring.thresholds import LEAST_BLOCK, Thresholds

CLEARED = 0.8


def sudden(
    opened: Sequence[str], broken: set[str], block: BlockStats, sketches: Mapping[str, Sketch], reference: Mapping[str, Sketch],
    thresholds: Thresholds, recent: Recent,
) -> tuple[set[str], list[Finding]]:  # fmt: skip
    """'kind:name' of all that is so now, and what is newly found.

    Args:
        opened: what was so after the last block.
        broken: features with a data-quality finding of this block; they are not looked at again.
    """
    now: set[str] = set()
    told: list[Finding] = []
    changes: dict[str, Change] = {}
    jumps: list[Row] = []
    lefts: list[Row] = []
    for name, level in thresholds.jump_levels.items():
        if name in broken or name.startswith(PREDICTION) or name not in sketches:
            continue
        # Against what the feature was before the fault: blocks that were found broken or jumped are no measure.
        value = jumped(name, reference, recent.blocks, sketches[name], LEAST_BLOCK)
        change = unit(name, recent.blocks, sketches[name], LEAST_BLOCK)
        outside, limit = left(name, recent.blocks, sketches[name], LEAST_BLOCK), thresholds.left_levels.get(name, 1.0)
        far = outside is not None and outside > limit * (CLEARED if f"left_range:{name}" in opened else 1.0)
        if change is not None and (far or change.strange > thresholds.unit_levels.get(name, 0.0)):
            changes[name] = change
            now.add(f"unit:{name}")
        elif far and outside is not None:
            lefts.append((name, outside, limit))
            now.add(f"left_range:{name}")
        elif value is None:  # it cannot be said, so what was so is still taken to be so
            now |= {kind for kind in (f"unit:{name}", f"jump:{name}", f"left_range:{name}") if kind in opened}
        elif value > level * (CLEARED if f"jump:{name}" in opened else 1.0):
            jumps.append((name, value, level))
            now.add(f"jump:{name}")
    if changes and not all(f"unit:{name}" in opened for name in changes):
        name, change = min(changes.items(), key=lambda item: item[1].fit)
        rows = [(n, c.factor, 1.0) for n, c in changes.items()]
        sentence = f"{listed(rows)}: the values look like a change of unit, {change.name}: {change.factor:.4g} times the old ones" + (
            f" plus {change.offset:.4g}." if change.offset else "."
        )
        told.append(found("data_quality", "unit", change.factor, 1.0, block.start, block.end, sentence, rows, "high"))
    if lefts and not all(f"left_range:{name}" in opened for name, _, _ in lefts):
        lefts.sort(key=lambda row: -row[1])
        sentence = f"{listed(lefts)}: {lefts[0][1]:.0%} of the values lie outside the range of the last four weeks."
        told.append(found("data_quality", "left_range", lefts[0][1], lefts[0][2], block.start, block.end, sentence, lefts, by_share(lefts[0][1])))
    if jumps and not all(f"jump:{name}" in opened for name, _, _ in jumps):
        jumps.sort(key=lambda row: -row[1] / row[2])
        name, value, level = jumps[0]
        sentence = (
            f"{listed(jumps)}: from one block to the next the mean jumped by {value:.1f} times what neighbouring blocks differ, "
            f"where {level:.1f} is the limit."
        )
        severity = "high" if value > 2 * level else "medium"
        told.append(found("input", "jump", value, level, block.start, block.end, sentence, jumps, severity))
    return now, told


def volume_of(opened: Sequence[str], block: BlockStats, recent: Recent) -> tuple[set[str], list[Finding]]:
    """Whether a block has as many rows as its weekday usually has."""
    ratio = volume.score([recent.rows[i] for i in recent.same_weekday(block.start, block.end - block.start)], block.rows)
    if ratio is None or volume.LOW <= ratio <= volume.HIGH:
        return set(), []
    if "volume:rows" in opened:
        return {"volume:rows"}, []
    less = ratio < 1
    sentence = f"{block.rows:,} requests came, {ratio:.0%} of what the same weekday had in the last four weeks."
    limit = volume.LOW if less else volume.HIGH
    severity = by_share(1 - ratio) if less else "medium"
    return {"volume:rows"}, [found("volume", "rows", ratio, limit, block.start, block.end, sentence, (), severity)]
