"""Running the real command line in a child process, as a user would: one that is forked where that is the same, one from nothing where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from treadle.testing import warm

PYTHON = sys.executable


# The real command on another day: every clock of the process goes so many days ahead.
ON_ANOTHER_DAY = """
import sys
from datetime import timedelta
from treadle.core import clock
from treadle.cli.main import main
days, now = timedelta(days=float(sys.argv.pop(1))), clock.SystemClock.now
clock.SystemClock.now = lambda self: now(self) + days
main()
"""


def treadle(folder: Path, *arguments: str, expect: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """`treadle -C folder ...`; fails the test with everything it printed when the exit code is not the expected one.

    Args:
        options: `days`: how far the clock is ahead; `fresh`: a Python from nothing, where a test is about what is imported, about memory or about
            what differs from process to process; others are those of `subprocess.run`.
    """
    days, fresh = options.pop("days", 0), options.pop("fresh", False)
    environment = {**os.environ, "TREADLE_THREADS": "1", **options.pop("env", {})}
    if not fresh and options.keys() <= {"cwd", "input", "timeout"} and warm.fits(environment):
        done = warm.run(["-C", str(folder), *arguments], env=environment, days=days, **options)
    else:
        program = ["-c", ON_ANOTHER_DAY, str(days)] if days else ["-m", "treadle.cli.main"]
        done = subprocess.run(
            [PYTHON, *program, "-C", str(folder), *arguments],
            **{"capture_output": True, "text": True, "timeout": 240, "env": environment, "check": False, **options},
        )
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"treadle {' '.join(arguments)} gave {done.returncode}, not {expect}\n{done.stdout}\n{done.stderr}")
    assert "Traceback" not in done.stderr, done.stderr
    return done
