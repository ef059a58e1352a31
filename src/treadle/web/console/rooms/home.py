"""The first page: the loop of each model as a wheel with live figures, and the one thing that needs a person now.

Everything is asked in short questions of the record, whatever its length: the prediction log is counted, not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from treadle.assemble import Workspace
from treadle.core.clock import iso, parse_time
from treadle.core.declare.model import Model
from treadle.data import versions as data_versions
from treadle.live import retraining
from treadle.live.deploy import ENDPOINT, missed, running_endpoint
from treadle.monitoring import alarms
from treadle.pipelines.run import RUN
from treadle.registry import promote, versions
from treadle.report.wheel import drawn
from treadle.review import approvals
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.rooms.waiting import waiting
from treadle.wheel.materialise import FRESHNESS

OLD = timedelta(days=2)  # data that nobody read again for so long are pointed out, not alarmed about
_ORDER = {"bad": 0, "look": 1, "good": 2, "plain": 3}


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Which model's wheel is drawn; that of the model that answers (else the first) if empty."""

    model: str = ""


def home(asked: Asked) -> dict[str, Any]:
    """How the project stands: its models, each with its stations and what needs a person, the wheel of one, and what waits for whoever asks."""
    ws = asked.ws
    now = ws.clock.now()
    models = [_model(ws, model, now) for model in ws.project.models.values()]
    named = asked.query.model if asked.query is not None else ""
    shown = next((m for m in models if m["name"] == named), None) or next((m for m in models if m["champion"]), models[0] if models else None)
    waits = waiting(asked)
    return {
        "project": {"name": ws.project.name, "owner": ws.project.owner, "goal": ws.project.goal, "description": ws.project.description},
        "models": models, "shown": shown, "waiting": waits, "pipelines": list(ws.project.pipelines), "made": iso(now),
        "needs": _first(models, waits, asked), "month": _month(ws, now),
    }  # fmt: skip


def _model(ws: Workspace, model: Model, now: datetime) -> dict[str, Any]:
    known = versions.all_versions(model.name, ws.ledger)
    deployed = promote.deployment(model.name, ws.ledger)
    endpoint = ws.ledger.get(ENDPOINT, model.name)
    running = running_endpoint(ws, model.name) is not None
    opened = [a for a in ws.ledger.find(alarms.KIND, {"status": "open"}) if alarms.concerns(a, model)]
    answered, with_outcome = ws.predictions.count(model.name)
    scope = f"{ws.project.name}.{model.name}"
    last = next(iter(ws.ledger.find(RUN, {"scope": scope}, newest_first=True, limit=1)), None)
    found = {
        "name": model.name, "description": model.description, "champion": deployed["champion"] if deployed else None,
        "challenger": deployed["challenger"] if deployed else None, "stage": deployed["stage"] if deployed else "",
        "share": deployed["share"] if deployed else 0.0, "stopped": bool(deployed and deployed.get("stopped")), "versions": len(known),
        "running": running, "url": endpoint["url"] if endpoint and running else "", "requests": answered, "outcomes": with_outcome,
        "alarms": [{"id": a.id, "kind": a["kind"], "severity": a["severity"], "sentence": a["sentence"], "raised": a["raised"]} for a in opened],
        "turns": ws.ledger.count(RUN, {"scope": scope}),
    }  # fmt: skip
    found["stations"] = _stations(ws, model, found, known, last, opened, now)
    found["needs"] = _needs(ws, model, found, known, last, missed(endpoint) if endpoint else {})
    return found


def _stations(ws: Workspace, model: Model, m: Mapping[str, Any], known: Any, last: Any, opened: Any, now: datetime) -> list[dict[str, Any]]:
    sets = {
        d.name: data_versions.newest(d.name, ws.ledger)
        for d in {model.rows.name: model.rows, **{v.source.name: v.source for v in model.views}}.values()
    }
    read = [v for v in sets.values() if v is not None]
    oldest = min((v.taken for v in read if v.taken), default="")
    old = bool(oldest) and now - parse_time(oldest) > OLD
    stale = [v.name for v in model.views if (s := ws.ledger.get(FRESHNESS, v.name)) is not None and s["stale"]]
    bad_data = [a for a in opened if a["kind"] in ("data_quality", "contract", "stale_features") or not a["model"]]
    newest = known[-1] if known else None
    passed = newest is not None and newest["verdict"]["passed"]
    split = f"{m['share']:.0%} to version {m['challenger']}" if m["challenger"] and m["stage"] in promote.HEARD else (
        f"version {m['challenger']} in shadow" if m["challenger"] else "no challenger")  # fmt: skip
    asks = approvals.versions_waiting([model.name], ws.ledger, now)
    rows = [
        ("Data", "/data", [f"{sum(v.rows for v in read):,} rows" if read else "not read yet", f"read {_ago(oldest, now)}" if oldest else ""],
         "bad" if bad_data else "look" if old else "good" if read else "plain"),
        ("Features", "/data", [_count(len(model.views), "view"), f"{len(stale)} stale" if stale else "none stale" if model.views else "from the row itself"],
         "bad" if stale else "good" if known else "plain"),
        ("Training", f"/runs/{last.id}" if last else "/runs", [f"{last['status']}" if last else "never ran", _ago(last["started"], now) if last else ""],
         {"failed": "bad", "interrupted": "bad", "done": "good", "running": "look", "waiting": "look"}.get(last["status"], "plain") if last else "plain"),
        ("Evidence", f"/models/{model.name}", [(f"version {newest['number']} " + ("passed" if passed else "refused")) if newest else "none yet", ""],
         ("good" if passed else "bad") if newest else "plain"),
        ("Registry", "/models", [_count(len(known), "version"), f"{len(asks)} wait for approval" if asks else "nothing waits"], "look" if asks else "good" if known else "plain"),
        ("Deployment", f"/deployments/{model.name}", ["stopped" if m["stopped"] else f"version {m['champion']} answers" if m["champion"] else "not in production", split if m["champion"] else ""],
         "bad" if m["stopped"] or (m["champion"] and not m["running"] and m["url"]) else "good" if m["champion"] else "plain"),
        ("Monitoring", "/alarms", [_count(len(opened), "open alarm") if opened else "no open alarm", ""], "bad" if any(a["severity"] == "high" for a in opened) else "look" if opened else "good" if m["champion"] else "plain"),
        ("Feedback", f"/models/{model.name}#production", [_count(m["requests"], "request"), _count(m["outcomes"], "outcome")], "good" if m["outcomes"] else "plain"),
    ]  # fmt: skip
    return [{"name": name, "href": href, "lines": lines, "tone": tone} for name, href, lines, tone in rows]


