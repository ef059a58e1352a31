"""Deployments: what answers, with what beside it, how fast, how the two compare, and what was changed when and by whom."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any

import msgspec
import numpy as np

from treadle.assemble import Workspace
from treadle.core.errors import TreadleError
from treadle.core.records import Record
from treadle.live import rollout
from treadle.live.deploy import ENDPOINT, connect, missed, running_endpoint
from treadle.live.service_levels import HOURS
from treadle.monitoring.detectors.service import Service
from treadle.monitoring.watch import output_of
from treadle.ports.predictions import Prediction
from treadle.registry import conditions, intervene, promote, versions
from treadle.web.console.counted import counts
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.rooms.models import known_model

ASKED = 0.5  # seconds an endpoint has to say what it counted
WEIGHED = 50_000  # predictions of a model up to which its evidence is weighed without being asked for
KEPT = 20.0  # seconds that what was weighed is shown again
NEWEST = 300  # predictions that shadow differences are told of
CHANGES = 20
_LINE = re.compile(r"^(treadle_\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
_weighed: dict[tuple[str, str, int], tuple[float, dict[str, Any]]] = {}


def deployments(asked: Asked) -> list[dict[str, Any]]:
    """What answers, model by model."""
    ws = asked.ws
    return [_line(ws, record) for record in ws.ledger.find(versions.DEPLOYMENT)]


def _line(ws: Workspace, record: Record) -> dict[str, Any]:
    running = running_endpoint(ws, record.id)
    wanted = ("champion", "challenger", "stage", "share", "since")
    return {
        "model": record.id, **{k: record[k] for k in wanted}, "stopped": record.get("stopped"), "beside": record.get("beside"),
        "running": running is not None, "url": running["url"] if running else "", "version": record.version,
    }  # fmt: skip


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """`weigh`: weigh the evidence also where the log is long. `before`: only changes before this number of the audit log."""

    weigh: bool = False
    before: Annotated[int, msgspec.Meta(ge=0)] = 0


def deployment(asked: Asked) -> dict[str, Any]:
    """The deployment of a model: stage, versions, endpoint, latency and errors, differences, evidence, and its last changes."""
    ws, name = asked.ws, known_model(asked.ws, asked["model"])
    record = promote.deployment(name, ws.ledger)
    found: dict[str, Any] = {"model": name, "deployed": None, "endpoint": None, "may_deploy": _may_deploy(ws, name, record),
                             "versions": ws.ledger.count(versions.KIND, {"model": name})}  # fmt: skip
    found["changes"] = _changes(ws, asked, name)
    if record is None:
        return found
    running = running_endpoint(ws, name)
    told = ws.ledger.get(ENDPOINT, name)
    answered, with_outcome = counts(ws, name)
    declared = ws.project.models.get(name)
    return {
        **found, "deployed": _line(ws, record), "previous": [int(n) for n in record["previous"]],
        "back": list(intervene.earlier(record, ws.ledger, ws.clock)), "rules": record.get("rules", {}),
        "endpoint": {"status": "serving" if running else "gone" if told["status"] == "serving" else told["status"], "url": told["url"],
                     "since": told["since"]} if told is not None else None,
        "missed": list(missed(running).values()), "counted": _counted(ws, running) if running else None, "hours": _hours(ws, name),
        "requests": answered, "outcomes": with_outcome, "differences": _differences(ws, record),
        "evidence": _evidence(ws, record, answered, asked.query.weigh) if declared and record["stage"] != "none" else None,
        "declared": declared is not None,
    }  # fmt: skip


def _may_deploy(ws: Workspace, name: str, record: Record | None) -> list[dict[str, Any]]:
    """The newest versions that may answer and do not."""
    answering = (record["champion"], record["challenger"]) if record is not None else ()
    now = ws.clock.now()
    near = ws.ledger.find(versions.KIND, {"model": name}, newest_first=True, limit=20)
    return [
        {"number": int(v["number"]), "status": v["status"]} for v in near
        if v["number"] not in answering and v["status"] != "rejected" and not conditions.missing(v, ws.ledger, now)
    ]  # fmt: skip


def _changes(ws: Workspace, asked: Asked, name: str) -> dict[str, Any]:
    before = asked.query.before or None
    found = ws.ledger.events_before(before, limit=CHANGES + 1, subject_kind=versions.DEPLOYMENT, subject_id=name)
    shown = [{"seq": e.seq, "time": e.time, "kind": e.kind, "actor": e.actor, "body": dict(e.body)} for e in found[:CHANGES]]
    return {"items": shown, "next": found[CHANGES - 1].seq if len(found) > CHANGES else None}


def _counted(ws: Workspace, running: Record) -> dict[str, Any]:
    """What the endpoint says it counted since it began; 'problem' where it does not say in time."""
    endpoint = connect(ws, str(running["url"]), timeout=ASKED, retries=0)
    try:
        text = endpoint.metrics()
    except (TreadleError, OSError, UnicodeDecodeError) as error:
        return {"problem": error.what if isinstance(error, TreadleError) else f"{type(error).__name__}: {error}"}
    finally:
        endpoint.close()
    return counted(text)


def counted(text: str) -> dict[str, Any]:
    """What Prometheus' text of an endpoint says: requests by status, answers by version, times, failures."""
    requests: dict[str, int] = {}
    answers: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    within: dict[float, int] = {}
    shed = waiting = 0
    for name, labels, value in _LINE.findall(text):
        tags, number = dict(re.findall(r'(\w+)="([^"]*)"', labels)), int(float(value))
        if name == "treadle_requests_total":
            requests[tags["status"]] = requests.get(tags["status"], 0) + number
        elif name == "treadle_predictions_total":
            answers.append({"version": int(tags["model_version"]), "variant": tags["variant"], "rows": number})
        elif name == "treadle_model_failures_total":
            failed.append({"version": int(tags["model_version"]), "variant": tags["variant"], "failures": number})
        elif name == "treadle_request_seconds_bucket":
            within[float(tags["le"].replace("+Inf", "inf"))] = number
        elif name == "treadle_requests_shed_total":
            shed += number
        elif name == "treadle_rows_waiting":
            waiting += number
    times = Service(sum(requests.values()), 0, shed, dict(sorted(within.items())))
    return {"problem": "", "requests": requests, "answers": answers, "failures": failed, "shed": shed, "waiting": waiting, **_times(times)}


