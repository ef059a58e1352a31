"""Approval of versions: asking for it, and answering with the evidence in view. What counts as an approval, and whose, is `registry.conditions`'.

A request is one record a version. Who asked, who started the run and who made the version never answer it themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, UsageError
from treadle.core.names import folded
from treadle.core.records import Record, Ref
from treadle.ports.ledger import Ledger
from treadle.registry import conditions, versions
from treadle.review import notes, notices, subjects

KIND = conditions.REQUEST
LOOKED_AT = 5  # newest versions of a model that may wait


def ask(version: Record, ledger: Ledger, clock: Clock, *, by: str, to: Iterable[str] = (), text: str = "") -> Record:
    """Ask for a version to be approved; those it is asked of are told. From then on its asker cannot approve it.

    Args:
        to: persons or groups; anybody who may approve if empty.
    Raises: Conflict when it waits for no approval, or somebody asks already.
    """
    if not conditions.waits(version, ledger, clock.now()):
        raise Conflict(f"Version {version.id} waits for no approval.", hint="A model asks for it with the gate tr.approved().")
    if len(text) > notes.LONGEST:
        raise UsageError(f"The text has {len(text):,} characters; {notes.LONGEST:,} are allowed.")
    ref, names = Ref(versions.KIND, version.id), [subjects.check_name(name.removeprefix("@")) for name in to]
    before = request_of(version, ledger)
    if before is not None and before["status"] == "open":
        raise Conflict(f"{before['by']} asks for {version.id} to be approved already.", hint="See: treadle approve")
    asked = list(before["askers"]) if before is not None else []
    body = {
        "version": version.id, "model": version["model"], "by": by, "to": names, "text": text.strip(), "at": iso(clock.now()), "status": "open",
        "askers": [*asked, *([by] if folded(by) not in map(folded, asked) else [])],
    }  # fmt: skip
    with ledger.transaction():
        try:
            made = ledger.put(KIND, version.id, body, expect=before.version if before is not None else 0)
        except Conflict:
            raise Conflict(f"Somebody else asked for {version.id} to be approved first.", hint="See: treadle approve") from None
        ledger.append("approval.asked", ref, {"to": names}, actor=by)
        said = f"{by} asks you to approve {version.id}" + (f": {text.strip()}" if text.strip() else "")
        notices.tell(ref, names, "approval", said, ledger, clock, by=by, because=f"{KIND}:{version.id}:{made.version}")
    return made


def withdraw(version: Record, ledger: Ledger, clock: Clock, *, by: str) -> Record:
    """Ask no longer. Whoever asked cannot approve the version even so. Raises Conflict when nobody asks, or somebody else does."""
    asked = request_of(version, ledger)
    if asked is None or asked["status"] != "open" or folded(asked["by"]) != folded(by):
        raise Conflict(f"{by} does not ask for {version.id} to be approved.", hint="See: treadle approve")
    with ledger.transaction():
        changed = ledger.put(KIND, asked.id, {**asked.body, "status": "withdrawn"}, expect=asked.version)
        ledger.append("approval.withdrawn", Ref(versions.KIND, version.id), {}, actor=by)
        notices.take_back(f"{KIND}:{version.id}:{asked.version}", ledger)
    return changed


def answer(
    version: Record, ledger: Ledger, clock: Clock, *, by: str, approve: bool, reason: str = "", evidence: str = "",
    lasts: timedelta | None = None,
) -> Record:  # fmt: skip
    """Say yes or no to a version; whoever asked is told. This is what the command line and the console call.

    Args:
        evidence: `evidence_of` the version as it was shown; what has changed since is not approved unseen.
        lasts: how long a yes counts for a version that does not answer yet; as long as the gate says if None.
    Raises: Refused when it is one's own; Conflict when one has said so before, nobody asks, or the evidence is another by now.
    """
    with ledger.transaction():
        asked = request_of(version, ledger)
        said = conditions.approve(version, ledger, clock, person=by, reason=reason, reject=not approve, evidence=evidence, lasts=lasts)
        if asked is not None and asked["status"] == "open" and not conditions.waits(version, ledger, clock.now()):
            ledger.put(KIND, asked.id, {**asked.body, "status": "answered"}, expect=asked.version)
        told = f"{by} {said['answer']} {version.id}" + (f": {reason.strip()}" if reason.strip() else "")
        others = {folded(name): name for name in ([*asked["askers"]] if asked is not None else []) + [str(version.get("by", ""))] if name}
        others.pop(folded(by), None)
        because = f"{conditions.APPROVAL}:{said.id}:{said.version}"
        notices.tell(Ref(versions.KIND, version.id), others.values(), "answer", told, ledger, clock, by=by, because=because)
    return said


def request_of(version: Record, ledger: Ledger) -> Record | None:
    """The last request for a version: 'by', 'to', 'text', 'at', 'status' ('open', 'answered', 'withdrawn'), 'askers'; None if nobody ever asked."""
    return ledger.get(KIND, version.id)


def evidence_of(version: Record) -> str:
    """A digest of all that a version's approval rests on: its package, evaluation and verdict."""
    return conditions.evidence_of(version)


def may_not(version: Record, person: str, ledger: Ledger) -> str:
    """Why a person cannot approve a version, whatever their role; empty if nothing speaks against it."""
    return conditions.own(version, ledger).get(folded(person), "")


def versions_waiting(models: Sequence[str], ledger: Ledger, now: datetime) -> list[Record]:
    """The newest versions of these models that wait for people, newest first; those that answer or were thrown out do not."""
    found = [
        version
        for model in models
        for version in ledger.find(versions.KIND, {"model": model, "status": "approved"}, newest_first=True, limit=LOOKED_AT)
        if conditions.waits(version, ledger, now)
    ]
    return sorted(found, key=lambda v: (v.created_at, v.id), reverse=True)
