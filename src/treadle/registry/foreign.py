"""Versions of models that were made elsewhere: registered like others, with a person's word in place of evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle.core.declare.data import Dataset
from treadle.core.declare.model import Model
from treadle.core.declare.source import Source
from treadle.core.errors import Refused
from treadle.core.records import Record
from treadle.ports.ledger import Ledger
from treadle.registry import versions

GATE = "taken over"


def stand_in(name: str) -> Model:
    """A model that the project does not declare, as commands want one: no inputs, no views, nothing to train from."""
    return Model(name=name, rows=Dataset(name=name, source=Source("elsewhere", ""), key=()), target="", inputs=())


def names(ledger: Ledger) -> list[str]:
    """Models that have a version made elsewhere."""
    return sorted({str(r["model"]) for r in ledger.find(versions.KIND) if r.get("foreign")})


def refuse(version: Record, what: str) -> None:
    """Raises Refused for a version that was made elsewhere: nothing is recorded of its making that `what` could be told from."""
    if version.get("foreign"):
        told = f"{version.id} was made elsewhere, so there is no evidence to {what}."
        raise Refused(told, hint=f"See what is recorded: treadle models {version['model']} --version {version['number']} --json")


def body(
    package: Mapping[str, Any], manifest: Mapping[str, Any], where: Mapping[str, Any], *, by: str, reason: str, project: str, at: str
) -> dict[str, Any]:
    """What is recorded of such a version.

    Args:
        where: what it was made from: `file` (its name), `sha256` or `digest`, and what was checked of it.
    """
    told = f"{by} took it over: {reason}. No rows were judged here."
    checked = where.get("checked")
    return {
        "project": project, "status": "approved", "key": package["digest"], "package": dict(package), "format": manifest["model"]["format"],
        "parity": checked, "family": f"{manifest['family']}", "params": {}, "task": manifest["task"], "labels": list(manifest["labels"]),
        "trained_rows": 0, "trained_to": "", "trials": "", "split": {}, "as_of": "", "data": {}, "features": {}, "gates": "", "run": "",
        "evaluation": {"primary": "none", "metrics": {"model": {"none": {"value": None}}}},
        "verdict": {"passed": True, "reasons": [], "findings": [{"gate": GATE, "passed": True, "reason": told, "evidence": dict(where)}]},
        "code": None, "environment": None, "threads": 0, "settings": None, "champion": "",
        "cause": {"kind": "person", "id": "", "text": f"taken over by {by}"}, "owner": "", "goal": "", "allowed": {}, "by": by, "about": {},
        "explanation": None, "measured": None, "bytes": where.get("bytes"), "licences": None,
        "foreign": {**where, "reason": reason, "by": by, "at": at},
    }  # fmt: skip
