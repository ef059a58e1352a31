"""Everything the page shows, as JSON values: from the ledger and the prediction log, and the packages of versions that are scored again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.core.declare.model import Model
from treadle.core.records import Record
from treadle.live.deploy import ENDPOINT
from treadle.registry import promote, versions
from treadle.report import audit, matured, production, watched
from treadle.report.evidence import evaluation_of, version_of
from treadle.report.happened import alarms_of, retrainings_of, runs_of, timeline, trainings


def collect(ws: Workspace, model: Model) -> dict[str, Any]:
    """The loop of one model: what is recorded, and what its answers turned out to be worth. Reads the whole prediction log, in batches."""
    known = versions.all_versions(model.name, ws.ledger)
    found = _with_record(ws, model, known, production.earned(ws, model, known, promote.deployment(model.name, ws.ledger)))
    return {**found, "truth": _finite(matured.told(ws, model, waiting=True))}


def recorded(ws: Workspace, model: Model) -> dict[str, Any]:
    """The same without reading the prediction log: `production` is None."""
    return _with_record(ws, model, versions.all_versions(model.name, ws.ledger), None)


def _with_record(ws: Workspace, model: Model, known: Sequence[Record], earned: dict[str, Any] | None) -> dict[str, Any]:
    deployed = promote.deployment(model.name, ws.ledger)
    runs = runs_of(model.name, ws.ledger)
    raised = alarms_of(model, ws.ledger)
    answered, with_outcome = ws.predictions.count(model.name)
    replayed = bool(ws.ledger.find("replay", {"model": model.name}, limit=1))
    served = earned["served"] if earned and replayed else {}
    found: dict[str, Any] = {
        "made": iso(ws.clock.now()),
        "project": {"name": ws.project.name, "owner": ws.project.owner, "goal": ws.project.goal, "description": ws.project.description},
        "model": _declared(model, ws, known),
        "deployment": _deployment(ws, model, deployed),
        "versions": [version_of(v) for v in known],
        "data": _data(ws, known),
        "trials": _trials(ws, known),
        "evaluations": [evaluation_of(v, role) for v, role in _judged(known, deployed)],
        "production": earned,
        "blocks": watched.blocks(ws, model.name, known),
        "truth": matured.told(ws, model, waiting=False),
        "alarms": raised,
        "retrainings": retrainings_of(runs, known),
        "timeline": timeline(ws.ledger, model.name, raised, runs, known, served),
        "totals": {"requests": answered, "outcomes": with_outcome, **trainings(runs, ws.ledger)},
        "audit": audit.verify(ws.ledger),
    }
    return dict(_finite(found))


def _declared(model: Model, ws: Workspace, known: Sequence[Record]) -> dict[str, Any]:
    watch = ws.watch_of(model)
    return {
        "name": model.name, "description": model.description, "target": model.target, "data_set": model.rows.name,
        "task": known[-1]["task"] if known else model.task or "", "inputs": len(model.inputs), "views": [v.name for v in model.views],
        "features": len(model.inputs) + sum(len(v.feature_names()) for v in model.views), "has_time": bool(model.rows.event_time),
        "gates": [g.name for g in model.gates], "served": model.name in ws.project.serves, "watched": watch is not None,
        "retrains_on": list(watch.retrain.on) if watch and watch.retrain else [],
    }  # fmt: skip


def _deployment(ws: Workspace, model: Model, deployed: Record | None) -> dict[str, Any] | None:
    if deployed is None:
        return None
    endpoint = ws.ledger.get(ENDPOINT, model.name)
    serve = ws.serve_of(model)
    return {
        **{k: deployed[k] for k in ("champion", "challenger", "stage", "share", "since", "previous")},
        "endpoint": {k: endpoint[k] for k in ("status", "since", "challenger_failures")} if endpoint else None,
        "shadow_seconds": serve.shadow.total_seconds(), "canary_seconds": serve.canary_for.total_seconds(), "canary_share": serve.canary,
    }  # fmt: skip


def first_champion(deployed: Record) -> int:
    """The number of the version that answered first."""
    return int([*deployed["previous"], deployed["champion"]][0])


def _judged(known: Sequence[Record], deployed: Record | None) -> list[tuple[Record, str]]:
    """The versions whose evidence is shown: the first and the present champion, or the newest version where none is deployed."""
    if not known:
        return []
    if deployed is None:
        return [(known[-1], "newest version")]
    by_number = {int(v["number"]): v for v in known}
    first, now = first_champion(deployed), int(deployed["champion"])
    if first == now:
        return [(by_number[now], "champion")]
    return [(by_number[now], "champion"), (by_number[first], "first champion")]


def _data(ws: Workspace, known: Sequence[Record]) -> list[dict[str, Any]]:
    """The data versions of the newest version of the model."""
    if not known:
        return []
    found = []
    for name, id in known[-1]["data"].items():
        record = ws.ledger.get("dataset_version", id)
        if record is not None:
            wanted = ("rows", "quarantined", "reasons", "excluded", "start", "end", "address")
            found.append({"data_set": name, "id": id, **{k: record[k] for k in wanted}, "taken": record.created_at})
    return found


def _trials(ws: Workspace, known: Sequence[Record]) -> list[dict[str, Any]]:
    """What the first version's search tried, best first; those without a loss last."""
    if not known:
        return []
    tried = ws.ledger.find("trial", {"group": known[0]["trials"], "model": known[0]["model"]})
    wanted = ("number", "family", "params", "status", "loss", "seconds", "error")
    rows = [{k: t[k] for k in wanted} for t in tried]
    return sorted(rows, key=lambda r: (r["status"] != "done", r["loss"] if r["loss"] is not None else math.inf, r["number"]))


def _finite(value: Any) -> Any:
    """The same value with None for what JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
