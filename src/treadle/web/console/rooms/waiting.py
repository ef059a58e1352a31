"""What waits for a person: approvals of versions, steps of pipelines, retrainings, hand-overs and requests for change. One list, for who may answer."""

from __future__ import annotations

from typing import Any

from treadle.live import retraining
from treadle.pipelines import approvals as steps
from treadle.review import approvals, notes, owners
from treadle.review.subjects import read_ref, titled
from treadle.web.console.operation import Asked


def waiting(asked: Asked) -> list[dict[str, Any]]:
    """The newest first: a sentence, where to answer it, who asked and when, and the permission that an answer takes."""
    ws, me = asked.ws, asked.person
    ledger, names = ws.ledger, [me.name, *me.groups]
    found = []
    for version in approvals.versions_waiting(list(ws.project.models), ledger, ws.clock.now()):
        if approvals.may_not(version, me.name, ledger):
            continue  # one's own
        request = approvals.request_of(version, ledger)
        link = f"/models/{version['model']}/versions/{version['number']}"
        by, at = (request["by"], request["at"]) if request is not None else ("the gates", version.created_at)
        found.append(_thing(f"Version {version['number']} of {version['model']} waits for approval.", link, by, at, "models.approve"))
    for step in steps.waiting(ledger):
        found.append(_thing(f"Run {step['run']} asks: {step['question']}", f"/runs/{step['run']}", "the pipeline", step.created_at, "runs.start"))
    for reaction in ledger.find(retraining.KIND, {"status": "waiting"}):
        sentence = f"A retraining of {reaction['model']} waits for a yes or no."
        found.append(_thing(sentence, f"/alarms#reaction-{reaction.id}", "the watch", reaction.created_at, "alarms.answer"))
    for record in owners.offers(ledger, to=names):
        offer = record["offer"]
        found.append(_thing(f"{offer['by']} offers you {titled(read_ref(record.id))}.", "/notes", offer["by"], offer["at"], "notes.write"))
    for note in notes.open_notes(ledger, to=names):
        found.append(
            _thing(f"{note['by']} asks about {titled(notes.about(note))}: {note['text'][:120]}", f"/notes/{note.id}", note["by"], note.created_at, "notes.write")
        )
    return sorted((f for f in found if me.may(f["permission"])), key=lambda f: f["at"], reverse=True)


def _thing(sentence: str, link: str, by: str, at: str, permission: str) -> dict[str, Any]:
    return {"sentence": sentence, "link": link, "by": by, "at": at, "permission": permission}
