"""Leaving a process that embeds a server."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def leave(code: int = 0) -> NoReturn:
    """End the process at once, everything having been written and closed.

    The embedded server's own threads may still be about to call into Python; while the interpreter takes itself down that aborts the process.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
