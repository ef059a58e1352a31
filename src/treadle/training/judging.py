"""What a prediction is judged with beside the truth: the groups of a ranking, the scale of a forecast's errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from treadle.core.declare.model import Kind, Task
from treadle.training.forecasts import naive_scale
from treadle.training.losses import measured, ndcg, row_loss


@dataclass(frozen=True)
class Judge:
    """How the answers of a task are judged.

    Args:
        task: 'ranking' and 'forecast' beside those that are served.
        metric: what a search goes by; the mean loss of a row if empty.
        groups: of a ranking, the number of the group of each row.
        scale: of a forecast, the mean error of the naive forecast in training.
    """

    task: Task
    metric: str = ""
    groups: np.ndarray | None = None
    at: int = 10
    scale: float = 1.0
    quantile: float = 0.0

    def full(self, output: np.ndarray, positions: np.ndarray | None = None) -> np.ndarray:
        """What a model answered for the rows at these positions (all if None), with the columns that `losses.row_loss` needs beside it."""
        if self.task == "ranking":
            assert self.groups is not None
            groups = self.groups if positions is None else self.groups[positions]
            return np.column_stack([output[:, 0], groups, np.full(len(output), self.at)])
        if self.task in ("forecast", "quantile"):
            return np.column_stack([output[:, 0], np.full(len(output), self.scale), np.full(len(output), self.quantile)])
        return output

    def losses(self, truth: np.ndarray, output: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """One value a row, a group for a ranking, of which the mean is what a search makes less of."""
        whole = self.full(output, positions)
        if self.task == "ranking":
            return np.asarray(1 - ndcg(truth[positions], whole)[0])
        return measured(self.task, self.metric, truth[positions], whole)

    def apart(self, truth: np.ndarray, output: np.ndarray) -> np.ndarray:
        """One `row_loss` for each row; for a ranking one for each group, in the order of the groups' numbers."""
        whole = self.full(output)
        return np.asarray(1 - ndcg(truth, whole)[0]) if self.task == "ranking" else row_loss(self.task, truth, whole)

    def mean_loss(self, truth: np.ndarray, output: np.ndarray) -> float:
        """The mean `row_loss`."""
        return float(row_loss(self.task, truth, self.full(output)).mean())


def judge_of(task: Task, kind: Kind | None, metric: str, frame: pl.DataFrame, truth: np.ndarray, groups: np.ndarray | None) -> Judge:
    """How the rows of a frame are judged. The scale of a forecast is that of the naive forecast on these very rows: pass training rows."""
    if kind is None or kind.name == "anomaly":
        return Judge(task, metric)
    if kind.name == "ranking":
        return Judge("ranking", metric, groups, kind.at)
    return Judge("quantile" if kind.quantile else "forecast", metric, scale=naive_scale(truth, frame[kind.naive].to_numpy()), quantile=kind.quantile)
