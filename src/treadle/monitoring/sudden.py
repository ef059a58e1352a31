"""What changed from one block to the next: a feature's mean that jumped, a unit that changed, rows that stayed away.

These are found the day they begin and are hard to miss; what creeps is for PSI over a week and for the outcomes. A jump counts when it is above what
drift-free blocks showed and above half a standard deviation; a unit when a known formula turns the last fortnight into today.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from treadle.monitoring.blocks import PREDICTION, BlockStats
from treadle.monitoring.detectors import volume
from treadle.monitoring.detectors.units import Change
from treadle.monitoring.findings import Finding, Row, by_share, found, listed
from treadle.monitoring.recent import Recent, jumped, unit
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
    for name, level in thresholds.jump_levels.items():
        if name in broken or name.startswith(PREDICTION) or name not in sketches:
            continue
        # Against what the feature was before the fault: blocks that were found broken or jumped are no measure.
        value = jumped(name, reference, recent.blocks, sketches[name], LEAST_BLOCK)
        change = unit(name, recent.blocks, sketches[name], LEAST_BLOCK)
        if change is not None and change.strange > thresholds.unit_levels.get(name, 0.0):
            changes[name] = change
            now.add(f"unit:{name}")
        elif value is None:  # it cannot be said, so what was so is still taken to be so
            now |= {kind for kind in (f"unit:{name}", f"jump:{name}") if kind in opened}
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
