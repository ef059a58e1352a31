"""Models: what is declared of one, its versions with their evidence, and two of them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from treadle.assemble import Workspace
from treadle.core.clock import parse_time
from treadle.core.errors import NotFound
from treadle.core.records import Record
from treadle.live.deploy import running_endpoint
from treadle.monitoring import alarms
from treadle.pipelines.run import RUN
from treadle.registry import conditions, foreign, packages, promote, versions
from treadle.report.charts import calibration
from treadle.report.evidence import evaluation_of
from treadle.review import approvals
from treadle.web.console.counted import counts
from treadle.web.console.operation import Asked, Operation, Pages, listed

_MADE = ("params", "split", "data", "run", "code", "environment", "format", "parity", "package", "owner", "goal", "as_of", "key")
_EVIDENCE = ("fairness", "worst_slices", "importance", "conformal", "robustness", "staleness", "selection", "leakage", "calibration_interval")
SHORT = 5  # runs and alarms on the page of a model


def models(asked: Asked) -> list[dict[str, Any]]:
    """Every model that is declared, or has a version that was made elsewhere."""
    ws = asked.ws
    declared = [m.name for m in ws.project.models.values()]
    return [_line(ws, name) for name in [*declared, *(n for n in foreign.names(ws.ledger) if n not in declared)]]


def _line(ws: Workspace, name: str) -> dict[str, Any]:
    newest = next(iter(ws.ledger.find(versions.KIND, {"model": name}, newest_first=True, limit=1)), None)
    deployed = promote.deployment(name, ws.ledger)
    return {
        "name": name, "description": ws.project.models[name].description if name in ws.project.models else "made elsewhere",
        "versions": ws.ledger.count(versions.KIND, {"model": name}), "newest": _short(newest) if newest else None,
        "champion": deployed["champion"] if deployed else None, "challenger": deployed["challenger"] if deployed else None,
        "stage": deployed["stage"] if deployed else "", "share": deployed["share"] if deployed else 0.0,
        "stopped": bool(deployed and deployed.get("stopped")),
        "waiting": len(approvals.versions_waiting([name], ws.ledger, ws.clock.now())),
    }  # fmt: skip


def model(asked: Asked) -> dict[str, Any]:
    """One model: what is declared, how it stands, a page of its versions, what waits, its last runs and open alarms. Reads no prediction."""
    ws, name = asked.ws, known_model(asked.ws, asked["model"])
    declared = ws.project.models.get(name)
    deployed = promote.deployment(name, ws.ledger)
    answered, with_outcome = counts(ws, name)
    now = ws.clock.now()
    shown = listed(ws, versions.KIND, {"model": name}, asked.query or Pages(), _short)
    best = deployed["champion"] if deployed else shown["items"][0]["number"] if shown["items"] and not asked.query.after else None
    judged = versions.get(name, int(best), ws.ledger) if best is not None else None
    runs = ws.ledger.find(RUN, {"scope": f"{ws.project.name}.{name}"}, newest_first=True, limit=SHORT)
    opened = [a for a in ws.ledger.find(alarms.KIND, {"status": "open"}) if (alarms.concerns(a, declared) if declared else a["model"] == name)]
    return {
        **_line(ws, name), "declared": _declared(ws, name), "requests": answered, "outcomes": with_outcome,
        "running": running_endpoint(ws, name) is not None, "since": deployed["since"] if deployed else "",
        "evidence": evaluation_of(judged, judged["status"]) if judged is not None and not judged.get("foreign") else None,
        "runs": [{"id": r.id, "status": r["status"], "started": r["started"], "cause": r["cause"]} for r in runs],
        "alarms": [{"id": a.id, **{k: a[k] for k in ("kind", "severity", "sentence", "raised")}} for a in opened],
        "waivers": [_waiver(w, now) for w in conditions.waivers(name, ws.ledger)], "items": shown["items"], "next": shown["next"],
    }  # fmt: skip


def _declared(ws: Workspace, name: str) -> dict[str, Any] | None:
    found = ws.project.models.get(name)
    if found is None:
        return None
    watch = ws.watch_of(found)
    return {
        "target": found.target, "data_set": found.rows.name, "inputs": [i if isinstance(i, str) else i.name for i in found.inputs],
        "views": [v.name for v in found.views],
        "gates": [g.name for g in found.gates], "owner": ws.project.owner, "goal": ws.project.goal, "watched": watch is not None,
        "retrains_on": list(watch.retrain.on) if watch and watch.retrain else [],
    }  # fmt: skip


def version(asked: Asked) -> dict[str, Any]:
    """One version: evidence, how it was made, its signature, who said what of it, and what whoever asks may do about it. Raises NotFound."""
    ws, found = asked.ws, known_version(asked.ws, asked["model"], asked["number"])
    now = ws.clock.now()
    search = ws.ledger.get("search", found["trials"]) if found.get("trials") else None
    evaluation = found["evaluation"]
    top = ("model", "number", "status", "family", "trained_rows", "trained_to", "cause")
    deployed = promote.deployment(found["model"], ws.ledger)
    return {
        "id": found.id, "version": found.version, **{k: found[k] for k in top},
        "trained_on_erased": found.get("trained_on_erased", 0), "foreign": found.get("foreign"),
        "evaluation": evaluation_of(found, found["status"]) if not found.get("foreign") else None,
        "more": {k: evaluation.get(k) for k in _EVIDENCE}, "explanation": found.get("explanation"),
        "search": {k: search[k] for k in ("leaderboard", "explanation", "loss", "tried")} if search is not None else None,
        "made": {"registered": found.created_at, **{k: found[k] for k in _MADE}},
        "signature": packages.told_signature(found["package"], ws.blobs, ws.shelf.trust),
        "missing": conditions.missing(found, ws.ledger, now), "review": _review(asked, found, now),
        "waivers": [_waiver(w, now) for w in conditions.waivers(found["model"], ws.ledger) if w["number"] in (None, found["number"])],
        "waivable": [f["gate"] for f in found["verdict"]["findings"] if not f["passed"] and f["gate"] not in conditions.NEVER
                     and conditions.in_force(found, f["gate"], ws.ledger, now) is None],
        "answers": deployed is not None and found["number"] in (deployed["champion"], deployed["challenger"]),
        "others": _others(ws, found),
    }  # fmt: skip


def _review(asked: Asked, found: Record, now: datetime) -> dict[str, Any]:
    ws = asked.ws
    request = approvals.request_of(found, ws.ledger)
    said = conditions.approvals(found, ws.ledger)
    wanted = any(f.get("waits") for f in found["verdict"].get("findings", []))
    return {
        "wanted": wanted, "left": conditions.waits(found, ws.ledger, now), "evidence": approvals.evidence_of(found),
        "may_not": approvals.may_not(found, asked.person.name, ws.ledger),
        "has_said": next((a["answer"] for a in said if a["by"] == asked.person.name and not conditions.ended(a, now)), ""),
        "request": {k: request[k] for k in ("by", "to", "text", "at", "status")} if request is not None else None,
        "said": [{**{k: a[k] for k in ("by", "answer", "reason", "at", "until")}, "ended": conditions.ended(a, now),
                  "same": a.get("evidence") in (None, "", approvals.evidence_of(found))} for a in said],
    }  # fmt: skip


def _others(ws: Workspace, found: Record) -> list[int]:
    """The newest versions beside this one, to compare it with."""
    near = ws.ledger.find(versions.KIND, {"model": found["model"]}, newest_first=True, limit=20)
    return [int(v["number"]) for v in near if v.id != found.id]


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """How a card is written."""

    format: Literal["html", "markdown", "json"] = "html"


def card(asked: Asked) -> tuple[str, str, str]:
    """The model card of a version, as a file. Raises Refused for a version that was made elsewhere."""
    import json

    from treadle.governance import cards

    ws, found = asked.ws, known_version(asked.ws, asked["model"], asked["number"])
    foreign.refuse(found, "make a card from")
    made = cards.card(found, ws.ledger, json.loads(ws.blobs.get(found["package"]["files"][packages.MANIFEST])))
    name = f"card-{found.id}"
    if asked.query.format == "json":
        return "application/json", f"{name}.json", json.dumps(made, indent=2, ensure_ascii=False)
    if asked.query.format == "markdown":
        return "text/markdown; charset=utf-8", f"{name}.md", cards.markdown(made)
    return "text/html; charset=utf-8", f"{name}.html", cards.html(made)


def report(asked: Asked) -> tuple[str, str, str]:
    """The whole report of a model as one file. It reads the whole prediction log."""
    from treadle.report import collect, render

    found = asked.ws.model(asked["model"])
    return "text/html; charset=utf-8", f"{found.name}.html", render(collect(asked.ws, found))


class Two(msgspec.Struct, frozen=True, kw_only=True):
    """Which two versions; `runs` also compares the runs that made them: code, parameters, data, steps."""

    old: int
    new: int
    runs: bool = False


def compare(asked: Asked) -> dict[str, Any]:
    """Two versions side by side: evidence, gates, settings; and what differs between their runs, if that is asked for."""
    ws, name = asked.ws, known_model(asked.ws, asked["model"])
    old, new = (versions.get(name, n, ws.ledger) for n in (asked.query.old, asked.query.new))
    for found in (old, new):
        foreign.refuse(found, "compare")
    runs: dict[str, Any] | None = None
    problem = ""
    if asked.query.runs:
        from treadle.provenance.compare import compare as differences

        two = [ws.ledger.get(RUN, v["run"] or "-") for v in (old, new)]
        if two[0] is None or two[1] is None:
            problem = "The run that made one of the two is not on record."
        else:
            runs = differences(ws, two[0], two[1])
    return {"model": name, "old": _side(old), "new": _side(new), "same_test": _test(old) == _test(new), "runs": runs, "problem": problem}


def _side(found: Record) -> dict[str, Any]:
    wanted = ("number", "status", "family", "params", "trained_rows", "trained_to", "as_of", "run", "data", "cause")
    return {"id": found.id, **{k: found[k] for k in wanted}, "evaluation": evaluation_of(found, found["status"])}


def _test(found: Record) -> list[Any]:
    return [found["data"], {k: v for k, v in found["split"].items() if k.startswith("test")}]


def _short(found: Record) -> dict[str, Any]:
    evaluation = found["evaluation"]
    primary = evaluation["primary"]
    return {
        "id": found.id, "number": int(found["number"]), "status": found["status"], "family": found["family"], "trained_rows": found["trained_rows"],
        "trained_to": found["trained_to"], "registered": found.created_at, "passed": found["verdict"]["passed"],
        "reasons": found["verdict"]["reasons"], "primary": primary, "metric": evaluation["metrics"]["model"].get(primary), "run": found["run"],
        "cause": found["cause"], "signed": bool(found["package"].get("signature")),
    }  # fmt: skip


def _waiver(record: Record, now: datetime) -> dict[str, Any]:
    wanted = ("gate", "number", "by", "reason", "until", "at")
    return {"id": record.id, **{k: record[k] for k in wanted}, "ended": parse_time(record["until"]) <= now}


def known_model(ws: Workspace, name: str) -> str:
    """The name of a model that is declared or has a version. Raises NotFound."""
    if name in ws.project.models or ws.ledger.find(versions.KIND, {"model": name}, limit=1):
        return name
    raise NotFound(f"There is no model {name!r}.", hint="The page /models lists them.")


def known_version(ws: Workspace, model: str, number: str) -> Record:
    """A version by the texts of a path. Raises NotFound."""
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise NotFound(f"Model {model!r} has no version {number!r}.")
    known_model(ws, model)
    return versions.get(model, int(number), ws.ledger)


def _list_page(given: list[dict[str, Any]], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "models.html", {"models": given}


def _model_page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    about = {"about": f"model/{given['name']}", "declared_owner": (given["declared"] or {}).get("owner", "")}
    return "model.html", {"d": given, "later": bool(asked.query and asked.query.after), **about}


def _version_page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    e = given["evaluation"]
    drawn = {"calibration": calibration([e])} if e and e["calibration"] else {}
    about = {"about": f"model_version/{given['id']}", "declared_owner": given["made"]["owner"]}
    return "version.html", {"version": given, "e": e, "charts": drawn, **about}


def _compare_page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    both = [given[side]["evaluation"] for side in ("old", "new")]
    curves = [e for e in both if e["calibration"]]
    names = list(dict.fromkeys(m["name"] for e in both for m in e["metrics"]))
    values = [{m["name"]: m["model"] for m in e["metrics"]} for e in both]
    metrics = [{"name": n, "old": values[0].get(n), "new": values[1].get(n)} for n in names]
    gates = list(dict.fromkeys(g["gate"] for e in both for g in e["gates"]))
    findings = [(gate, *(next((g for g in e["gates"] if g["gate"] == gate), None) for e in both)) for gate in gates]
    drawn = {"calibration": calibration(curves)} if curves else {}
    return "versions.html", {"d": given, "metrics": metrics, "gates": findings, "charts": drawn}


_ONE = "/models/{model}/versions/{number}"
OPERATIONS = [
    Operation("models.list", "/models", "models.see", models, "The models, each with its newest version and what answers.", page=_list_page),
    Operation("models.see", "/models/{model}", "models.see", model, "One model: how it stands, its versions.", query=Pages, page=_model_page),
    Operation("models.report", "/models/{model}/report", "models.see", report, "The whole report as a file; reads the prediction log.", raw=True),
    Operation("models.compare", "/models/{model}/compare", "models.see", compare, "Two versions side by side.", query=Two, page=_compare_page),
    Operation("models.version", _ONE, "models.see", version, "One version: evidence, how it was made, who approved it.", page=_version_page),
    Operation("models.card", _ONE + "/card", "models.see", card, "The model card of a version, as a file.", query=Format, raw=True),
]  # fmt: skip

