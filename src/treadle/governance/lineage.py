"""The story of a prediction: from its id back to features, version, training data, code, evidence and approver, and forward to the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from treadle.core.clock import iso
from treadle.core.errors import NotFound
from treadle.core.ids import check_id
from treadle.core.masking import masked_row
from treadle.core.records import Event, Record
from treadle.ports.ledger import Ledger
from treadle.ports.predictions import PredictionLog
from treadle.registry import packages, versions
from treadle.serving import recalibration

_APPROVALS = ("deployment.started", "deployment.shadow", "deployment.canary", "deployment.promoted", "deployment.rejected")


def story(
    id: str, predictions: PredictionLog, ledger: Ledger, read_blob: Any = None, personal: Mapping[str, str] | None = None
) -> dict[str, Any]:  # fmt: skip
    """Everything recorded about one prediction.

    Args:
        read_blob: address to bytes; with it features are given by name (their names stand in the version's package).
        personal: column to the sort of personal data it holds; such values are masked.
    Raises: NotFound for an id that was never logged.
    """
    found = predictions.get(check_id(id, "prediction id"))
    if found is None:
        raise NotFound(f"There is no prediction {id!r}.", hint="Prediction ids are in the answers of the endpoint and in the report.")
    version = versions.get(found.model, found.version, ledger)
    signature = _signature(version, read_blob)
    names = [f["name"] for f in signature["features"]]
    values = json.loads(found.features)
    outcomes = predictions.outcomes_of(id)
    output, state = recalibration.told(found)
    return {
        "prediction": {
            "id": found.id, "model": found.model, "for": iso_of(found.moment), "answered": iso_of(found.answered),
            "answered_by": f"version {found.version}",
            "as": found.variant, "output": _labelled(version, output), "microseconds": found.micros,
            **({"recalibrated": {"by": state, "its_own_output": _labelled(version, found.output)}} if state is not None else {}),
            "beside_it": {"version": found.other_version, "output": _labelled(version, found.other_output)} if found.other_version else None,
        },
        "inputs": masked_row(_inputs(json.loads(found.inputs), signature), personal or {}),
        "features": masked_row(dict(zip(names, values)), personal or {}) if len(names) == len(values) else values,
        "outcome": [{"value": o.value, "known": iso_of(o.known), "source": o.source} for o in outcomes] or "not known yet",
        "version": {
            "id": version.id, "status": version["status"], "family": version["family"], "params": version["params"], "format": version["format"],
            "parity": version["parity"], "package": version["package"]["digest"], "registered": version.created_at,
        },
        "trained": {
            "rows": version["trained_rows"], "until": version["trained_to"], "knowing_what_was_known_at": version["as_of"] or "all there was",
            "data": [_data(ledger, name, data) for name, data in version["data"].items()], "split": version["split"],
            "feature_versions": version.get("features", {}),
            "environment": version["environment"], "code": version["code"] or "not in a git repository",
        },
        "evidence": {
            "verdict": "passed" if version["verdict"]["passed"] else "refused",
            "gates": [f"{f['gate']}: {f['reason']}" for f in version["verdict"]["findings"]],
        },
        "made_by": _run(version, ledger),
        "decisions": [_decision(e) for e in decisions(found.model, found.version, ledger)],
    }  # fmt: skip


def decisions(model: str, number: int, ledger: Ledger) -> list[Event]:
    """Every event in which this version began to answer, got a share, took over or was thrown out: who decided, and on what evidence."""
    found: list[Event] = []
    seq = 0
    while batch := ledger.events_since(seq, kinds=_APPROVALS, subject_kind=versions.DEPLOYMENT, subject_id=model):
        found += [e for e in batch if number in (e.body.get("champion"), e.body.get("challenger"), e.body.get("instead_of"))]
        seq = batch[-1].seq
    return found


def _decision(event: Event) -> dict[str, Any]:
    return {"event": event.seq, "what": event.kind, "when": event.time, "by": event.actor, "says": dict(event.body)}


def _run(version: Record, ledger: Ledger) -> dict[str, Any]:
    run = ledger.get("run", version["run"]) if version["run"] else None
    if run is None:
        return {"run": version["run"] or "unknown", "cause": version["cause"]}
    told: dict[str, Any] = {"run": run.id, "started": run["started"], "cause": run["cause"]}
    if run["cause"].get("kind") == "alarm":
        alarm = ledger.get("alarm", run["cause"]["id"])
        if alarm is not None:
            told["alarm"] = {k: alarm[k] for k in ("raised", "kind", "sentence", "value", "threshold", "window", "resolution")}
    return told


def _data(ledger: Ledger, name: str, id: str) -> dict[str, Any]:
    record = ledger.get("dataset_version", id)
    if record is None:
        return {"data_set": name, "version": id}
    return {
        "data_set": name,
        "version": id,
        "rows": record["rows"],
        "quarantined": record["quarantined"],
        "from": record["start"],
        "to": record["end"],
    }


def _signature(version: Record, read_blob: Any) -> dict[str, Any]:
    if read_blob is None:
        return {"request": [], "features": []}
    return dict(json.loads(read_blob(version["package"]["files"][packages.MANIFEST]))["signature"])


def _inputs(inputs: dict[str, Any], signature: Mapping[str, Any]) -> dict[str, Any]:
    """What the caller sent; moments, which are logged as microseconds, in words."""
    moments = {f["name"] for f in signature["request"] if f["kind"] == "timestamp"}
    return {name: iso_of(value) if name in moments and value is not None else value for name, value in inputs.items()}


def _labelled(version: Record, output: tuple[float, ...]) -> Mapping[str, float] | float | None:
    if not output:
        return None
    labels = version["labels"]
    return {str(label): p for label, p in zip(labels, output)} if labels else output[0]


def iso_of(micros: int) -> str:
    """Microseconds since 1970 as ISO text."""
    return iso(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))
