"""The stations of a model's loop with their live figures, and the one thing of it that needs a person now.

Everything is asked in short questions of the record, whatever its length: the prediction log is counted, not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from treadle.assemble import Workspace
from treadle.core.clock import parse_time
from treadle.core.declare.model import Model
from treadle.core.records import Record
from treadle.data import versions as data_versions
from treadle.live import retraining
from treadle.live.deploy import ENDPOINT, missed, running_endpoint
from treadle.monitoring import alarms
from treadle.pipelines.run import RUN
from treadle.registry import promote, versions
from treadle.review import approvals
from treadle.web.console.counted import counts
from treadle.wheel.materialise import FRESHNESS

OLD = timedelta(days=2)  # data that nobody read again for so long are pointed out, not alarmed about
_RUNS = {"failed": "bad", "interrupted": "bad", "done": "good", "running": "look", "waiting": "look"}
Station = tuple[str, str, list[str], str]  # name, where it leads, two lines, tone


def standing(ws: Workspace, model: Model, now: datetime) -> dict[str, Any]:
    """How a model stands: what answers, its open alarms, its stations, and what needs a person."""
    known = ws.ledger.find(versions.KIND, {"model": model.name}, newest_first=True, limit=1)
    deployed = promote.deployment(model.name, ws.ledger)
    endpoint = ws.ledger.get(ENDPOINT, model.name)
    running = running_endpoint(ws, model.name) is not None
    opened = [a for a in ws.ledger.find(alarms.KIND, {"status": "open"}) if alarms.concerns(a, model)]
    answered, with_outcome = counts(ws, model.name)
    scope = f"{ws.project.name}.{model.name}"
    last = next(iter(ws.ledger.find(RUN, {"scope": scope}, newest_first=True, limit=1)), None)
    found: dict[str, Any] = {
        "name": model.name, "description": model.description, "champion": deployed["champion"] if deployed else None,
        "challenger": deployed["challenger"] if deployed else None, "stage": deployed["stage"] if deployed else "",
        "share": deployed["share"] if deployed else 0.0, "stopped": bool(deployed and deployed.get("stopped")),
        "versions": ws.ledger.count(versions.KIND, {"model": model.name}), "running": running,
        "url": endpoint["url"] if endpoint and running else "", "requests": answered, "outcomes": with_outcome,
        "alarms": [
            {"id": a.id, "about": a["model"] or alarms.about(a), **{k: a[k] for k in ("kind", "severity", "sentence", "raised")}} for a in opened
        ],
        "turns": ws.ledger.count(RUN, {"scope": scope}),
    }  # fmt: skip
    newest = known[0] if known else None
    asks = approvals.versions_waiting([model.name], ws.ledger, now)
    stations = [
        _data(ws, model, opened, now), _features(ws, model, newest), _training(last, now), _evidence(model, newest), _registry(found, asks),
        _deployment(model, found), _monitoring(found), _feedback(model, found),
    ]  # fmt: skip
    found["stations"] = [{"name": name, "href": href, "lines": lines, "tone": tone} for name, href, lines, tone in stations]
    found["needs"] = _needs(ws, found, newest, last, asks, [str(sentence) for sentence in missed(endpoint).values()] if endpoint else [])
    return found


def _data(ws: Workspace, model: Model, opened: Sequence[Record], now: datetime) -> Station:
    sources = {model.rows.name, *(view.source.name for view in model.views)}
    read = [v for v in (data_versions.newest(name, ws.ledger) for name in sources) if v is not None]
    oldest = min((v.taken for v in read if v.taken), default="")
    bad = any(not a["model"] or a["kind"] == "data_quality" for a in opened)
    tone = "bad" if bad else "plain" if not read else "look" if oldest and now - parse_time(oldest) > OLD else "good"
    return "Data", "/data", [f"{sum(v.rows for v in read):,} rows" if read else "not read yet", f"read {ago(oldest, now)}" if oldest else ""], tone


def _features(ws: Workspace, model: Model, newest: Record | None) -> Station:
    states = [ws.ledger.get(FRESHNESS, view.name) for view in model.views]
    stale = sum(bool(s is not None and s["stale"]) for s in states)
    says = f"{stale} stale" if stale else "none stale" if model.views else "from the row itself"
    return "Features", "/data", [counted(len(model.views), "view"), says], "bad" if stale else "good" if newest is not None else "plain"


def _training(last: Record | None, now: datetime) -> Station:
    if last is None:
        return "Training", "/runs", ["never ran", ""], "plain"
    return "Training", f"/runs/{last.id}", [str(last["status"]), ago(last["started"], now)], _RUNS.get(last["status"], "plain")


def _evidence(model: Model, newest: Record | None) -> Station:
    if newest is None:
        return "Evidence", "/models", ["none yet", ""], "plain"
    passed = bool(newest["verdict"]["passed"])
    link = f"/models/{model.name}/versions/{newest['number']}"
    return "Evidence", link, [f"version {newest['number']}", "passed its gates" if passed else "was refused"], "good" if passed else "bad"


def _registry(found: Mapping[str, Any], asks: Sequence[Record]) -> Station:
    waits = "1 waits for approval" if len(asks) == 1 else f"{len(asks)} wait for approval" if asks else "nothing waits"
    tone = "look" if asks else "good" if found["versions"] else "plain"
    return "Registry", f"/models/{found['name']}", [counted(found["versions"], "version"), waits], tone


def _deployment(model: Model, found: Mapping[str, Any]) -> Station:
    link = f"/deployments/{model.name}"
    if found["stopped"]:
        return "Deployment", link, ["stopped", "nothing answers"], "bad"
    if not found["champion"]:
        return "Deployment", link, ["not in production", ""], "plain"
    beside = "no challenger"
    if found["challenger"]:
        heard = found["stage"] in promote.HEARD
        beside = f"version {found['challenger']}: {found['share']:.0%}" if heard else f"version {found['challenger']} in shadow"
    answers = f"version {found['champion']} answers" if found["running"] else f"version {found['champion']}, not up"
    return "Deployment", link, [answers, beside], "good" if found["running"] else "look"


def _monitoring(found: Mapping[str, Any]) -> Station:
    opened = found["alarms"]
    high = any(a["severity"] == "high" for a in opened)
    tone = "bad" if high else "look" if opened else "good" if found["champion"] else "plain"
    return "Monitoring", "/alarms", [counted(len(opened), "open alarm") if opened else "no open alarm", ""], tone


def _feedback(model: Model, found: Mapping[str, Any]) -> Station:
    lines = [counted(found["requests"], "request"), counted(found["outcomes"], "outcome")]
    return "Feedback", f"/models/{model.name}#production", lines, "good" if found["outcomes"] else "plain"


def _needs(
    ws: Workspace, m: Mapping[str, Any], newest: Record | None, last: Record | None, asks: Sequence[Record], out_of_date: Sequence[str]
) -> dict[str, str] | None:  # fmt: skip
    """The one thing of this model that needs a person now, the gravest first: a sentence, where to go, what it takes."""
    name = m["name"]
    if m["stopped"]:
        return thing(f"{name} is stopped: nothing answers.", f"/deployments/{name}", "deployments.change", "bad")
    high = next((a for a in m["alarms"] if a["severity"] == "high"), None)
    if high is not None:
        return thing(f"{high['about']}: {high['sentence']}", f"/alarms/{high['id']}", "alarms.answer", "bad")
    waits = ws.ledger.find(retraining.KIND, {"model": name, "status": "asks"}, newest_first=True, limit=1)
    if waits:
        return thing(f"{name}: a retraining waits for a yes or no.", f"/alarms#reaction-{waits[0].id}", "alarms.answer", "look")
    if asks:
        number = asks[0]["number"]
        return thing(f"{name}: version {number} waits for approval.", f"/models/{name}/versions/{number}", "models.approve", "look")
    if last is not None and last["status"] in ("failed", "interrupted"):
        how = "failed" if last["status"] == "failed" else "was interrupted"
        return thing(f"{name}: the last run {how}.", f"/runs/{last.id}", "runs.start", "bad")
    if m["alarms"]:
        return thing(f"{m['alarms'][0]['about']}: {m['alarms'][0]['sentence']}", f"/alarms/{m['alarms'][0]['id']}", "alarms.answer", "look")
    if out_of_date:
        return thing(f"{name}: {out_of_date[0]}", f"/deployments/{name}", "deployments.change", "look")
    if newest is None:
        return thing(f"{name} was never trained.", "/runs", "runs.start", "look")
    if m["champion"] is None and newest["status"] == "approved":
        sentence = f"{name}: version {newest['number']} passed its gates and is not deployed."
        return thing(sentence, f"/deployments/{name}", "deployments.change", "look")
    return None


def thing(sentence: str, link: str, permission: str, tone: str) -> dict[str, str]:
    """Something to act on."""
    return {"sentence": sentence, "link": link, "permission": permission, "tone": tone}


def ago(text: str, now: datetime) -> str:
    """'2 hours ago'"""
    seconds = max(0.0, (now - parse_time(text)).total_seconds())
    for size, noun in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{counted(int(seconds // size), noun)} ago"
    return "just now"


def counted(number: int, noun: str) -> str:
    """'1 run', '2 runs'"""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
