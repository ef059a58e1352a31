"""What drift-free blocks show against the weeks before them when they come in another order: limits of jumps, of ranges and of changes of unit.

Whether a block jumps, leaves the range of the last weeks or looks like another unit depends on the blocks before it, and the record holds each block
after one history only. So the record is lived through many times, each week by itself or a neighbouring one (`bootstrap.replay`). What is looked at
in one way, of all features, has limits together (`together`): each feature's is passed in the same part of the replays, and any of them in no more
than tolerated (Westfall and Young 1993). So a feature that never stirs costs those that do nothing.

Everything is computed from a few numbers of each block (mean, spread, extremes); only values out of range are looked up in the sketches.

Unit of independence: the week.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp

import numpy as np

from treadle.monitoring import recent
from treadle.monitoring.bootstrap import replay
from treadle.monitoring.detectors import jump, units
from treadle.monitoring.detectors.quality import WIDER
from treadle.monitoring.sketches import NumberSketch, Sketch

REPLAYS = 100
Columns = Mapping[str, Sketch]


class Replays:
    """Drift-free blocks in many orders.

    Args:
        blocks: the columns of each block, old to new; order: the number of each, ascending.
        least: rows a block needs to take part.
    """

    def __init__(self, blocks: Sequence[Columns], order: np.ndarray, reference: Columns, least: int, seed: int) -> None:
        self._blocks, self._reference, self._least = blocks, reference, least
        drawn = replay(order, REPLAYS, np.random.default_rng(seed))
        self._index = np.concatenate([np.arange(len(order))[None], drawn])  # the order it was, too

    def together(self, highest: Mapping[str, np.ndarray], rate: float) -> dict[str, float]:
        """The limit of each name, of what is highest in each replay (replays,), that any of them passes at most `rate` times per block."""
        if not highest:
            return {}
        values = np.column_stack(list(highest.values()))
        ordered = np.sort(values, axis=0)
        most = 1 - exp(-rate * self._index.shape[1])
        for limits in ordered:
            if (values > limits).any(axis=1).mean() <= most:
                return dict(zip(highest, limits.tolist()))
        return dict(zip(highest, ordered[-1].tolist()))

    def jump(self, name: str) -> np.ndarray | None:
        """The largest jump in each replay; None where nothing can be said."""
        before, now = self._before(name, "mean", jump.BEFORE)
        if not before.size:
            return None
        sd = self._numbers(self._reference)[name].sd
        middle = np.median(before, axis=-1)
        spread = np.maximum(1.4826 * np.median(np.abs(before - middle[..., None]), axis=-1), jump.FLOOR * (sd if sd > 0 else 0.0))
        apart = np.abs(now - middle)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(apart > recent.EFFECT * sd, apart / spread, 0.0)
        return np.asarray(values.max(axis=1))

    def unit(self, name: str) -> np.ndarray | None:
        """How strange, at most, a block was in each replay that looked like another unit; 0 where none did."""
        before, mean = self._before(name, "mean", jump.BEFORE)
        spreads, sd = self._before(name, "sd", jump.BEFORE)
        if not before.size or not (np.isfinite(spreads).all() and (spreads > 0).all() and (sd > 0).all()):
            return None
        fit, strange = units.fits(before, np.median(spreads, axis=-1), mean, sd)
        return np.asarray(np.where(np.isfinite(fit).any(axis=-1), strange, 0.0).max(axis=1))

    def outside(self, name: str) -> np.ndarray | None:
        """The largest share of values out of range in each replay."""
        usual = self._numbers(self._reference)[name]
        sketches = [s for block in self._blocks if isinstance(s := block.get(name), NumberSketch)]
        if len(sketches) != len(self._blocks) or any(s.count < self._least or not s.present for s in sketches):
            return None
        wider = WIDER * usual.sd if usual.sd > 0 else 0.0
        low = _sofar(np.array([s.minimum for s in sketches])[self._index], usual.minimum) - wider
        high = -_sofar(-np.array([s.maximum for s in sketches])[self._index], -usual.maximum) + wider
        return np.asarray(self._beyond(sketches, low, high).max(axis=1))

    def left(self, name: str) -> np.ndarray | None:
        """The largest share of values outside the range of the blocks before, and of nothing else, in each replay."""
        sketches = [s for block in self._blocks if isinstance(s := block.get(name), NumberSketch) and s.count >= self._least and s.present]
        if len(sketches) != len(self._blocks) or len(sketches) <= jump.BEFORE:
            return None
        low = _sofar(np.array([s.minimum for s in sketches])[self._index], np.inf)
        high = -_sofar(-np.array([s.maximum for s in sketches])[self._index], np.inf)
        return np.asarray(self._beyond(sketches, low, high)[:, jump.BEFORE :].max(axis=1))

    def _beyond(self, sketches: Sequence[NumberSketch], low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """The share of each block's values below `low` or above `high`, (replays, blocks)."""
        values = np.zeros(self._index.shape)
        for i, sketch in enumerate(sketches):
            at = self._index == i
            for limit, beyond, below in ((low, sketch.minimum < low, True), (high, sketch.maximum > high, False)):
                hit = at & beyond
                if hit.any():
                    points, place = np.unique(limit[hit], return_inverse=True)
                    share = sketch.below(points, inclusive=not below)
                    values[hit] += (share if below else 1.0 - share)[place]
        return values

    def _numbers(self, columns: Columns) -> dict[str, NumberSketch]:
        return {name: s for name, s in columns.items() if isinstance(s, NumberSketch)}

    def _before(self, name: str, of: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """A number of the `count` blocks before each one (replays, blocks, count), and of the block; nothing where a block is too small."""
        sketches = [s for block in self._blocks if isinstance(s := block.get(name), NumberSketch) and s.count >= self._least and s.present]
        if len(sketches) != len(self._blocks) or len(sketches) <= count:
            return np.zeros(0), np.zeros(0)
        values = np.array([float(getattr(s, of)) for s in sketches])[self._index]
        return np.lib.stride_tricks.sliding_window_view(values, count, axis=1)[:, :-1], values[:, count:]


def _sofar(values: np.ndarray, usual: float) -> np.ndarray:
    """The least of the `recent.BLOCKS` values before each place, and of the usual one."""
    padded = np.concatenate([np.full((len(values), recent.BLOCKS), usual), values], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, recent.BLOCKS, axis=1)[:, :-1]
    return np.asarray(np.minimum(windows.min(axis=-1), usual))
