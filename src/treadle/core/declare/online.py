"""The declaration of online recalibration: two weights over a model's answers that learn from outcomes as they become known."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from treadle.core.declare.model import Model


@dataclass(frozen=True)
class Recalibrate:
    """How the answers of a binary model are recalibrated online (`serving/recalibration.py` has the formula).

    Args:
        rate_a, rate_b: how fast the two weights learn; pull: how fast they go back to the model's own answers.
        horizon: outcomes that come longer after their prediction are not learned.
        least_outcomes: of how many rows it must be seen that it helps before it may be applied.
    """

    model: Model
    rate_a: float
    rate_b: float
    pull: float
    horizon: timedelta
    least_outcomes: int = 1_000
    place: str = field(default="", compare=False)
