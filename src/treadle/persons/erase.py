"""Forget a person: out of every store, physically, with a proof that names nobody; and the models that learned from the person are named.

An erasure is a record of kind `erasure`, begun before anything is changed: from then on the person's rows are left out when a source is read.
It holds a keyed hash of the id, never the id. Killed at any point it is finished by the same command. What it does, in this order:

1. `models`   mark the model versions that were trained on rows of the person
2. `online`   remove the person's values from the online store
3. `answers`  remove predictions about the person from the log, moved or not, and the person's rows from tables of answers
4. `results`  drop stored step results that were made from the data, and whatever else in the blobs holds the person
5. `texts`    black out the person in logs, in what runs said, in files of the home
6. `tables`   rewrite every version of the data sets, and what was set aside
7. `scrub`    make the databases forget what was replaced
8. `verify`   search the bytes of every store; what is found is dealt with once more, and what stays is said
"""

from __future__ import annotations

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.core.errors import NotFound, TreadleError, UsageError
from treadle.core.ids import new_id
from treadle.core.records import Record, Ref
from treadle.data import suppressed
from treadle.data.suppressed import KIND
from treadle.governance.erasure import Plan
from treadle.persons.erasing import Erasing, Say, found_in
from treadle.persons.erasing import look as look


def unfinished(ws: Workspace, subject: str) -> Record | None:
    """The erasure of this person that was begun and not finished, if there is one."""
    return next((r for r in _of(ws, subject) if r["status"] != "done"), None)


def finished(ws: Workspace, subject: str) -> list[Record]:
    """The finished erasures of this person, oldest first."""
    return [r for r in _of(ws, subject) if r["status"] == "done"]


def erase(
    ws: Workspace, subject: str, *, request: str = "", reason: str = "", plan: Plan | None = None, wait: bool = True, say: Say = lambda line: None
) -> Record:
    """Do it, or finish what was begun. Returns the record; its `verification` says whether anything is left.

    Args:
        request: which request it answers, for example a ticket's number; reason: why. Neither may name the person: both are kept.
        plan: what `look` gave.
        wait: for runs that are under way; else Conflict.
    Raises: UsageError, NotFound when nothing anywhere is about the person, Conflict, Unavailable when a database is held by others.
    """
    subject = suppressed.checked(subject)
    plan = plan or look(ws, subject)
    for name, text in (("--request", request), ("--reason", reason)):
        if plan.marks.in_text(text):
            raise UsageError(f"{name} names the person, and it is kept as part of the proof.", hint="Give a number or a sentence that names nobody.")
    record = unfinished(ws, subject)
    if record is None:
        if not plan.anything:
            said = "; ".join(f"{name}: {', '.join(columns)}" for name, columns in plan.columns.items())
            raise NotFound(
                "No version of any data set holds this person, and no prediction is about them.",
                hint=f"Looked in the columns that name persons ({said})." if said else "No data set declares subject='COLUMN'.",
            )
        record = _begin(ws, subject, plan, request, reason)
    return Erasing(ws, record, plan, wait, say).go()


def _of(ws: Workspace, subject: str) -> list[Record]:
    known = ws.ledger.find(KIND)
    if not known:
        return []
    digest = suppressed.subject_digest(suppressed.known(ws.ledger, ws.settings.home).key, suppressed.checked(subject))
    return [r for r in known if r["subject"] == digest]


def _begin(ws: Workspace, subject: str, plan: Plan, request: str, reason: str) -> Record:
    key = suppressed.own_key(ws.settings.home, ws.ledger)
    body = {
        "project": ws.project.name, "status": "under way", "subject": suppressed.subject_digest(key, subject), "key": suppressed.key_name(key),
        "columns": {name: list(columns) for name, columns in plan.columns.items()},
        "request": request, "reason": reason, "by": ws.actor, "begun": iso(ws.clock.now()), "ended": "", "stages": [], "counts": {},
        "deleting": [], "verification": {},
    }  # fmt: skip
    id = new_id(KIND)
    body |= found_in(key, id, plan)
    with ws.ledger.transaction():
        record = ws.ledger.put(KIND, id, body, expect=0)
        ws.ledger.append("erasure.begun", Ref(KIND, id), {"request": request, "datasets": body["datasets"]}, actor=ws.actor)
    return record


def trouble(record: Record) -> TreadleError | None:
    """The error to end with when something is left. None when nothing is."""
    left = record["verification"].get("remaining", [])
    if not left:
        return None
    return TreadleError(
        f"{len(left)} place{'s hold' if len(left) != 1 else ' holds'} the person still: {'; '.join(left[:5])}.",
        hint="Retrain and retire what is named, then run the same command again.",
    )
