"""The watch of a backtest: the same judgement of a block as in production, over arrays instead of the prediction log."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from treadle.backtest.history import History
from treadle.backtest.trained import Version
from treadle.core.canonical import plain
from treadle.monitoring.blocks import block_stats, prediction_sketches
from treadle.monitoring.judge import Finding, WatchState, judge_block
from treadle.monitoring.sketches import Sketch, rolling


@dataclass
class Watching:
    """What the watch of one version remembers. It begins anew when another version takes over."""

    state: WatchState = field(default_factory=WatchState)
    recent: list[dict[str, Sketch]] = field(default_factory=list)

    def judge(self, history: History, version: Version, start: int, now: int) -> list[Finding]:
        """Judge one block of a version's answers, with the outcomes known by `now`."""
        rows = history.between(start, start + history.every)
        if version.normal is None or rows.start == rows.stop:
            return []
        labels = plain(list(history.target.labels))
        said, truth = version.of(rows), history.truth[rows].copy()
        truth[history.known[rows] > now] = np.nan if history.target.task == "regression" else -1
        block = block_stats(history.target.task, labels, said, truth, history.moments[rows], start=start, end=start + history.every)
        columns = {**history.sketches(start), **prediction_sketches(labels, said)}
        thresholds = version.normal.thresholds
        window = rolling([*self.recent, columns], thresholds.week)
        self.state, found = judge_block(self.state, block, columns, version.normal.sketches, thresholds, window=window)
        self.recent = [*self.recent, columns][-(thresholds.week - 1) :] if thresholds.week > 1 else []
        return found
