"""What a version still needs before it may answer, beside the verdict: approvals by other people; and waivers of single gates, with person, reason
and end.

The evidence itself is judged when a version is made. Here it is asked, each time a version is to answer, whether all its gates passed or are
waived at this moment, and whether enough people said yes. Whether there is any signal at all cannot be waived.
"""

from __future__ import annotations

from datetime import datetime

from treadle.core.clock import Clock, iso, parse_time
from treadle.core.errors import Conflict, Refused, UsageError
from treadle.core.records import Link, Record, Ref
from treadle.ports.ledger import Ledger

WAIVER, APPROVAL, VERSION = "waiver", "version_approval", "model_version"
NEVER = ("signal", "beats_baseline", "approved")


def missing(version: Record, ledger: Ledger, now: datetime) -> list[str]:
    """Why a version may not answer now, one sentence a reason; empty when it may."""
    found = []
    verdict = version["verdict"]
    findings = verdict.get("findings", [])
    failed = [f for f in findings if not f["passed"]]
    if version["status"] == "refused" and not failed:
        found += list(verdict["reasons"]) or ["its evidence was not enough"]
    for finding in failed:
        if in_force(version, finding["gate"], ledger, now) is None:
            found.append(finding["reason"])
    for finding in findings:
        if finding.get("waits"):
            wanted = int(finding["evidence"]["people"])
            given = approvals(version, ledger)
            rejected = [a for a in given if a["answer"] == "rejected"]
            if rejected:
                found.append(f"{rejected[-1]['by']} rejected it" + (f": {rejected[-1]['reason']}" if rejected[-1]["reason"] else ""))
            elif len(given) < wanted:
                found.append(f"it waits for {_people(wanted - len(given))} to approve it (treadle approve {version.id})")
    return found


def _people(count: int) -> str:
    return "one person more" if count == 1 else f"{count} people more"


def approvals(version: Record, ledger: Ledger) -> list[Record]:
    """What people said of a version, oldest first; the one whose run made it does not count."""
    return [a for a in ledger.find(APPROVAL, {"version": version.id}) if a["by"] != version.get("by", "")]


def approve(version: Record, ledger: Ledger, clock: Clock, *, person: str, reason: str = "", reject: bool = False) -> Record:
    """Say yes or no to a version. Raises Refused when it is one's own; Conflict when one has said so before, or nobody asks."""
    if not any(f.get("waits") for f in version["verdict"].get("findings", [])):
        raise Conflict(f"Version {version.id} asks for no approval.", hint="A model asks for it with the gate tr.approved().")
    if person == version.get("by", ""):
        raise Refused(f"{person} made {version.id}; another person must approve it.", hint="Whoever acts is the setting `actor`, or the login name.")
    said = "rejected" if reject else "approved"
    with ledger.transaction():
        body = {"version": version.id, "by": person, "answer": said, "reason": reason, "at": iso(clock.now())}
        record = ledger.put(APPROVAL, f"{version.id}:{person}", body, expect=0)
        ledger.link(Link(Ref(APPROVAL, record.id), "is_about", Ref(VERSION, version.id)))
        ledger.append(f"version.{said}_by", Ref(VERSION, version.id), {"by": person, "reason": reason}, actor=person)
    return record


def waive(
    model: str, gate: str, ledger: Ledger, clock: Clock, *, person: str, reason: str, until: datetime, number: int | None = None
) -> Record:  # fmt: skip
    """Let versions of a model (or one version) answer although a gate does not pass, until a moment.

    Raises: Refused for a gate that cannot be waived; UsageError without a reason or an end in the future.
    """
    if gate in NEVER:
        raise Refused(f"The gate {gate!r} cannot be waived.", hint="Without evidence of signal, or without a second person, nothing is promoted.")
    if not reason.strip():
        raise UsageError("A waiver needs a reason.", hint='Say it with: --reason "..."')
    if until <= clock.now():
        raise UsageError(f"The waiver would end on {iso(until)[:16]}, which is past.", hint="Give a later --until.")
    body = {"model": model, "gate": gate, "number": number, "by": person, "reason": reason.strip(), "until": iso(until), "at": iso(clock.now())}
    with ledger.transaction():
        record = ledger.put(WAIVER, f"{model}:{gate}:{number or 'all'}:{iso(clock.now())}", body, expect=0)
        ledger.append("gate.waived", Ref(WAIVER, record.id), body, actor=person)
    return record


def waivers(model: str, ledger: Ledger) -> list[Record]:
    """Every waiver of a model, oldest first, those that have ended too."""
    return ledger.find(WAIVER, {"model": model})


def in_force(version: Record, gate: str, ledger: Ledger, now: datetime) -> Record | None:
    """The waiver under which a gate does not count for a version now."""
    if gate in NEVER:
        return None
    for record in reversed(ledger.find(WAIVER, {"model": version["model"], "gate": gate})):
        if record["number"] in (None, version["number"]) and parse_time(record["until"]) > now:
            return record
    return None
