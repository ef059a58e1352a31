"""How many predictions a model has answered, without counting a long log anew for every page.

To count a million takes half a second. A log that is counted at once is counted each time; of a longer one what was counted last is shown, and where
that is old it is counted again beside the page. So a number may be behind by about as long as `BEHIND` times what counting takes.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from treadle.assemble import Workspace
from treadle.core.errors import TreadleError

AT_ONCE = 0.02  # seconds of counting that a page waits for each time
BEHIND = 50.0


@dataclass
class _Known:
    counts: tuple[int, int]
    took: float
    at: float
    counting: bool = False


_known: dict[tuple[str, str, str], _Known] = {}
_lock = threading.Lock()


def counts(ws: Workspace, model: str) -> tuple[int, int]:
    """(predictions, predictions with an outcome) of a model."""
    key = (str(ws.folder), str(ws.settings["predictions"]), model)
    with _lock:
        known = _known.get(key)
        if known is not None and known.took > AT_ONCE:
            if time.monotonic() - known.at > known.took * BEHIND and not known.counting:
                known.counting = True
                threading.Thread(target=_again, args=(ws, key, known), daemon=True, name=f"count-{model}").start()
            return known.counts
    return _count(ws, key)


def _again(ws: Workspace, key: tuple[str, str, str], known: _Known) -> None:
    try:
        with suppress(TreadleError):  # what was counted last stays
            _count(ws, key)
    finally:
        known.counting = False


def _count(ws: Workspace, key: tuple[str, str, str]) -> tuple[int, int]:
    began = time.monotonic()
    found = ws.predictions.count(key[2])
    ended = time.monotonic()
    with _lock:
        _known[key] = _Known(found, ended - began, ended)
    return found
