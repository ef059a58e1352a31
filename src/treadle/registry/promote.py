"""Which versions answer: one deployment record per model, changed only by compare-and-set, each change one audit event.

stage 'none'    the champion answers alone
stage 'shadow'  the challenger answers beside it, unheard
stage 'canary'  the challenger answers a share of the requests
stage 'stopped' nothing answers (the kill switch)
"""

from __future__ import annotations

from typing import Any

from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, NotFound, Refused
from treadle.core.records import Link, Record, Ref
from treadle.ports.ledger import Ledger
from treadle.registry import conditions, versions


def deployment(model: str, ledger: Ledger) -> Record | None:
    """The model's deployment record, or None before the first one."""
    return ledger.get(versions.DEPLOYMENT, model)


def first(model: str, number: int, ledger: Ledger, clock: Clock, *, actor: str) -> Record:
    """Make a version the first champion. Raises Refused when its evidence is not enough."""
    _eligible(model, number, ledger, clock)
    body: dict[str, Any] = {"champion": number, "challenger": None, "stage": "none", "share": 0.0, "since": iso(clock.now()), "previous": []}
    return _change(model, None, body, "deployment.started", {"champion": number}, ledger, actor)


def challenge(model: str, number: int, ledger: Ledger, clock: Clock, *, actor: str = "treadle") -> Record:
    """Put a version beside the champion, unheard. Raises Conflict when another challenger is there or it is the champion itself."""
    now = _required(model, ledger)
    _eligible(model, number, ledger, clock)
    if number == now["champion"]:
        raise Conflict(f"Version {number} of {model!r} is the champion.", hint="Choose another version.")
    if now["challenger"] is not None:
        raise Conflict(f"Version {now['challenger']} of {model!r} is already challenging.", hint="Wait for its verdict, or reject it.")
    body = {**now.body, "challenger": number, "stage": "shadow", "share": 0.0, "since": iso(clock.now())}
    return _change(model, now, body, "deployment.shadow", {"challenger": number}, ledger, actor)


def canary(model: str, share: float, evidence: dict[str, Any], ledger: Ledger, clock: Clock, *, actor: str = "treadle") -> Record:
    """Give the challenger a share of the requests."""
    now = _with_challenger(model, ledger)
    body = {**now.body, "stage": "canary", "share": share, "since": iso(clock.now())}
    return _change(model, now, body, "deployment.canary", {"challenger": now["challenger"], "share": share, "evidence": evidence}, ledger, actor)


def promote(model: str, evidence: dict[str, Any], ledger: Ledger, clock: Clock, *, actor: str = "treadle") -> Record:
    """The challenger becomes champion; the old champion is kept for a rollback. Raises Refused when its waiver ended meanwhile."""
    now = _with_challenger(model, ledger)
    _eligible(model, now["challenger"], ledger, clock)
    body = {
        **now.body, "champion": now["challenger"], "challenger": None, "stage": "none", "share": 0.0, "since": iso(clock.now()),
        "previous": [*now["previous"], now["champion"]],
    }  # fmt: skip
    return _change(
        model, now, body, "deployment.promoted", {"champion": now["challenger"], "instead_of": now["champion"], "evidence": evidence}, ledger, actor
    )


def reject(model: str, reason: str, evidence: dict[str, Any], ledger: Ledger, clock: Clock, *, actor: str = "treadle") -> Record:
    """Throw the challenger out; the champion answers alone again."""
    now = _with_challenger(model, ledger)
    body = {**now.body, "challenger": None, "stage": "none", "share": 0.0, "since": iso(clock.now())}
    return _change(model, now, body, "deployment.rejected", {"challenger": now["challenger"], "reason": reason, "evidence": evidence}, ledger, actor)


def _change(model: str, before: Record | None, body: dict[str, Any], event: str, says: dict[str, Any], ledger: Ledger, actor: str) -> Record:
    ref = Ref(versions.DEPLOYMENT, model)
    with ledger.transaction():
        record = ledger.put(versions.DEPLOYMENT, model, body, expect=before.version if before else 0)
        ledger.link(Link(ref, "answers_with", Ref(versions.KIND, versions.version_id(model, body["champion"]))))
        ledger.append(event, ref, says, actor=actor)
        _statuses(model, before, body, says, ledger)
    return record


def _statuses(model: str, before: Record | None, body: dict[str, Any], says: dict[str, Any], ledger: Ledger) -> None:
    """A version's status follows the deployment, in the same transaction."""

    def mark(number: int | None, status: str) -> None:
        if number is not None:
            version = versions.get(model, number, ledger)
            if version["status"] != status:
                ledger.put(versions.KIND, version.id, {**version.body, "status": status}, expect=version.version)

    if before is not None and before["champion"] != body["champion"]:
        mark(before["champion"], "retired")
    if before is not None and before["challenger"] is not None and body["challenger"] is None and body["champion"] != before["challenger"]:
        mark(before["challenger"], "rejected")
    mark(body["champion"], "champion")
    mark(body["challenger"], "challenger")


def _required(model: str, ledger: Ledger) -> Record:
    now = deployment(model, ledger)
    if now is None:
        raise NotFound(f"Model {model!r} is not deployed.", hint="Run: treadle deploy")
    return now


def _with_challenger(model: str, ledger: Ledger) -> Record:
    now = _required(model, ledger)
    if now["challenger"] is None:
        raise Conflict(f"Model {model!r} has no challenger.")
    return now


def _eligible(model: str, number: int, ledger: Ledger, clock: Clock) -> None:
    """Every version that is to answer comes through here: all gates passed or are waived now, and those who must approve it have."""
    version = versions.get(model, number, ledger)
    missing = conditions.missing(version, ledger, clock.now())
    if missing and version["status"] == "refused":
        raise Refused(
            f"Version {number} of {model!r} was refused by its gates: {'; '.join(missing)}",
            hint="Only evidence can change that: see `treadle models`.",
        )
    if missing:
        raise Refused(f"Version {number} of {model!r} may not answer: {'; '.join(missing)}.", hint=f"See: treadle models {model} --version {number}")
