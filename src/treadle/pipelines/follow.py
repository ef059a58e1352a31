"""A run's log while it grows: what its steps say, as it is said, until the run, or the one step that was asked for, has ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from treadle.core.errors import NotFound
from treadle.core.records import Record
from treadle.pipelines import lease
from treadle.pipelines.logs import log_file
from treadle.pipelines.lookup import find_step
from treadle.pipelines.run import RUN, steps_of
from treadle.ports.blobs import Blobs
from treadle.ports.ledger import Ledger

EVERY = 0.5
_GOING = ("running", "retry", "")


def follow(run: str, step: str, ledger: Ledger, blobs: Blobs, home: Path, say: Callable[[str], None], *, every: float = EVERY) -> None:
    """Say each line, with the step's name before it when several may speak. A step that has not begun yet is waited for.

    Raises: NotFound when the run has ended without such a step.
    """
    told: dict[str, int] = {}  # bytes of each step's log that were said
    whole_told: set[str] = set()
    while True:
        record = ledger.get(RUN, run)
        ended = record is None or record["status"] != "running" or lease.gone(record["owner"])
        steps = steps_of(run, ledger)
        chosen = _chosen(step, run, steps, ended)
        for one in chosen:
            if one["status"] in ("reused", "skipped", "waiting") or one["step"] in whole_told:
                continue
            begun = told.get(one["step"], 0)
            data = _bytes(one, blobs, home, begun)
            whole = data if one["status"] not in _GOING or ended else data[: data.rfind(b"\n") + 1]
            for line in whole.decode("utf-8", "replace").splitlines():
                say(f"{one['step']} | {line}" if not step or (one.get("of") and len(chosen) > 1) else line)
            told[one["step"]] = begun + len(whole)
            if one["status"] not in _GOING:
                whole_told.add(one["step"])
        if ended or (step and chosen and chosen[0]["status"] not in _GOING):
            return
        time.sleep(every)


def _chosen(step: str, run: str, steps: list[Record], ended: bool) -> list[Record]:
    if not step:
        return steps
    try:
        found = find_step(step, run, steps)
    except NotFound:
        if ended:
            raise
        return []
    return [found, *(s for s in steps if s.get("of") == found["step"])] if found.get("tasks") is not None else [found]


def _bytes(step: Record, blobs: Blobs, home: Path, begun: int) -> bytes:
    """What its log holds from `begun` on: from the file while there is one, else from where it is kept."""
    if not step.get("log"):
        try:
            with log_file(home, step["run"], step["step"]).open("rb") as file:
                file.seek(begun)
                return file.read()
        except OSError:
            return b""
    return blobs.get(step["log"])[begun:]
