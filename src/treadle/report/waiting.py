"""What waits for a person, all of it in one list: approvals of versions and of steps of runs, retrained versions, hand-overs, questions, requests."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from treadle.assemble import Workspace
from treadle.core.names import folded
from treadle.core.records import Record, Ref
from treadle.live import retraining
from treadle.pipelines import approvals as steps
from treadle.pipelines.run import RUN
from treadle.registry import conditions, versions
from treadle.review import approvals, notes, owners, subjects

PERMISSIONS = {"version": "models.approve", "step": "models.approve", "reaction": "alarms.answer", "handover": "", "question": "", "change": ""}


@dataclass(frozen=True)
class Waits:
    """One thing that waits for an answer.

    Args:
        kind: 'version', 'step', 'reaction', 'handover', 'question' or 'change'.
        about: what it is about: a version, the run of a step, a reaction, the thing that is handed over.
        id: what an answer names: the version, the step (its run is `about`), the reaction, the note.
        to: persons and groups it is asked of; whoever may answer if empty.
        permission: what one needs to answer; none beyond being asked if empty.
        not_by: folded name to why that person cannot answer it.
    """

    kind: str
    about: Ref
    id: str
    title: str
    text: str
    since: str
    by: str = ""
    to: tuple[str, ...] = ()
    permission: str = ""
    not_by: Mapping[str, str] = field(default_factory=dict)

    def asks(self, person: str, groups: Collection[str] = ()) -> bool:
        """Whether it waits for this person, permissions aside."""
        names = {folded(name) for name in (person, *groups)}
        return folded(person) not in self.not_by and (not self.to or bool(names & {folded(name) for name in self.to}))


def waiting(ws: Workspace, *, person: str = "", groups: Collection[str] = ()) -> list[Waits]:
    """What waits, the oldest first.

    Args:
        person: only what waits for this person; what they may do is for the caller to compare with `permission`.
        groups: those the person belongs to.
    """
    found = [*_versions(ws), *_steps(ws), *_reactions(ws), *_handovers(ws), *_notes(ws)]
    if person:
        found = [one for one in found if one.asks(person, groups)]
    return sorted(found, key=lambda one: (one.since, one.id))


def _versions(ws: Workspace) -> list[Waits]:
    found = []
    for version in approvals.versions_waiting(list(ws.project.models), ws.ledger, ws.clock.now()):
        asked, mine = approvals.request_of(version, ws.ledger), conditions.own(version, ws.ledger)
        said = {folded(a["by"]): f"{a['by']} {a['answer']} it" for a in conditions.approvals(version, ws.ledger) if not _ended(a, ws)}
        open_ = asked is not None and asked["status"] == "open"
        text = str(asked["text"]) if asked is not None and open_ else ""
        left = conditions.waits(version, ws.ledger, ws.clock.now())
        found.append(Waits(
            "version", Ref(versions.KIND, version.id), version.id, f"Approve {version.id}: {left} {'person' if left == 1 else 'people'} more",
            text, str(asked["at"]) if asked is not None and open_ else version.created_at,
            str(asked["by"]) if asked is not None and open_ else str(version.get("by", "")),
            tuple(asked["to"]) if asked is not None and open_ else (), PERMISSIONS["version"], {**said, **mine},
        ))  # fmt: skip
    return found


def _ended(approval: Record, ws: Workspace) -> bool:
    return approval["answer"] == "approved" and conditions.ended(approval, ws.clock.now())


def _steps(ws: Workspace) -> list[Waits]:
    found = []
    for asked in steps.waiting(ws.ledger):
        run = ws.ledger.get(RUN, asked["run"])
        found.append(Waits(
            "step", Ref(RUN, asked["run"]), asked["step"], f"Step {asked['step']} of {asked['run']} asks", str(asked["question"]), asked.created_at,
            str(run.get("by", "")) if run is not None else "", (), PERMISSIONS["step"],
        ))  # fmt: skip
    return found


def _reactions(ws: Workspace) -> list[Waits]:
    return [
        Waits(
            "reaction", Ref(retraining.KIND, r.id), r.id, f"Version {r['version']} of {r['model']} changes more than was agreed", str(r["said"]),
            r.updated_at, "", (), PERMISSIONS["reaction"],
        )
        for r in ws.ledger.find(retraining.KIND, {"status": "asks", "answer": None})
    ]  # fmt: skip


def _handovers(ws: Workspace) -> list[Waits]:
    found = []
    for record in owners.offers(ws.ledger):
        offer, ref = record["offer"], owners.about(record)
        found.append(Waits(
            "handover", ref, offer["note"], f"Take over {subjects.titled(ref)}?", str(offer["text"]), offer["at"], offer["by"], (offer["to"],)
        ))  # fmt: skip
    return found


def _notes(ws: Workspace) -> list[Waits]:
    return [
        Waits(
            note["kind"], notes.about(note), note.id, ("Question" if note["kind"] == "question" else "Request for change") +
            f" about {subjects.titled(notes.about(note))}", str(note["text"]), note["at"], note["by"], tuple(note["to"]),
        )
        for note in notes.open_notes(ws.ledger) if note["kind"] != "handover"
    ]  # fmt: skip
