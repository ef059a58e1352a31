"""What the console shows, as JSON values: one function a page."""

from __future__ import annotations

from typing import Any

from treadle.assemble import Workspace
from treadle.core.errors import NotFound
from treadle.core.masking import personal_columns
from treadle.core.records import Event, Record
from treadle.governance.lineage import story
from treadle.live.deploy import ENDPOINT, running_endpoint
from treadle.monitoring import alarms
from treadle.pipelines.run import RUN
from treadle.registry import versions
from treadle.report import audit, recorded
from treadle.report.answers import state
from treadle.report.evidence import evaluation_of
from treadle.report.graph import graph_of_run
from treadle.report.happened import seconds_of

LONGEST = 200  # runs, events or lines of a log on one page
_MADE = ("params", "split", "data", "run", "code", "environment", "format", "parity", "package", "owner", "goal", "as_of", "key")


def home(ws: Workspace) -> dict[str, Any]:
    """The project, its models, what is open, what answers, and the loop of the model that answers (else the first)."""
    loops = {name: recorded(ws, model) for name, model in ws.project.models.items()}
    rows = []
    for name, loop in loops.items():
        words, tone = state(loop)
        totals = loop["totals"]
        counts = {"versions": len(loop["versions"]), "requests": totals["requests"], "outcomes": totals["outcomes"]}
        rows.append({"name": name, "state": words, "tone": tone, **counts})
    shown = next((name for name, loop in loops.items() if loop["deployment"]), next(iter(loops), ""))
    return {
        "project": {"name": ws.project.name, "owner": ws.project.owner, "goal": ws.project.goal},
        "models": rows, "shown": shown, "loop": loops.get(shown),
        "alarms": [_alarm(a) for a in ws.ledger.find(alarms.KIND, {"status": "open"})],
        "endpoints": [_endpoint(ws, e) for e in ws.ledger.find(ENDPOINT)],
    }  # fmt: skip


def runs(ws: Workspace) -> list[dict[str, Any]]:
    """The newest runs."""
    return [_run(r) for r in ws.ledger.find(RUN, newest_first=True, limit=LONGEST)]


def run(ws: Workspace, id: str) -> dict[str, Any]:
    """One run with its graph: steps, times, reasons and the ends of logs. Raises NotFound."""
    found = _known(ws, RUN, id, "run")
    made = [{"id": v.id, "number": v["number"], "status": v["status"]} for v in ws.ledger.find(versions.KIND, {"run": id})]
    return {**_run(found), "error": found.get("error", ""), "versions": made, "graph": graph_of_run(ws, found, tail=LONGEST)}


def version(ws: Workspace, id: str) -> dict[str, Any]:
    """One version, with its evidence and how it was made. Raises NotFound."""
    found = _known(ws, versions.KIND, id, "version")
    top = ("model", "number", "status", "family", "trained_rows", "trained_to", "cause")
    made = {"registered": found.created_at, **{k: found[k] for k in _MADE}}
    search = ws.ledger.get("search", found["trials"]) if found.get("trials") else None
    tried = {k: search[k] for k in ("leaderboard", "explanation", "loss", "tried")} if search is not None else None
    return {"id": id, **{k: found[k] for k in top}, "evaluation": evaluation_of(found, found["status"]), "search": tried, "made": made}


def alarm(ws: Workspace, id: str) -> dict[str, Any]:
    """One alarm. Raises NotFound."""
    return _alarm(_known(ws, alarms.KIND, id, "alarm"))


def why(ws: Workspace, id: str) -> dict[str, Any]:
    """The story of one prediction. Raises NotFound."""
    return story(id, ws.predictions, ws.ledger, ws.blobs.get, personal_columns(ws.project.datasets.values()))


def events(ws: Workspace, upto: int | None = None) -> dict[str, Any]:
    """A page of the audit log, newest first, and whether the chain of hashes holds from the first entry to the last.

    Args:
        upto: the newest entry wanted; the last one if not given.
    """
    checked = audit.verify(ws.ledger)
    last = int(checked["entries"]) if upto is None else upto
    first = max(0, last - LONGEST)
    found = [e for e in ws.ledger.events_since(first, limit=LONGEST) if e.seq <= last]
    return {"audit": checked, "events": [_event(e) for e in reversed(found)], "earlier": first if first else None}


def _known(ws: Workspace, kind: str, id: str, noun: str) -> Record:
    found = ws.ledger.get(kind, id)
    if found is None:
        raise NotFound(f"There is no {noun} {id!r}.")
    return found


def _run(record: Record) -> dict[str, Any]:
    wanted = ("scope", "cause", "status", "started")
    return {"id": record.id, **{k: record[k] for k in wanted}, "ended": record.get("ended", ""), "seconds": seconds_of(record)}


def _alarm(record: Record) -> dict[str, Any]:
    return {"id": record.id, "resolved": "", **record.body}


def _endpoint(ws: Workspace, record: Record) -> dict[str, Any]:
    running = running_endpoint(ws, record.id) is not None
    status = "serving" if running else "stopped" if record["status"] == "stopped" else "gone"
    return {"model": record.id, "status": status, "url": record["url"], "since": record["since"]}


def _event(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq, "time": event.time, "kind": event.kind, "subject": str(event.subject), "actor": event.actor, "body": dict(event.body),
        "hash": event.hash, "previous": event.previous,
    }  # fmt: skip
