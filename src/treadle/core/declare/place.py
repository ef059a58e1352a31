"""Where in the project file something was declared, so that an error can name the line; and spans that know it."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from treadle.core.clock import span
from treadle.core.errors import ProjectError, UsageError

_HOUSE = str(Path(__file__).resolve().parents[2])  # .../treadle


def here() -> str:
    """'file.py:12' of the nearest caller outside Treadle itself."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith((_HOUSE, "<")):  # "<string>": a dataclass's __init__
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def length(text: str | timedelta) -> timedelta:
    """A declared length of time. Raises ProjectError naming the line."""
    try:
        return span(text)
    except UsageError as error:
        raise ProjectError(error.what, where=here(), hint=error.hint) from None
