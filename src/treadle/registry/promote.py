"""Which versions answer: one deployment record per model, changed only by compare-and-set, each change one audit event.

stage 'none'    the champion answers alone
stage 'shadow'  the challenger answers beside it, unheard
stage 'canary'  the challenger answers a share of the requests
stage 'ab'      the same, to compare what follows from the answers (see `serving.sequential`)
stage 'trial'   the new champion answers; the one before (`beside`) answers too, unheard, and is warm to go back to

Beside the stage a model may be `stopped`: then nothing answers, whatever else changes, until a person lets it go on (see `registry.intervene`).
`rules` are what the project declares of the rollout; the endpoint, which does not run the project file, reads them here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, NotFound, Refused
from treadle.core.records import Link, Record, Ref
from treadle.ports.ledger import Ledger
from treadle.registry import conditions, versions

ALONE: dict[str, Any] = {"challenger": None, "beside": None, "stage": "none", "share": 0.0}
HEARD = ("canary", "ab")  # stages in which the challenger answers some requests


def deployment(model: str, ledger: Ledger) -> Record | None:
    """The model's deployment record, or None before the first one."""
    return ledger.get(versions.DEPLOYMENT, model)


def first(model: str, number: int, ledger: Ledger, clock: Clock, *, actor: str, rules: Mapping[str, Any] | None = None) -> Record:
    """Make a version the first champion. Raises Refused when its evidence is not enough."""
    eligible(model, number, ledger, clock)
    body: dict[str, Any] = {"champion": number, **ALONE, "since": iso(clock.now()), "previous": [], "rules": dict(rules or {}), "stopped": None}
    return change(model, None, body, "deployment.started", {"champion": number}, ledger, actor)


def challenge(model: str, number: int, ledger: Ledger, clock: Clock, *, actor: str = "treadle") -> Record:
    """Put a version beside the champion, unheard. Raises Conflict when another challenger is there or it is the champion itself."""
    now = required(model, ledger)
    eligible(model, number, ledger, clock)
    if number == now["champion"]:
        raise Conflict(f"Version {number} of {model!r} is the champion.", hint="Choose another version.")
    if now["challenger"] is not None:
        raise Conflict(f"Version {now['challenger']} of {model!r} is already challenging.", hint="Wait for its verdict, or reject it.")
    body = {**now.body, **ALONE, "challenger": number, "stage": "shadow", "since": iso(clock.now())}
    return change(model, now, body, "deployment.shadow", {"challenger": number}, ledger, actor)


def canary(
    model: str, share: float, evidence: dict[str, Any], ledger: Ledger, clock: Clock, *, actor: str = "treadle", stage: str = "canary"
) -> Record:  # fmt: skip
    """Give the challenger a share of the requests, as a canary or as one side of an A/B test."""
    now = _with_challenger(model, ledger)
    body = {**now.body, "stage": stage, "share": share, "since": iso(clock.now())}
    return change(model, now, body, f"deployment.{stage}", {"challenger": now["challenger"], "share": share, "evidence": evidence}, ledger, actor)


def promote(model: str, evidence: dict[str, Any], ledger: Ledger, clock: Clock, *, actor: str = "treadle", trial: bool = False) -> Record:
    """The challenger becomes champion; the old champion is kept for a rollback. Raises Refused when its waiver ended meanwhile.

    Args:
        trial: the old champion goes on answering beside it, unheard, so that both can be compared and going back is instant.
    """
    now = _with_challenger(model, ledger)
    eligible(model, now["challenger"], ledger, clock)
    body = {
        **now.body, **ALONE, "champion": now["challenger"], "since": iso(clock.now()), "previous": [*now["previous"], now["champion"]],
        **({"beside": now["champion"], "stage": "trial"} if trial else {}),
    }  # fmt: skip
    return change(
        model, now, body, "deployment.promoted", {"champion": now["challenger"], "instead_of": now["champion"], "evidence": evidence}, ledger, actor
    )


def reject(model: str, reason: str, evidence: dict[str, Any], ledger: Ledger, clock: Clock, *, actor: str = "treadle") -> Record:
    """Throw the challenger out; the champion answers alone again."""
    now = _with_challenger(model, ledger)
    body = {**now.body, **ALONE, "since": iso(clock.now())}
    return change(model, now, body, "deployment.rejected", {"challenger": now["challenger"], "reason": reason, "evidence": evidence}, ledger, actor)


def settle(model: str, evidence: dict[str, Any], ledger: Ledger, *, actor: str = "treadle") -> Record:
    """The trial of the champion is over: the one before it no longer answers beside it. `since` stays: it is the same champion."""
    now = required(model, ledger)
    if now["stage"] != "trial":
        raise Conflict(f"No trial of {model!r} is under way.")
    body = {**now.body, **ALONE}
    return change(model, now, body, "deployment.settled", {"champion": now["champion"], "beside": now["beside"], "evidence": evidence}, ledger, actor)


def set_rules(model: str, rules: Mapping[str, Any], ledger: Ledger, *, actor: str) -> Record:
    """Record what the project declares of the rollout now, if that changed."""
    now = required(model, ledger)
    if now.get("rules", {}) == dict(rules):
        return now
    return change(model, now, {**now.body, "rules": dict(rules)}, "deployment.rules", {"rules": dict(rules)}, ledger, actor)


def change(
    model: str, before: Record | None, body: dict[str, Any], event: str, says: dict[str, Any], ledger: Ledger, actor: str, *, out: str = "retired"
) -> Record:  # fmt: skip
    """Write the deployment record, its event and the versions' statuses, all or none. Raises Conflict when it is not `before` any more.

    Args:
        out: the status of a champion that no longer is.
    """
    ref = Ref(versions.DEPLOYMENT, model)
    with ledger.transaction():
        record = ledger.put(versions.DEPLOYMENT, model, body, expect=before.version if before else 0)
        ledger.link(Link(ref, "answers_with", Ref(versions.KIND, versions.version_id(model, body["champion"]))))
        ledger.append(event, ref, says, actor=actor)
        _statuses(model, before, body, ledger, out)
    return record


def _statuses(model: str, before: Record | None, body: dict[str, Any], ledger: Ledger, out: str) -> None:
    """A version's status follows the deployment, in the same transaction."""

    def mark(number: int | None, status: str) -> None:
        if number is not None:
            version = versions.get(model, number, ledger)
            if version["status"] != status:
                ledger.put(versions.KIND, version.id, {**version.body, "status": status}, expect=version.version)

    if before is not None and before["champion"] != body["champion"]:
        mark(before["champion"], out)
    if before is not None and before["challenger"] is not None and body["challenger"] is None and body["champion"] != before["challenger"]:
        mark(before["challenger"], "rejected")
    mark(body["champion"], "champion")
    mark(body["challenger"], "challenger")


def required(model: str, ledger: Ledger) -> Record:
    """The model's deployment record. Raises NotFound before the first one."""
    now = deployment(model, ledger)
    if now is None:
        raise NotFound(f"Model {model!r} is not deployed.", hint="Run: treadle deploy")
    return now


def _with_challenger(model: str, ledger: Ledger) -> Record:
    now = required(model, ledger)
    if now["challenger"] is None:
        raise Conflict(f"Model {model!r} has no challenger.")
    return now


def eligible(model: str, number: int, ledger: Ledger, clock: Clock) -> None:
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
