"""A quicker way to a model's answers about many rows: opened in the background when it is first wanted, and proved before it answers anybody."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import numpy as np

from treadle.ports.model_format import Scorer

MANY = 64  # rows from which on the quicker way is quicker
_PROOFS = 3  # matrices that both are asked about
_log = logging.getLogger("treadle.endpoint")


class Bulk:
    """Both ways of one model.

    Args:
        plain: answers few rows, and all until the other is ready.
        quick: opens the other; None where there is none. Asked once, in a thread of its own.
    """

    def __init__(self, plain: Scorer, quick: Callable[[], Scorer | None]) -> None:
        self._plain, self._open = plain, quick
        self._quick: Scorer | None = None
        self._left = _PROOFS
        self._begun = False

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """As the plain way answers, bit for bit. Raises what that raises."""
        if len(matrix) < MANY:
            return self._plain.score(matrix)
        quick = self._quick
        if quick is not None and not self._left:
            return quick.score(matrix)
        if not self._begun:
            self._begun = True
            threading.Thread(target=self._ready, name="bulk", daemon=True).start()
        outputs = self._plain.score(matrix)
        if quick is not None:
            if np.array_equal(quick.score(matrix), outputs):
                self._left -= 1
            else:
                self._quick = None
                _log.warning("the quicker way answers otherwise than the model, and is not used")
        return outputs

    def _ready(self) -> None:
        try:
            self._quick = self._open()
        except Exception:  # the plain way goes on
            _log.exception("the quicker way to many rows cannot be opened")
