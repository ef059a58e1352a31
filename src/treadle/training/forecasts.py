"""Forecasting: the target of earlier times as inputs, the forecast anybody could make, and how large its errors are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, RegressorMixin

from treadle.core.clock import span
from treadle.core.errors import UsageError


class Naive(RegressorMixin, BaseEstimator):
    """Says what its one column says: the target one season ago. Where that is missing, the training median."""

    def fit(self, X: Any, y: Any) -> Naive:
        self.n_features_in_ = 1
        self.otherwise_ = float(np.median(y))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Rows of one column, shape (n, 1), to (n,)."""
        said = np.asarray(X, dtype=np.float64)[:, 0]
        return np.where(np.isfinite(said), said, self.otherwise_)


def lagged(
    frame: pl.DataFrame, time: str, value: str, lags: Sequence[str | timedelta], *, gap: str | timedelta = timedelta(0), series: Sequence[str] = ()
) -> pl.DataFrame:
    """The frame with `value` of earlier times beside it: a column `{value}_lag_{lag}` for each lag, null where no row has exactly that time.

    Args:
        time: the time that a row is about.
        lags: how long ago; each is at least `gap`.
        gap: how long before that time the forecast is made: nothing newer is known then.
        series: columns that tell several series apart; one row a series and time.

    >>> from datetime import datetime
    >>> table = pl.DataFrame({"at": [datetime(2024, 1, d) for d in (1, 2, 3)], "load": [5.0, 6.0, 7.0]})
    >>> lagged(table, "at", "load", ["1d", "2d"], gap="1d").columns
    ['at', 'load', 'load_lag_1d', 'load_lag_2d']

    Raises: UsageError for a lag that is shorter than the gap, and for two rows of one time.
    """
    keys = [time, *series]
    if frame.select(pl.struct(keys).is_duplicated().any()).item():
        raise UsageError(f"Two rows have the same {' and '.join(keys)}.", hint="Name the columns that tell the series apart in series=.")
    for lag in lags:
        length, name = span(lag), f"{value}_lag_{lag if isinstance(lag, str) else f'{span(lag).total_seconds():g}s'}"
        if length < span(gap) or length <= timedelta(0):
            raise UsageError(f"The lag {lag} is shorter than the gap: it would not be known when the forecast is made.", hint="Use a longer lag.")
        earlier = frame.select(*[pl.col(s) for s in series], pl.col(time) + length, pl.col(value).alias(name))
        frame = frame.join(earlier, on=keys, how="left", maintain_order="left")
    return frame


def naive_scale(truth: np.ndarray, naive: np.ndarray) -> float:
    """The mean absolute error of the naive forecast in training, by which errors are scaled.

    Source: Hyndman and Koehler (2006), "Another Look at Measures of Forecast Accuracy" (MASE). 1 where the naive forecast makes no error.
    """
    errors = np.abs(truth - naive)
    errors = errors[np.isfinite(errors)]
    scale = float(errors.mean()) if len(errors) else 0.0
    return scale if scale > 0 else 1.0
