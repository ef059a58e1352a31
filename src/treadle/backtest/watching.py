"""The watch of a backtest: the same judgement of a block as in production, over arrays instead of the prediction log.

As there, a block is compared with the four weeks before it, whoever answered then, without the features that were found broken in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from treadle.backtest.history import History
from treadle.backtest.trained import Version
from treadle.core.canonical import plain
from treadle.core.declare.operations import Watch
from treadle.monitoring.aspects import Gathering
from treadle.monitoring.blocks import block_stats, prediction_sketches
from treadle.monitoring.detectors.outliers import Outliers
from treadle.monitoring.explain import sums_of
from treadle.monitoring.judge import Finding, WatchState, judge_block
from treadle.monitoring.recent import Recent, broken_in, looked_back
from treadle.monitoring.sketches import Sketch, rolling

Block = tuple[int, int, dict[str, Sketch], frozenset[str]]  # start, rows, columns, names that were found broken


@dataclass
class Watching:
    """What the watch of one version remembers. It begins anew when another version takes over; the blocks before stay known to it."""

    watch: Watch
    before: list[Block] = field(default_factory=list)
    state: WatchState = field(default_factory=WatchState)
    since: int = 0  # blocks of this version
    known: Outliers | None = None

    def anew(self) -> Watching:
        """The watch of the version that takes over."""
        return Watching(self.watch, self.before)

    def judge(self, history: History, version: Version, start: int, now: int) -> list[Finding]:
        """Judge one block of a version's answers, with the outcomes known by `now`."""
        rows = history.between(start, start + history.every)
        if version.normal is None or rows.start == rows.stop:
            return []
        task, labels = history.target.task, plain(list(history.target.labels))
        said, truth = version.of(rows), history.truth[rows].copy()
        truth[history.known[rows] > now] = np.nan if task == "regression" else -1
        block = block_stats(task, labels, said, truth, history.moments[rows], start=start, end=start + history.every)
        columns = {**history.sketches(start), **prediction_sketches(labels, said)}
        thresholds = version.normal.thresholds
        mine = self.before[-min(self.since, thresholds.week - 1) :] if self.since and thresholds.week > 1 else []
        groups = self.watch.compared(history.features)
        part = history.rows[rows].select([f.name for f in history.features])
        sums = sums_of(task, labels, {name: part[name].to_list() for name in groups}, said, truth)
        if self.known is None:
            self.known = Outliers({f.name: version.normal.sketches[f.name] for f in history.features if f.name in version.normal.sketches})
        gathering = Gathering(part.columns, self.known, thresholds.usual.odd_score)
        gathering.add(part.rows(), [h.tobytes() for h in part.hash_rows().to_numpy()])
        self.state, found = judge_block(
            self.state, block, columns, version.normal.sketches, thresholds, window=rolling([*(b[2] for b in mine), columns], thresholds.week),
            recent=Recent([{n: s for n, s in b[2].items() if n not in b[3]} for b in self.before], [b[1] for b in self.before],
                          starts=[b[0] for b in self.before]),
            kinds=self.watch.kinds, aspects=gathering.aspects(sums, groups), fairness_gap=self.watch.fairness_gap,
        )  # fmt: skip
        self.before = [*self.before, (start, block.rows, columns, broken_in(self.state.open))][-looked_back(history.every) :]
        self.since += 1
        return found
