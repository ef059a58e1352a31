"""Running the real command line in a child process, as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PYTHON = sys.executable


def treadle(folder: Path, *arguments: str, expect: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
    """`treadle -C folder ...`; fails the test with everything it printed when the exit code is not the expected one."""
    environment = {**os.environ, "TREADLE_THREADS": "1", **options.pop("env", {})}
    done = subprocess.run(
        [PYTHON, "-m", "treadle.cli.main", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
        check=False,
        **options,
    )
    if expect is not None and done.returncode != expect:
        raise AssertionError(f"treadle {' '.join(arguments)} gave {done.returncode}, not {expect}\n{done.stdout}\n{done.stderr}")
    assert "Traceback" not in done.stderr, done.stderr
    return done
