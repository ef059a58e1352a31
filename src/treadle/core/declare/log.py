"""Declaration of the prediction log of a model: what is kept of a request, for how long, and what happens when it cannot keep up."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from treadle.core.declare.model import Model

INPUTS = ("full", "hash", "none")
WHEN_FULL = ("refuse", "drop")


@dataclass(frozen=True)
class Log:
    """How the predictions of a model are logged.

    Args:
        inputs: 'full' keeps requests as they came; 'hash' keeps personal values as keyed hashes; 'none' keeps no request, and personal values
            among the features as hashes. What is personal says the contract of a data set (`personal=`, `subject=`).
        when_full: what is done when the log is behind: 'refuse' requests (503), or 'drop' their entries and count them, where durability is
            'buffered'.
        files_after: how long after its end a day is moved into a file of columns, by `treadle predictions compact`.
        keep: how long predictions and outcomes are kept, by `treadle predictions drop`; None for ever.
    """

    model: Model
    inputs: Literal["full", "hash", "none"] = "full"
    when_full: Literal["refuse", "drop"] = "refuse"
    files_after: timedelta = timedelta(days=2)
    keep: timedelta | None = None
    place: str = field(default="", compare=False)
