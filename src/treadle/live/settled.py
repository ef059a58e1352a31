"""The truth of a project's models: what is declared of it, what the registry knows of the versions, and the windows that wait for outcomes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.core.declare.model import Model
from treadle.core.declare.truth import Truth
from treadle.core.records import Record
from treadle.monitoring import truth
from treadle.monitoring.estimate import ASSUMES
from treadle.monitoring.watch import day
from treadle.registry import promote, versions


def truth_of(ws: Workspace, model: Model) -> Truth:
    """How the truth of a model is settled: as declared, or the defaults."""
    return ws.project.truths.get(model.name) or Truth(model)


def answering(ws: Workspace, model: Model) -> Callable[[int], truth.Answering]:
    """Number of a version to what must be known of it to judge its answers. What is none of the registry's is judged by nothing."""

    @cache
    def of(number: int) -> truth.Answering:
        version = versions.get(model.name, number, ws.ledger)
        return truth.Answering(version["task"], version["labels"])

    return of


def settle(ws: Workspace, model: Model, *, again: bool = False) -> list[Record]:
    """Bring the windows of a model to what is known now; returns those that are new or were restated."""
    if promote.deployment(model.name, ws.ledger) is None:
        return []
    return truth.settle(
        model.name, truth_of(ws, model), _label_window(ws, model), answering(ws, model), ws.predictions, ws.ledger, ws.clock.now(), again=again
    )


def told(ws: Workspace, model: Model, *, waiting: bool = True) -> dict[str, Any]:
    """Everything that is known of a model's truth, as JSON values: mature windows, what does not count, and with `waiting` the estimates of those
    that wait, for which the newest predictions are read."""
    windows = [{"id": r.id, **r.body} for r in truth.figures(model.name, ws.ledger)]
    declared, deployed = truth_of(ws, model), promote.deployment(model.name, ws.ledger)
    estimates = []
    if deployed is not None and waiting:
        length = int(declared.window.total_seconds() * 1e6)
        now = round(ws.clock.now().timestamp() * 1e6)
        start = (now - _label_window(ws, model)) // length * length
        while start <= now:
            for number in filter(None, (deployed["champion"], deployed["challenger"])):
                found = truth.estimated(model.name, int(number), start, start + length, answering(ws, model), ws.predictions, ws.ledger)
                if found is not None:
                    estimates.append({
                        "version": int(number), "from": iso(day(start)), "to": iso(day(start + length)), "rows": found.rows,
                        "estimate": dict(found.metrics), "error": dict(found.error), "windows": found.windows,
                    })  # fmt: skip
            start += length
    predictions, outcomes = ws.predictions.count(model.name)
    return {
        "model": model.name, "window_days": declared.window / timedelta(days=1), "windows": windows, "waiting": estimates, "assumes": ASSUMES,
        "predictions": predictions, "with_outcome": outcomes, "unknown_ids": ws.predictions.strays(),
    }  # fmt: skip


def _label_window(ws: Workspace, model: Model) -> int:
    watch = ws.watch_of(model)
    return round((watch.label_window if watch else timedelta(days=1)).total_seconds() * 1e6)
