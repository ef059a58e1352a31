"""What is kept of a prediction log while it is read: sums by day."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import numpy as np

from treadle.ports.predictions import Prediction

DAY = 86_400_000_000  # microseconds
SPREAD = 12.0  # scores are counted by log odds from -SPREAD to SPREAD
FINE, BINS = 65_536, 2_048  # in so many bins of equal width by month, and by day
LOOP, FROZEN = 0, 1


@dataclass
class Day:
    """Sums of one day: of all its rows with a truth, and of those both the loop and the first version can be scored on."""

    rows: int = 0
    matured: int = 0
    predicted: float = 0.0
    observed: float = 0.0
    compared: int = 0
    loss: np.ndarray = field(default_factory=lambda: np.zeros(2))
    scored: np.ndarray | None = None  # (loop or frozen, class, bin)
    answering: set[int] = field(default_factory=set)


@dataclass
class Sums:
    """What is kept of the log. `scored` is by month as a day's is, in fine bins."""

    days: dict[int, Day] = field(default_factory=dict)
    served: dict[int, dict[str, Any]] = field(default_factory=dict)
    scored: dict[str, np.ndarray] = field(default_factory=dict)
    classes: dict[int, int] = field(default_factory=dict)
    example: Prediction | None = None


def date_of(day: int) -> str:
    """The ISO date of a day counted from 1970."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()
