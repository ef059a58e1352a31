"""What a version rests on, in the shape a page shows."""

from __future__ import annotations

from typing import Any

from treadle.core.records import Record


def version_of(record: Record) -> dict[str, Any]:
    """One line of the list of versions."""
    evaluation = record["evaluation"]
    return {
        "id": record.id, "number": int(record["number"]), "status": record["status"], "family": record["family"], "format": record["format"],
        "trained_rows": record["trained_rows"], "trained_to": record["trained_to"], "as_of": record["as_of"], "cause": record["cause"],
        "run": record["run"], "passed": record["verdict"]["passed"], "reasons": record["verdict"]["reasons"], "primary": evaluation["primary"],
        "metrics": evaluation["metrics"]["model"], "parity": record["parity"], "registered": record.created_at, "code": record["code"],
    }  # fmt: skip


def evaluation_of(record: Record, role: str) -> dict[str, Any]:
    """The evidence of one version: its metrics beside those of what it was compared with, slices, calibration and gates.

    Args:
        role: what the version is to the reader: 'champion', 'first champion', 'newest version'.
    """
    e = record["evaluation"]
    compared = list(e["metrics"])
    return {
        "version": int(record["number"]), "id": record.id, "role": role, "rows": e["rows"], "blocks": e["blocks"], "split": record["split"],
        "test_reads": e.get("test_reads", 1), "primary": e["primary"], "compared": compared, "baseline": e.get("baseline_family", "the baseline"),
        "metrics": [{"name": name, **{who: e["metrics"][who][name] for who in compared}} for name in e["metrics"]["model"]],
        "against": e["against"], "slices": e["slices"], "calibration": e.get("calibration"), "shuffled": e["shuffled_labels"],
        "gates": [{k: f[k] for k in ("gate", "passed", "reason")} for f in record["verdict"]["findings"]], "passed": record["verdict"]["passed"],
    }  # fmt: skip
