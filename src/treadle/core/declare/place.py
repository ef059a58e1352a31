"""Where in the project file something was declared, so that an error can name the line."""

from __future__ import annotations

import sys
from pathlib import Path

_HOUSE = str(Path(__file__).resolve().parents[2])  # .../treadle


def here() -> str:
    """'file.py:12' of the nearest caller outside Treadle itself."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HOUSE):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