def _times(counts: Service) -> dict[str, Any]:
    if not counts.within or not list(counts.within.values())[-1]:
        return {"median": None, "p99": None}
    return {"median": counts.quantile(0.5), "p99": counts.quantile(0.99)}


def _hours(ws: Workspace, name: str) -> list[dict[str, Any]]:
    """What the watch recorded of the last hours, oldest first."""
    found = sorted(ws.ledger.find(HOURS, {"model": name}), key=lambda r: int(r["hour"]))[-48:]
    rows = []
    for record in found:
        c = record["counts"]
        counts = Service(c["requests"], c["failed"], c["shed"], {float(b): int(n) for b, n in c["within"]})
        at = datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(hours=int(record["hour"]))
        rows.append({"hour": at.isoformat(), "requests": counts.requests, "failed": counts.failed, "shed": counts.shed, **_times(counts)})
    return rows


def _differences(ws: Workspace, record: Record) -> dict[str, Any] | None:
    """How far the two versions that are asked lie apart on the newest predictions that both answered."""
    beside = record["challenger"] or record.get("beside")
    if beside is None:
        return None
    ours = int(record["champion"])
    rows = [(p, a, b) for p in ws.predictions.last(record.id, NEWEST) if (a := output_of(p, ours)) and (b := output_of(p, int(beside)))]
    if not rows:
        return {"rows": 0, "beside": int(beside)}
    apart = np.array([np.abs(np.array(a) - np.array(b)).max() for _, a, b in rows])
    several = len(rows[0][1]) > 1
    other = sum(int(np.argmax(a)) != int(np.argmax(b)) for _, a, b in rows) if several else None
    worst = sorted(range(len(rows)), key=lambda i: -apart[i])[:5]
    return {
        "rows": len(rows), "beside": int(beside), "mean": float(apart.mean()), "p95": float(np.quantile(apart, 0.95)), "largest": float(apart.max()),
        "other_class": other, "worst": [_pair(*rows[i], float(apart[i])) for i in worst],
    }  # fmt: skip


def _pair(prediction: Prediction, ours: tuple[float, ...], theirs: tuple[float, ...], apart: float) -> dict[str, Any]:
    return {"id": prediction.id, "champion": list(ours)[-1], "beside": list(theirs)[-1], "apart": apart}


def _evidence(ws: Workspace, record: Record, answered: int, weigh: bool) -> dict[str, Any]:
    """What the evidence of the stage says now: that of a moment ago, or None where it would take long and nobody asked for it."""
    key = (str(ws.folder), record.id, record.version)
    known = _weighed.get(key)
    if known is not None and (time.monotonic() - known[0] < KEPT or (not weigh and answered > WEIGHED)):
        return known[1]
    if answered > WEIGHED and not weigh:
        return {"action": "", "reason": "", "evidence": {}, "at": "", "long": True}
    decision = rollout.judged(ws, ws.model(record.id), record)
    found = {"action": decision.action, "reason": decision.reason, "evidence": decision.evidence, "at": ws.clock.now().isoformat(), "long": False}
    if len(_weighed) > 100:
        _weighed.clear()
    _weighed[key] = (time.monotonic(), found)
    return found


def _list_page(given: list[dict[str, Any]], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    ws = asked.ws
    known = {d["model"] for d in given}
    return "deployments.html", {"deployments": given, "others": [name for name in ws.project.models if name not in known]}


def _page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    about = {"about": f"deployment/{given['model']}"} if given["deployed"] else {}
    hours = [h for h in given.get("hours", []) if h["p99"] is not None]
    drawn = {"hours": _chart(hours)} if len(hours) > 2 else {}
    return "deployment.html", {"d": given, "charts": drawn, "declared_owner": asked.ws.project.owner, "later": bool(asked.query.before), **about}


def _chart(hours: list[dict[str, Any]]) -> dict[str, Any]:
    series = [
        {"label": "99 % within, ms", "values": [1000 * h["p99"] for h in hours], "style": "line points", "color": "a"},
        {"label": "half within, ms", "values": [1000 * h["median"] for h in hours], "style": "line", "color": "b"},
    ]
    return {"x": [int(datetime.fromisoformat(h["hour"]).timestamp()) for h in hours], "time": True, "series": series, "marks": []}


OPERATIONS = [
    Operation("deployments.list", "/deployments", "deployments.see", deployments, "What answers, model by model.", page=_list_page),
    Operation(
        "deployments.see", "/deployments/{model}", "deployments.see", deployment,
        "The deployment of a model: stage, versions, endpoint, latency, differences, evidence, changes.", query=Wanted, page=_page,
    ),
]  # fmt: skip
