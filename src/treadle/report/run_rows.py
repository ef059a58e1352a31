"""Runs in a line each, whatever made them: a model's turn, a pipeline, a trial of a search, a run that was logged by hand or through MLflow.

A line has the fields of `run_query`, `params` and `metrics` (name to the last value). A turn's metrics are those of the version it made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from treadle.core.clock import iso
from treadle.core.errors import NotFound
from treadle.core.records import Record, Ref
from treadle.pipelines.run import RUN
from treadle.points import KIND as BY_HAND
from treadle.ports.ledger import Ledger
from treadle.registry import versions
from treadle.report import run_query
from treadle.training.recorded import TRIAL

MLFLOW = "mlflow_run"
KINDS = {RUN: "models and pipelines", TRIAL: "trials of searches", BY_HAND: "logged by hand", MLFLOW: "logged through MLflow"}
LOOKED_AT = 20_000  # runs that one search looks at; it says where it stopped
_BATCH = 500
_MLFLOW = {"FINISHED": "done", "FAILED": "failed", "KILLED": "cancelled", "RUNNING": "running", "SCHEDULED": "waiting"}


@dataclass
class Found:
    """A page of runs: lines, and the record after which the next page begins (None: there is none). `looked`: how many were looked at."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    last: Record | None = None
    looked: int = 0


def find(id: str, ledger: Ledger) -> Record:
    """A run of any kind. Raises NotFound."""
    for kind in KINDS:
        found = ledger.get(kind, id)
        if found is not None:
            return found
    raise NotFound(f"There is no run {id[:100]!r}.")


def row(record: Record, ledger: Ledger) -> dict[str, Any]:
    """A run with all its metrics."""
    return line(record, params_and_metrics(record, ledger))


def search(
    ledger: Ledger, kind: str, where: Mapping[str, Any], question: run_query.Asked | None, *, limit: int, past: tuple[str, str] | None = None
) -> Found:  # fmt: skip
    """The newest runs of a kind that meet `where` (fields of their records) and a question."""
    found = Found()
    wanted = sorted(question.metrics) if question is not None else []
    points = {name: {p.run: p.value for p in ledger.last_points(name=name)} for name in wanted}
    while found.looked < LOOKED_AT:
        batch = ledger.find(kind, where or None, newest_first=True, limit=_BATCH if question is not None else limit + 1, past=past)
        for record in batch:
            if len(found.rows) == limit:
                return found
            found.looked += 1
            found.last = record
            if question is None or question.holds(line(record, _asked(record, question, points, ledger))):
                found.rows.append(line(record, params_and_metrics(record, ledger)))
        if len(batch) < _BATCH:
            found.last = None
            return found
        past = (batch[-1].created_at, batch[-1].id)
    return found


def _asked(
    record: Record, question: run_query.Asked, points: Mapping[str, Mapping[str, float]], ledger: Ledger
) -> tuple[Mapping[str, Any], dict[str, Any]]:  # fmt: skip
    """Only what the question speaks of: a version is looked up where it must be."""
    if record.kind == RUN and (question.metrics or "params" in question.fields):
        params, metrics = params_and_metrics(record, ledger, last=False)
    else:
        params, metrics = _params(record), _metrics(record)
    return params, {**metrics, **{name: of[record.id] for name, of in points.items() if record.id in of}}


def params_and_metrics(record: Record, ledger: Ledger, *, last: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and last values of metrics by name.

    Args:
        last: also the points that were logged under the run's id.
    """
    params, metrics = _params(record), _metrics(record)
    if record.kind == RUN:
        for version in made_by(record, ledger)[:1]:
            params = {**params, "family": version["family"], **(version["params"] or {})}
            metrics = {name: m["value"] for name, m in version["evaluation"]["metrics"].get("model", {}).items()}
    if last and record.kind != TRIAL:
        metrics |= {p.name: p.value if math.isfinite(p.value) else None for p in ledger.last_points(record.id)}
    return params, metrics


def made_by(run: Record, ledger: Ledger) -> list[Record]:
    """The versions that a run registered."""
    links = ledger.links(Ref(RUN, run.id), back=True, relation="made_by")
    found = [ledger.get(versions.KIND, link.source.id) for link in links if link.source.kind == versions.KIND]
    return [v for v in found if v is not None]


def line(record: Record, said: tuple[Mapping[str, Any], Mapping[str, Any]]) -> dict[str, Any]:
    """A run in a line."""
    common = {"id": record.id, "kind": record.kind, "params": dict(said[0]), "metrics": dict(said[1]), "version": record.version}
    if record.kind == RUN:
        return {
            **common, "scope": record["scope"], "model": record.get("model", ""), "pipeline": record.get("pipeline", ""), "name": record["scope"],
            "status": record["status"], "cause": record["cause"].get("kind", ""), "because": record["cause"].get("text", ""),
            "by": record.get("by", ""), "started": record["started"], "ended": record.get("ended", ""),
            "seconds": float(record.get("seconds", 0.0)), "cpu": float(record.get("cpu", 0.0)), "error": record.get("error", ""),
        }  # fmt: skip
    blank = {"model": "", "pipeline": "", "cause": "", "because": "", "by": "", "cpu": 0.0, "error": record.get("error", "") or ""}
    if record.kind == TRIAL:
        return {
            **common, **blank, "scope": record["scope"], "model": record["model"], "name": f"trial {record['number']} {record['family']}",
            "status": record["status"], "started": record.created_at, "ended": record.updated_at, "seconds": float(record["seconds"] or 0.0),
        }  # fmt: skip
    if record.kind == MLFLOW:
        started, ended = _moment(record["start"]), _moment(record["end"])
        return {
            **common, **blank, "scope": record["experiment"], "name": record["name"], "status": _MLFLOW.get(record["status"], record["status"]),
            "by": record["user"], "started": started, "ended": ended,
            "seconds": (record["end"] - record["start"]) / 1000 if record["end"] else 0.0,
        }  # fmt: skip
    return {
        **common, **blank, "scope": "", "name": record["name"], "status": record["status"], "started": record["started"],
        "ended": record.get("ended", ""), "seconds": 0.0,
    }  # fmt: skip


def _params(record: Record) -> dict[str, Any]:
    if record.kind == TRIAL:
        return {"family": record["family"], **(record["params"] or {})}
    return dict(record.get("params") or {})


def _metrics(record: Record) -> dict[str, Any]:
    return {"loss": record["loss"]} if record.kind == TRIAL and record["loss"] is not None else {}


def _moment(milliseconds: Any) -> str:
    from datetime import UTC, datetime

    return iso(datetime.fromtimestamp(milliseconds / 1000, UTC)) if milliseconds else ""
