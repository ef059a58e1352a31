"""The door to model formats: how a fitted model becomes files that can be served without the library that trained it.

A package is a folder. The format writes its files there (`save`, in a training process) and answers from them (`load`, in a serving process that has
imported nothing of training). Promises: `save` is exact or raises CannotConvert; a loaded model is a pure function of its input rows, safe to
call from several threads, and never runs code stored in the package unless the format's `runs_code` says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np


class Scorer(Protocol):
    """A loaded model."""

    width: int

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Rows of encoded features (float32, shape (n, width)) to outputs.

        Returns: float64 of shape (n, classes) with probabilities for classification, (n, 1) for regression.
        """
        ...


class ModelFormat(Protocol):
    """`library` is the top module whose models it saves; empty for those of any."""

    name: str
    runs_code: bool
    library: str

    def save(self, fitted: Any, folder: Path) -> dict[str, Any]:
        """Write the files of a fitted pipeline. Returns what `load` needs to know, as JSON. Raises CannotConvert."""
        ...

    def load(self, folder: Path, info: dict[str, Any]) -> Scorer:
        """Open the files again. Raises Corrupt or NotFound."""
        ...
