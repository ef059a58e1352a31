"""Virtual environments of models made elsewhere, one for each list of packages, made once on a machine and shared by what needs the same.

Only what is pinned to a version and comes from the index as a wheel is installed: an address, a folder, a range or a build script could bring
anything, and something else tomorrow.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from treadle.core.errors import Refused, StorageError, Unavailable

_PINNED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[A-Za-z0-9._,\s-]+\])?\s*==\s*([A-Za-z0-9.!+_-]+)\s*(;[^#]*)?")
READY = "ready"


def pinned(lines: Sequence[str], where: str) -> list[str]:
    """The requirements of a file, checked. Raises Refused naming the first line that is not a package pinned to one version."""
    found = []
    for number, line in enumerate(lines, 1):
        text = line.split(" #")[0].strip()
        if not text or text.startswith("#"):
            continue
        if not _PINNED.fullmatch(text):
            told = f"The requirement {text[:80]!r} is not a package pinned to one version"
            raise Refused(f"{told} (name==version).", where=f"{where}:{number}", hint="Pin it, or give an interpreter of your own with --python.")
        found.append(re.sub(r"\s+", "", text) if ";" not in text else text)
    return sorted(found)


def place(requirements: Sequence[str]) -> Path:
    """The folder of the environment with these packages, made or not."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    text = "\n".join([f"{sys.version_info.major}.{sys.version_info.minor}", *requirements])
    return cache / "treadle" / "environments" / hashlib.sha256(text.encode()).hexdigest()[:24]


def python_of(requirements: Sequence[str]) -> Path:
    """The interpreter with these packages; the environment is made if it is not there. Raises Unavailable, StorageError."""
    folder = place(requirements)
    python = folder / "bin" / "python"
    if (folder / READY).exists():
        return python
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / READY).exists():
                shutil.rmtree(folder, ignore_errors=True)
                _make(folder, python, requirements)
                (folder / READY).write_text("\n".join(requirements))
    except OSError as error:
        raise StorageError(f"The environment of the model cannot be made: {error.strerror}.", where=str(folder)) from error
    return python


def _make(folder: Path, python: Path, requirements: Sequence[str]) -> None:
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--only-binary", ":all:", *requirements],
    ):
        without = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, env=without)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            told = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.strip().splitlines() or ["no reason given"]
            hint = "Is there a network, and does pip's index have these packages as wheels? Or give an interpreter with --python."
            raise Unavailable(f"The environment of the model cannot be made: {told[-1].removeprefix('ERROR:').strip()}", hint=hint)
