"""What kind of prediction a target asks for, and its values as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Kind, Model, Task
from treadle.core.errors import DataError
from treadle.features.rows import TARGET

MOST_CLASSES = 50


@dataclass(frozen=True)
class Target:
    """The task and, for classes, their labels: code i stands for labels[i]; of a binary task code 1 is the positive class."""

    task: Task
    labels: tuple[Any, ...] = ()
    kind: Kind | None = None

    @property
    def judged_as(self) -> Task:
        """The task by whose losses and metrics it is judged: a ranking is served as numbers, and judged as a ranking."""
        if self.kind is None or self.kind.name == "anomaly":
            return self.task
        return "quantile" if self.kind.quantile else self.kind.name

    def codes(self, values: pl.Series) -> np.ndarray:
        """Values as numbers: class codes (int64) or the numbers themselves (float64). A value never seen before raises DataError."""
        if self.task == "regression":
            return values.cast(pl.Float64).to_numpy()
        table = {label: i for i, label in enumerate(self.labels)}
        try:
            return np.array([table[v] for v in values.to_list()], dtype=np.int64)
        except KeyError as error:
            raise DataError(f"The target holds {error.args[0]!r}, which was not among the training classes {list(self.labels)}.") from None


def target_of(model: Model, rows: pl.DataFrame) -> Target:
    """Find the task of a model from its rows with a known truth. Raises DataError when there is nothing to learn."""
    values = rows[TARGET].drop_nulls()
    where = f"model {model.name!r} ({model.place})"
    if values.len() == 0:
        anomalies = model.kind is not None and model.kind.name == "anomaly"
        hint = "Label some rows: without any, nothing about the model can be shown." if anomalies else "Name a column that holds the truth."
        raise DataError(f"The target {model.target!r} has no values.", where=where, hint=hint)
    distinct = values.unique().sort()
    if distinct.len() < 2:
        raise DataError(f"The target {model.target!r} is constant: it is always {distinct[0]!r}.", where=where, hint="There is nothing to predict.")
    numeric = values.dtype.is_numeric()
    task = model.task or (
        "binary" if distinct.len() == 2 else "regression" if numeric and (values.dtype.is_float() or distinct.len() > 20) else "multiclass"
    )
    if task == "regression":
        if not numeric:
            raise DataError(f"The target {model.target!r} holds {values.dtype}, not numbers.", where=where, hint="Use task='multiclass'.")
        if not np.isfinite(values.cast(pl.Float64).to_numpy()).all():
            raise DataError(f"The target {model.target!r} holds infinite or not-a-number values.", where=where, hint="Exclude those rows.")
        if model.kind is not None and model.kind.name == "ranking" and float(values.min()) < 0:  # type: ignore[arg-type]
            raise DataError(f"The target {model.target!r} holds a relevance below 0.", where=where, hint="Relevances are 0 (none) and up.")
        return Target("regression", kind=model.kind)
    if distinct.len() > MOST_CLASSES:
        raise DataError(
            f"The target {model.target!r} has {distinct.len()} different values, more than {MOST_CLASSES} classes.", where=where,
            hint="Predict a coarser class, or use task='regression' for numbers.",
        )  # fmt: skip
    labels = distinct.to_list()
    if task == "binary":
        if len(labels) != 2:
            raise DataError(f"The target {model.target!r} has {len(labels)} different values, not two.", where=where, hint="Use task='multiclass'.")
        positive = model.positive
        if positive is None:
            counts = dict(values.value_counts().iter_rows())
            positive = True if values.dtype == pl.Boolean else min(labels, key=lambda v: (counts[v], str(v)))
        if positive not in labels:
            raise DataError(f"positive={positive!r} is not a value of {model.target!r}.", where=where, hint=f"Its values are {labels}.")
        labels = [next(v for v in labels if v != positive), positive]
    return Target(task, tuple(labels), model.kind)
