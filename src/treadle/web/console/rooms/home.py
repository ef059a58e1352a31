"""The first page: the loop of each model as a wheel with live figures, what needs a person now, and what waits for whoever looks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.pipelines.run import RUN
from treadle.report.waiting import Waits
from treadle.report.waiting import waiting as everything_waiting
from treadle.report.wheel import drawn
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.places import page_of
from treadle.web.console.rooms.stations import standing, thing

_ORDER = {"bad": 0, "look": 1, "good": 2, "plain": 3}
SHOWN = 20  # things that wait, on the first page


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Which model's wheel is drawn; that of the model that answers (else the first) if empty."""

    model: str = ""


def home(asked: Asked) -> dict[str, Any]:
    """How the project stands: its models, each with its stations and what needs a person, the wheel of one, and what waits for whoever asks."""
    ws = asked.ws
    now = ws.clock.now()
    models = [standing(ws, model, now) for model in ws.project.models.values()]
    asked_for = next((m for m in models if m["name"] == asked.query.model), None)
    shown = asked_for or next((m for m in models if m["champion"]), models[0] if models else None)
    waits = waiting(asked)
    return {
        "project": {"name": ws.project.name, "owner": ws.project.owner, "goal": ws.project.goal, "description": ws.project.description},
        "models": models, "shown": shown, "waiting": waits[:SHOWN], "waiting_in_all": len(waits), "pipelines": list(ws.project.pipelines),
        "made": iso(now), "needs": _first(models, waits, asked), "month": _month(ws, now),
    }  # fmt: skip


def waiting(asked: Asked) -> list[dict[str, Any]]:
    """What waits for whoever asks, and what they may answer; the oldest first."""
    me = asked.person
    found = everything_waiting(asked.ws, person=me.name, groups=me.groups)
    return [_waits(one) for one in found if not one.permission or me.may(one.permission)]


def _waits(one: Waits) -> dict[str, Any]:
    link = "/notes" if one.kind in ("handover", "question", "change") else page_of(one.about)
    if one.kind == "reaction":
        link = f"/alarms#reaction-{one.id}"
    return {"kind": one.kind, "sentence": one.title, "text": one.text, "link": link, "by": one.by, "at": one.since, "permission": one.permission}


def _first(models: list[dict[str, Any]], waits: list[dict[str, Any]], asked: Asked) -> dict[str, str] | None:
    """The gravest thing that whoever asks may do something about; else the gravest of all."""
    everything: list[dict[str, str]] = [m["needs"] for m in models if m["needs"]]
    mine = [n for n in everything if asked.person.may(n["permission"])]
    found = sorted(mine or everything, key=lambda n: _ORDER[n["tone"]])
    if found and (found[0]["tone"] == "bad" or not waits):
        return found[0]
    return thing(waits[0]["sentence"], waits[0]["link"], waits[0]["permission"] or "home.see", "look") if waits else None


def _month(ws: Workspace, now: datetime) -> dict[str, Any]:
    """What this month's runs have cost: how many, and their seconds."""
    start = iso(now.replace(day=1, hour=0, minute=0, second=0, microsecond=0))
    runs = ws.ledger.find(RUN, after=start)
    return {"since": start, "runs": len(runs), "seconds": sum(float(r.get("seconds", 0.0)) for r in runs)}


def _shown(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    shown = given["shown"]
    return "home.html", {"d": given, "wheel": drawn([dict(s) for s in shown["stations"]], shown["turns"]) if shown else None}


SUMMARY = "How the project stands: models, stations of the loop, what needs a person."
OPERATIONS = [Operation("home.see", "/home", "home.see", home, SUMMARY, query=Chosen, page=_shown)]
