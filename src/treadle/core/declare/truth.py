"""The declaration of delayed truth: over which windows quality is measured, how long it is restated, who may say how much, what people review."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from treadle.core.declare.model import Model


@dataclass(frozen=True)
class Truth:
    """How the truth of a model's predictions is settled.

    Args:
        window: quality is measured over windows of this length, by version; they begin at multiples of it since 1970 UTC.
        restate_for: outcomes and corrections that come so long after a window's end change what is said of it; later ones do not.
        per_source: of each named source, the largest share of a window's outcomes that counts ('*': of every source that is not named).
        review: the share of predictions that people are asked about (`treadle review`), chosen by their ids.
    """

    model: Model
    window: timedelta = timedelta(days=7)
    restate_for: timedelta = timedelta(days=60)
    per_source: Mapping[str, float] = field(default_factory=dict)
    review: float = 0.0
    place: str = field(default="", compare=False)
