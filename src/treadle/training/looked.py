"""What a look for leakage is given, and what it says: rows, split and model; a suspicion with its evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Task

MOST = 20_000  # rows looked at for one question
FEW = 40  # rows below which nothing is said


@dataclass(frozen=True)
class Suspect:
    """One suspicion. `what` is the feature, column or step it is about; `evidence` the numbers of the sentence."""

    kind: str
    what: str
    sentence: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Looked:
    """What is looked at.

    Args:
        rows: the model's rows as `features.rows` makes them, those without a truth too.
        search, test: positions into them.
        truth: class codes or numbers of the rows with a truth, by position into `rows`; anything for the others.
        numbers, categories: names of the features.
        looked_up: features that come from views, which are joined as they were known.
        expected: features that may tell the target: the naive forecast, and all features of a detector, which has not learnt from the truth.
        known_column: a model input that is the data set's known_time, if one is.
        entity: the value, by position into `rows`, of what a row is about (a person, a machine), and the column's name.
        make: an unfitted estimator as the project makes it, if it makes one.
        fitted: the pipeline that was trained on the search rows.
    """

    task: Task
    rows: pl.DataFrame
    search: np.ndarray
    test: np.ndarray
    truth: np.ndarray
    numbers: Sequence[str]
    categories: Sequence[str]
    method: str
    seed: int = 0
    looked_up: Sequence[str] = ()
    expected: Sequence[str] = ()
    known_column: str = ""
    entity: tuple[str, Sequence[Any]] | None = None
    make: Any = None
    fitted: Any = None


def sample(positions: np.ndarray, seed: int, most: int = MOST) -> np.ndarray:
    """So many of the positions at most, in their order; the same ones for the same seed."""
    return positions if len(positions) <= most else np.sort(np.random.default_rng(seed).choice(positions, most, replace=False))
