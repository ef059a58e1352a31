"""Who drives a run: an owner, a heartbeat, and taking over from one that is gone.

A run's record carries its owner and an epoch. Whoever drives it writes only by compare-and-set on that record, so that a driver which was paused
while another one took over cannot write any more. Whether a driver still lives is told by its process, on one machine, else by its heartbeat: the
observer watches the count of beats stand still for a whole lease by its own monotonic clock, because clocks of machines differ and jump.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from treadle.core.ids import new_id
from treadle.ports.ledger import Ledger

LEASE = "run_lease"
SECONDS = 30.0


def born(pid: int) -> str:
    """When a process began, as the system counts it; tells it from a later one with the same number. Empty where that cannot be seen."""
    return _born(pid)


def owner() -> dict[str, Any]:
    """This process, as the owner of a run. `born` tells it from a later process with the same number."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": _born(os.getpid()), "token": new_id("driver"), "seen": time.time()}


def alive(pid: int, born: str = "") -> bool:
    """Whether a process with this number (and this start, if said) runs on this machine. A zombie does not."""
    if pid <= 0:  # the system would take it for a group of processes
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    fields = _stat(pid)
    if fields and fields[0] == "Z":
        return False
    return not (born and fields) or _born(pid) == born


def gone(who: Mapping[str, Any]) -> bool:
    """Whether an owner is certainly dead: its process was on this machine and is there no more."""
    return who["host"] == socket.gethostname() and not alive(int(who["pid"]), str(who.get("born", "")))


def silent(run: str, ledger: Ledger, seconds: float = SECONDS, wait: Callable[[float], None] = time.sleep) -> bool:
    """Whether a run's heartbeat stands still for `seconds`. Takes that long to say yes; says no at the first beat."""
    def beat() -> int:
        found = ledger.get(LEASE, run)
        return int(found["beat"]) if found else 0

    before, end = beat(), time.monotonic() + seconds
    while time.monotonic() < end:
        wait(min(1.0, seconds / 10))
        if beat() != before:
            return False
    return True


class Heartbeat:
    """Beats for a run every third of a lease, from a thread of its own, while the block lasts."""

    def __init__(self, run: str, token: str, ledger: Ledger, seconds: float = SECONDS) -> None:
        self._run, self._token, self._ledger, self._every = run, token, ledger, seconds / 3
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat of {run}", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(self._every):
            count += 1
            try:
                found = self._ledger.get(LEASE, self._run)
                count = max(count, int(found["beat"]) + 1 if found else 1)
                self._ledger.put(LEASE, self._run, {"token": self._token, "beat": count})
            except Exception:  # a store that is away for a while must not end the run; the next beat tries again
                continue


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _born(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""