def _needs(ws: Workspace, model: Model, m: Mapping[str, Any], known: Any, last: Any, out_of_date: Mapping[str, Any]) -> dict[str, str] | None:
    """The one thing of this model that needs a person now, the gravest first: a sentence, where to go, what it takes."""
    name = model.name
    if m["stopped"]:
        return _thing(f"{name} is stopped: nothing answers.", f"/deployments/{name}", "deployments.change", "bad")
    if high := next((a for a in m["alarms"] if a["severity"] == "high"), None):
        return _thing(f"{name}: {high['sentence']}", f"/alarms/{high['id']}", "alarms.answer", "bad")
    if waits := ws.ledger.find(retraining.KIND, {"model": name, "status": "waiting"}, newest_first=True, limit=1):
        return _thing(f"{name}: a retraining waits for a person's yes or no.", f"/alarms#reaction-{waits[0].id}", "alarms.answer", "look")
    if asks := approvals.versions_waiting([name], ws.ledger, ws.clock.now()):
        return _thing(
            f"{name}: version {asks[0]['number']} waits for approval.", f"/models/{name}/versions/{asks[0]['number']}", "models.approve", "look"
        )
    if last is not None and last["status"] in ("failed", "interrupted"):
        return _thing(
            f"{name}: the last run {last['status'] if last['status'] == 'failed' else 'was interrupted'}.", f"/runs/{last.id}", "runs.start", "bad"
        )
    if m["alarms"]:
        return _thing(f"{name}: {m['alarms'][0]['sentence']}", f"/alarms/{m['alarms'][0]['id']}", "alarms.answer", "look")
    if out_of_date:
        return _thing(f"{name}: {next(iter(out_of_date.values()))}", f"/deployments/{name}", "deployments.change", "look")
    if not known:
        return _thing(f"{name} was never trained.", "/runs", "runs.start", "look")
    if m["champion"] is None and any(v["status"] == "approved" for v in known):
        return _thing(
            f"{name}: version {known[-1]['number']} passed its gates and is not deployed.", f"/deployments/{name}", "deployments.change", "look"
        )
    return None


def _thing(sentence: str, link: str, permission: str, tone: str) -> dict[str, str]:
    return {"sentence": sentence, "link": link, "permission": permission, "tone": tone}


def _first(models: list[dict[str, Any]], waits: list[dict[str, Any]], asked: Asked) -> dict[str, str] | None:
    """The gravest thing that whoever asks may do something about; else the gravest of all."""
    everything = [m["needs"] for m in models if m["needs"]]
    mine = [n for n in everything if asked.person.may(n["permission"])]
    found = sorted(mine or everything, key=lambda n: _ORDER[n["tone"]])
    if found and (found[0]["tone"] == "bad" or not waits):
        return found[0]
    if waits:
        return _thing(waits[0]["sentence"], waits[0]["link"], waits[0]["permission"], "look")
    return None


def _month(ws: Workspace, now: datetime) -> dict[str, Any]:
    """What this month's runs have cost: how many, and their seconds."""
    start = iso(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    runs = [r for r in ws.ledger.find(RUN, after=start) if not r.get("replayed")]
    return {"since": start, "runs": len(runs), "seconds": sum(float(r.get("seconds", 0.0)) for r in runs)}


def _ago(text: str, now: datetime) -> str:
    seconds = max(0.0, (now - parse_time(text)).total_seconds())
    for size, noun in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{_count(int(seconds // size), noun)} ago"
    return "just now"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _shown(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    shown = given["shown"]
    return "home.html", {"d": given, "wheel": drawn([dict(s) for s in shown["stations"]], shown["turns"]) if shown else None}


OPERATIONS = [
    Operation(
        "home.see", "/home", "home.see", home, "How the project stands: models, stations of the loop, what needs a person.", query=Chosen, page=_shown
    ),
]
