"""Run a command and count the CPU of all it started, also of servers that outlive it; leave nothing running.

Linux only. This process makes itself the reaper of orphans, so that a server which detached itself becomes its child when its parent is
gone, and its CPU is told when it ends. What is ended is ended by process id: only what descends from the command, and nothing else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Done:
    """How a command ended: exit code (None: we ended it), CPU and wall seconds, peak memory of its largest process (MB), what it printed."""

    code: int | None
    cpu: float
    wall: float
    peak: float
    output: str
    left_over: int  # processes that outlived the command

    @property
    def last_lines(self) -> str:
        return "\n".join(self.output.strip().splitlines()[-15:])


def adopt_orphans() -> None:
    """From now on orphaned grandchildren become children of this process. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process cannot adopt orphans")


def run(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], *, seconds: float = 300, kill_when: Callable[[], bool] | None = None
) -> Done:
    """Run a command to its end and count everything it started.

    Args:
        seconds: how long it may take (wall) before it is killed.
        kill_when: asked 20 times a second; once it says yes, the command and all it started get SIGKILL.
    """
    with tempfile.TemporaryFile() as printed:
        begun = time.monotonic()
        main = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
        )
        ended: dict[int, tuple[int, float, float]] = {}
        killed = False
        while main.pid not in ended:
            _reap(ended)
            if main.pid in ended:
                break
            if time.monotonic() - begun > seconds or (kill_when is not None and kill_when()):
                killed = True
                break
            time.sleep(0.05)
        wall = time.monotonic() - begun
        left = descendants()
        if killed:
            _signal(left, signal.SIGKILL)
        else:
            _signal(left, signal.SIGTERM)
        patience = time.monotonic() + 10
        while _reap(ended) and time.monotonic() < patience:
            time.sleep(0.02)
        while _reap(ended):  # what does not go when asked; killing it lays bare its children, which come to us
            _signal(descendants(), signal.SIGKILL)
            time.sleep(0.02)
        main.returncode = ended[main.pid][0]  # so that subprocess does not wait for it again
        printed.seek(0)
        output = printed.read().decode(errors="replace")
    cpu, peak = sum(e[1] for e in ended.values()), max(e[2] for e in ended.values())
    return Done(None if killed else ended[main.pid][0], cpu, wall, peak, output, 0 if killed else len(left))


def _reap(ended: dict[int, tuple[int, float, float]]) -> bool:
    """Take note of all children that have ended; returns whether some are still there."""
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        ended[pid] = (os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def descendants() -> list[int]:
    """Process ids of all that descend from this process and still run."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, look = [], [os.getpid()]
    while look:
        children = parents.get(look.pop(), [])
        found += children
        look += children
    return found


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
