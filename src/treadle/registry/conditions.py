"""What a version still needs before it may answer, beside the verdict: approvals by other people, which may end; and waivers of single gates, with
person, reason and end.

The evidence itself is judged when a version is made. Here it is asked, each time a version is to answer, whether all its gates passed or are
waived at this moment, and whether enough people said yes. Whether there is any signal at all cannot be waived.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from treadle.core.canonical import digest
from treadle.core.clock import Clock, iso, parse_time
from treadle.core.errors import Conflict, Refused, UsageError
from treadle.core.names import folded
from treadle.core.records import Link, Record, Ref
from treadle.ports.ledger import Ledger

WAIVER, APPROVAL, VERSION, REQUEST, RUN = "waiver", "version_approval", "model_version", "approval_request", "run"
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
    asked = _asked(version)
    if asked is not None:
        given = approvals(version, ledger)
        rejected = [a for a in given if a["answer"] == "rejected"]
        left = _left(version, given, now)
        if rejected:
            found.append(f"{rejected[-1]['by']} rejected it" + (f": {rejected[-1]['reason']}" if rejected[-1]["reason"] else ""))
        elif left:
            found.append(f"it waits for {_people(left)} to approve it (treadle approve {version.id})")
    return found


def waits(version: Record, ledger: Ledger, now: datetime) -> int:
    """How many people more must approve a version; 0 also when somebody rejected it."""
    if _asked(version) is None:
        return 0
    given = approvals(version, ledger)
    return 0 if any(a["answer"] == "rejected" for a in given) else _left(version, given, now)


def _asked(version: Record) -> dict[str, Any] | None:
    """What the gate `approved` wants: `people`, and seconds that an approval `lasts` if it ends."""
    return next((dict(f["evidence"]) for f in version["verdict"].get("findings", []) if f.get("waits")), None)


def _left(version: Record, given: list[Record], now: datetime) -> int:
    asked = _asked(version)
    # What has answered once was approved then: a rollback does not fail because time has passed.
    ends = version["status"] in ("approved", "refused")
    counted = [a for a in given if a["answer"] == "approved" and not (ends and ended(a, now))]
    return max(0, int(asked["people"]) - len(counted)) if asked is not None else 0


def ended(approval: Record, now: datetime) -> bool:
    """Whether an approval no longer counts for a version that does not answer yet."""
    until = approval.get("until", "")
    return bool(until) and parse_time(until) <= now


def _people(count: int) -> str:
    return "one person more" if count == 1 else f"{count} people more"


def approvals(version: Record, ledger: Ledger) -> list[Record]:
    """What people said of a version, oldest first, each once; the yes of one whose own it is does not count."""
    mine, found = own(version, ledger), {}
    for said in ledger.find(APPROVAL, {"version": version.id}):
        if folded(said["by"]) not in mine or (said["answer"] == "rejected" and folded(said["by"]) != folded(version.get("by", ""))):
            found[folded(said["by"])] = said
    return list(found.values())


def own(version: Record, ledger: Ledger) -> dict[str, str]:
    """Whose own a version is: folded name to why. Who made it, who started its run or went on with it, and who asked for the approval."""
    why: dict[str, str] = {}
    asked = ledger.get(REQUEST, version.id)
    for name in asked["askers"] if asked is not None else ():
        why[folded(name)] = f"{name} asked for {version.id} to be approved"
    run = ledger.get(RUN, version.get("run", "") or "-")
    for name in (run.get("by", ""), run["cause"].get("by", ""), *run.get("resumed_by", ())) if run is not None else ():
        why[folded(name)] = f"{name} started the run that made {version.id}"
    by = version.get("by", "")
    why[folded(by)] = f"{by} made {version.id}"
    why.pop("", None)
    return why


def evidence_of(version: Record) -> str:
    """A digest of what an approval rests on: package, evaluation and verdict."""
    return digest([version.id, version.get("package", {}).get("digest", ""), version.get("evaluation", {}), version["verdict"]])


def approve(
    version: Record, ledger: Ledger, clock: Clock, *, person: str, reason: str = "", reject: bool = False, evidence: str = "",
    lasts: timedelta | None = None,
) -> Record:  # fmt: skip
    """Say yes or no to a version.

    Args:
        evidence: `evidence_of` what was looked at; that of the version as it is if empty.
        lasts: how long a yes counts; no longer than the gate says.
    Raises: Refused when it is one's own; Conflict when one has said so before, nobody asks, or the evidence is another by now.
    """
    asked = _asked(version)
    if asked is None:
        raise Conflict(f"Version {version.id} asks for no approval.", hint="A model asks for it with the gate tr.approved().")
    why = own(version, ledger).get(folded(person))
    if why is not None:
        raise Refused(f"{why}; another person must approve it.", hint="Whoever acts is the setting `actor`, or the login name.")
    stands = evidence_of(version)
    if evidence and evidence != stands:
        raise Conflict(f"The evidence of {version.id} is not what you looked at.", hint="Look at it again, then decide.")
    if lasts is not None and lasts <= timedelta(0):
        raise UsageError("An approval that lasts no time approves nothing.", hint="Say how long it counts, such as 30d.")
    limits = [length for length in (lasts, timedelta(seconds=asked["lasts"]) if asked.get("lasts") else None) if length is not None]
    until = iso(clock.now() + min(limits)) if limits and not reject else ""
    said = "rejected" if reject else "approved"
    before = ledger.get(APPROVAL, f"{version.id}:{folded(person)}")
    if before is not None and not ended(before, clock.now()):
        raise Conflict(f"{person} {before['answer']} {version.id} before, on {before['at'][:16]}.", hint="Each person is asked once.")
    with ledger.transaction():
        body = {
            "version": version.id, "by": person, "answer": said, "reason": reason, "at": iso(clock.now()), "until": until, "evidence": stands
        }  # fmt: skip
        record = ledger.put(APPROVAL, f"{version.id}:{folded(person)}", body, expect=before.version if before is not None else 0)
        ledger.link(Link(Ref(APPROVAL, record.id), "is_about", Ref(VERSION, version.id)))
        told = {"by": person, "reason": reason, "evidence": stands, "until": until}
        ledger.append(f"version.{said}_by", Ref(VERSION, version.id), told, actor=person)
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
