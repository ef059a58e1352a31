"""Versions of a model: numbered, complete, and registered all at once or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle.core.errors import Conflict, NotFound, Refused
from treadle.core.records import Link, Record, Ref
from treadle.ports.ledger import Ledger

KIND = "model_version"
DEPLOYMENT = "deployment"


def version_id(model: str, number: int) -> str:
    """'late-arrival.v3'"""
    return f"{model}.v{number}"


def register(model: str, body: Mapping[str, Any], links: list[tuple[str, Ref]], ledger: Ledger) -> Record:
    """Record a new version with its lineage: record, links and event in one transaction.

    Args:
        body: everything about it; `status` is 'approved' or 'refused' by the verdict; `key` names the training, and the same key is the same version.
        links: (relation, target) from the version.
    """
    for _ in range(20):  # two registrations at once: the second takes the next number
        known = ledger.find(KIND, {"model": model})
        same = next((r for r in known if r["key"] == body["key"]), None)
        if same is not None:
            return same
        number = max((int(r["number"]) for r in known), default=0) + 1
        try:
            with ledger.transaction():
                record = ledger.put(KIND, version_id(model, number), {**body, "model": model, "number": number}, expect=0)
                for relation, target in links:
                    ledger.link(Link(Ref(KIND, record.id), relation, target))
                # The log is for ever, and a gate's sentence may name a value of a slice, which may be a person's: it is in the record alone.
                failed = [finding["gate"] for finding in body["verdict"].get("findings", []) if not finding["passed"]]
                ledger.append(f"version.{body['status']}", Ref(KIND, record.id), {"run": body.get("run", ""), "gates": failed})
            return record
        except Conflict:
            continue
    raise Conflict(f"No number was free for a new version of {model!r}.", hint="Try again.")


def get(model: str, number: int, ledger: Ledger) -> Record:
    """One version. Raises NotFound."""
    record = ledger.get(KIND, version_id(model, number))
    if record is None:
        raise NotFound(f"Model {model!r} has no version {number}.", hint="See: treadle models")
    return record


def all_versions(model: str, ledger: Ledger) -> list[Record]:
    """Every version of a model, oldest first."""
    return sorted(ledger.find(KIND, {"model": model}), key=lambda r: int(r["number"]))


def newest_approved(model: str, ledger: Ledger) -> Record | None:
    """The newest version whose evidence was enough and that was not thrown out since."""
    return next((r for r in reversed(all_versions(model, ledger)) if r["status"] == "approved"), None)


def set_status(record: Record, status: str, reason: str, ledger: Ledger, *, actor: str = "treadle") -> Record:
    """Change a version's status: 'approved', 'refused', 'champion', 'retired', 'rejected'. One event."""
    if record["status"] == "refused" and status in ("champion", "approved"):
        raise Refused(f"Version {record.id} did not pass its gates: {'; '.join(record['verdict']['reasons'])}", hint="Only evidence can change that.")
    with ledger.transaction():
        changed = ledger.put(KIND, record.id, {**record.body, "status": status}, expect=record.version)
        ledger.append(f"version.{status}", Ref(KIND, record.id), {"reason": reason}, actor=actor)
    return changed
