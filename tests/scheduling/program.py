"""A scheduler process for tests: a thousand simulated minutes, one look each, then looks until everything has run. The work is one event in the ledger.

Usage: program.py FOLDER LEASE TICKS [slot number to stop at, and where: 'claimed' or 'starting']
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from treadle.assemble import open_workspace
from treadle.core.errors import Conflict
from treadle.core.records import Record, Ref
from treadle.pipelines.run import RUN
from treadle.pipelines.schedule import STATE, key_of, pending
from treadle.wheel.scheduler import Scheduler

FIRST = datetime(2024, 5, 1, tzinfo=UTC)


class Clock:
    time = FIRST

    def now(self) -> datetime:
        return self.time


def slot_of(number: int) -> str:
    return f"often@{key_of(FIRST + timedelta(minutes=number))}"


def stop_here(where: str, slot: str, wanted: list[str]) -> None:
    """Say so and wait, once, at the slot and place the test asked for; the test stops or kills the process there."""
    flag = Path(sys.argv[1]) / f"stopped-{os.getpid()}"
    if wanted and slot == slot_of(int(wanted[0])) and where == wanted[1] and not flag.exists():
        flag.touch()
        print(f"at {where}", flush=True)
        while not (Path(sys.argv[1]) / "go-on").exists():
            time.sleep(0.01)


class Stopping(Scheduler):
    def run(self, slot: Record) -> Record | None:
        stop_here("claimed", slot.id, sys.argv[4:])
        return super().run(slot)


def start(ws: Any, target: str, *, cause: dict[str, Any], run_id: str, params: Any = None, as_of: Any = None) -> None:
    stop_here("starting", cause["slot"], sys.argv[4:])
    with ws.ledger.transaction():  # as the real one: of two that start one run, one gets Conflict
        ws.ledger.put(RUN, run_id, {"status": "done", "cause": cause, "started": "2024-05-01T00:00:00Z", "cpu": 0.0}, expect=0)
        ws.ledger.append("effect", Ref("slot", cause["slot"]), {"pid": os.getpid()})


def resume(ws: Any, run_id: str) -> None:
    raise Conflict("a run of this test is there when it is done")


def main() -> None:
    clock = Clock()
    ws = open_workspace(sys.argv[1], clock=clock)
    with Stopping(ws, start=start, resume=resume, lease=float(sys.argv[2]), tell=lambda line: None).alive(at_once=True) as scheduler:
        scheduler.tick()
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(1, int(sys.argv[3]) + 1):
            clock.time = FIRST + timedelta(minutes=number)
            scheduler.tick()
        give_up = time.monotonic() + 200
        while time.monotonic() < give_up:
            state = ws.ledger.get(STATE, "often")
            if state is not None and not state["active"] and not pending("often", ws.ledger):
                break
            scheduler.tick()
            time.sleep(0.01)


if __name__ == "__main__":
    main()
