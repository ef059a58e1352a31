"""git, asked about a folder: never steered by the variables of a git command that may be running us, as in a hook."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

_STEERING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


def git(
    folder: Path, *arguments: str, seconds: float = 120, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """What a git command did in a folder, with these variables of the environment. Raises OSError where there is no git, TimeoutExpired."""
    env = {k: v for k, v in os.environ.items() if k not in _STEERING}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, timeout=seconds, check=False, env={**env, **(variables or {})})


def told(folder: Path, *arguments: str) -> bytes:
    """What git says; nothing where there is no git, no repository, no commit, or no answer within half a minute."""
    try:
        done = git(folder, *arguments, seconds=30)
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""
