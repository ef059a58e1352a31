"""What the watch saw, block by block, with the population stability index of the answers over a rolling week, as its alarms judge it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.core.errors import TreadleError
from treadle.core.records import Record
from treadle.registry import packages

WEEK = 7
_SHOWN = ("version", "rows", "matured", "loss", "expected_loss", "excess", "gap")
_BESIDE = ("repeated", "odd", "gaps")


def blocks(ws: Workspace, model: str, known: Sequence[Record]) -> list[dict[str, Any]]:
    """Judged blocks, oldest first; none where nothing is watched."""
    records = sorted(ws.ledger.find("block", {"model": model}), key=lambda b: int(b["start"]))
    if not records:
        return []
    from treadle.monitoring.watch import day  # brings the sketches, which a project without a watch need not have

    moved = _stability(ws, records, known)
    return [
        {"start": iso(day(int(b["start"]))), **{k: b[k] for k in _SHOWN}, "psi": psi, **{k: b.get("beside", {}).get(k) for k in _BESIDE}}
        for b, psi in zip(records, moved)
    ]  # fmt: skip


def _stability(ws: Workspace, records: Sequence[Record], known: Sequence[Record]) -> list[float | None]:
    from treadle.monitoring import sketches as sk
    from treadle.monitoring.blocks import PREDICTION
    from treadle.monitoring.detectors import psi
    from treadle.monitoring.reference import read_reference

    normal: dict[int, Any] = {}
    for version in known:
        try:
            reference = read_reference(packages.open_package(version["package"], ws.blobs, ws.shelf)[0])
        except TreadleError:
            reference = None
        normal[int(version["number"])] = reference.sketches.get(PREDICTION) if reference else None
    found: list[float | None] = []
    recent: list[Any] = []
    last = 0
    for record in records:
        if record["version"] != last:
            recent, last = [], int(record["version"])
        stored = record["sketches"].get(PREDICTION)
        reference = normal.get(last)
        if stored is None or reference is None:
            found.append(None)
            continue
        recent = [*recent[-(WEEK - 1) :], sk.load({PREDICTION: stored})]
        found.append(psi.score(reference, sk.rolling(recent, WEEK)[PREDICTION]).value if len(recent) == WEEK else None)
    return found
