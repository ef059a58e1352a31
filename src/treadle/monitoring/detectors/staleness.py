"""Staleness: how old the model, the newest rows and the newest outcomes are, against how old they may be.

    age of a model     = now - the last moment of the rows it was trained on
    age of the traffic = now - the newest prediction;    age of the truth = now - the moment of the newest prediction whose outcome is known

The limit of a model is stated, or follows from its staleness curve (what older versions lose on newer rows; ML Test Score, Model 4 and Monitor 4,
Breck et al. 2017). Traffic and truth are late when they are older than `LATE` times the longest gap between blocks that was usual.

Unit of independence: none; an age is a fact.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

LATE = 3.0


def score(newest: datetime | None, now: datetime, limit: timedelta) -> float:
    """Age as a part of its limit: above 1 it is too old. Nothing at all is infinitely old.

    >>> from datetime import UTC
    >>> score(datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 3, 31, tzinfo=UTC), timedelta(days=60))
    1.5
    """
    if newest is None:
        return float("inf")
    return (now - newest) / limit


def usual_gap(starts: list[datetime]) -> timedelta | None:
    """The longest gap between the starts of blocks that had rows; None with fewer than three."""
    gaps = [b - a for a, b in pairwise(starts)]
    return max(gaps) if len(gaps) >= 2 else None
