"""Runs: what was done, step by step, with times, logs, parameters and metrics; found by expression, compared side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec

from treadle.core.errors import UsageError
from treadle.core.records import Record, Ref
from treadle.core.unspoken import clean, without_secrets
from treadle.pipelines import approvals, declared
from treadle.pipelines.logs import log_text
from treadle.pipelines.lookup import find_step
from treadle.pipelines.run import RUN, mark_interrupted, steps_of
from treadle.report import drawn, run_compare, run_query, run_rows
from treadle.report.graph import graph_of_run
from treadle.web.console.operation import LONGEST, Asked, Operation, Pages, cursor, past

STATUSES = ("running", "waiting", "done", "failed", "cancelled", "interrupted", "rejected")
SHOWN = 3  # metrics in the list of runs
CAUSES = ("person", "schedule", "alarm", "backfill", "reaction")
_LINK = {"alarm": "/alarms/", "run": "/runs/", "reaction": "/alarms#reaction-"}


class Wanted(Pages, frozen=True, kw_only=True):
    """Which runs: what made them, whose, and a question such as `metric.loss < 0.3 and params.max_depth = 4`."""

    kind: Literal["run", "trial", "logged_run", "mlflow_run"] = "run"
    scope: str = ""
    status: str = ""
    cause: str = ""
    by: str = ""
    query: str = ""


class Several(msgspec.Struct, frozen=True, kw_only=True):
    """Two to eight runs, and the metric whose curves are laid over one another (all of them, if empty)."""

    run: list[str]
    metric: str = ""


class OfStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the run, and how many of its last lines."""

    step: str
    lines: Annotated[int, msgspec.Meta(ge=1, le=5_000)] = 200


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A step of the run; all of them if empty."""

    step: str = ""


def runs(asked: Asked) -> dict[str, Any]:
    """The newest runs that meet the filters and the question, a page of them. Raises UsageError for a question that cannot be read."""
    wanted, ledger = asked.query, asked.ws.ledger
    question = run_query.read(wanted.query) if wanted.query.strip() else None
    mark_interrupted(ledger, asked.ws.clock)
    given = {"scope": wanted.scope, "status": wanted.status, "by": wanted.by, "cause.kind": wanted.cause}
    found = run_rows.search(ledger, wanted.kind, {k: v for k, v in given.items() if v}, question, limit=wanted.limit, past=past(wanted.after))
    return {"items": clean(list(found.rows)), "next": cursor(found.last) if found.last is not None else None, "looked": found.looked}


def run(asked: Asked) -> dict[str, Any]:
    """One run: parameters, metrics, curves, what it made, and its graph with steps, times, reasons and the ends of logs. Raises NotFound."""
    ws = asked.ws
    mark_interrupted(ws.ledger, ws.clock)
    found = run_rows.find(asked["run"], ws.ledger)
    told = {**clean(run_rows.row(found, ws.ledger)), "charts": run_compare.curves([found.id], ws.ledger)}
    if found.kind != RUN:
        return {**told, "versions": [], "graph": None, "approvals": [], "caused_by": None, "leads_to": [], "code": {}, "resumed_by": []}
    cause = found["cause"]
    asks = approvals.waiting(ws.ledger, found.id)
    waits = [{"step": a["step"], "question": a["question"], "since": a.created_at, "version": a.version} for a in asks]
    link = _LINK.get(str(cause.get("kind")), "") + str(cause.get("id", "")) if cause.get("id") and cause.get("kind") in _LINK else ""
    leads = [{"kind": k.source.kind, "id": k.source.id, "relation": k.relation} for k in ws.ledger.links(Ref(RUN, found.id), back=True)]
    return {
        **told, "code": clean(found.get("code") or {}), "resumed_by": list(found.get("resumed_by", ())), "approvals": waits,
        "caused_by": {**clean(dict(cause)), "link": link}, "leads_to": leads[:LONGEST],
        "versions": [{"id": v.id, "model": v["model"], "number": v["number"], "status": v["status"]} for v in run_rows.made_by(found, ws.ledger)],
        "graph": clean(graph_of_run(ws, found, tail=LONGEST)),
    }  # fmt: skip


def compare(asked: Asked) -> dict[str, Any]:
    """Runs side by side: parameters and metrics with what differs, and curves. Raises UsageError for fewer than two or more than eight."""
    ids = list(dict.fromkeys(asked.query.run))
    if not run_compare.LEAST <= len(ids) <= run_compare.MOST:
        raise UsageError(f"{len(ids)} runs cannot be compared: choose {run_compare.LEAST} to {run_compare.MOST}.", where="run")
    ledger = asked.ws.ledger
    rows = [clean(run_rows.row(run_rows.find(id, ledger), ledger)) for id in ids]
    made = run_compare.table(rows)
    metric = asked.query.metric
    return {"runs": rows, **made, "curves": run_compare.curves(ids, ledger, [metric] if metric else ()), "metric": metric}


def tail(asked: Asked) -> dict[str, Any]:
    """The last lines that a step printed and logged, also while it runs. Raises NotFound."""
    step = _step(asked, asked.query.step)
    lines = _log(asked, step).splitlines()
    return {
        "run": asked["run"], "step": step["step"], "status": step["status"], "lines": lines[-asked.query.lines :], "of": len(lines),
        "traceback": without_secrets(step.get("traceback") or ""),
    }  # fmt: skip


def log(asked: Asked) -> tuple[str, str, str]:
    """The whole log of a step, or of all steps, as a file."""
    if asked.query.step:
        step = _step(asked, asked.query.step)
        return "text/plain; charset=utf-8", f"{asked['run']}-{step['step']}.log", _log(asked, step)
    record = known(asked)
    texts = [f"== {s['step']}: {s['status']}\n{_log(asked, s)}" for s in steps_of(record.id, asked.ws.ledger)]
    return "text/plain; charset=utf-8", f"{record.id}.log", "\n".join(texts)


def known(asked: Asked) -> Record:
    """The run of a model or pipeline that is asked about. Raises NotFound, and UsageError for one that Treadle did not drive."""
    record = run_rows.find(asked["run"], asked.ws.ledger)
    if record.kind != RUN:
        raise UsageError(f"{record.id} is no run of a model or pipeline: it has no steps.")
    return record


def _step(asked: Asked, name: str) -> Record:
    record = known(asked)
    return find_step(name, record.id, steps_of(record.id, asked.ws.ledger))


def _log(asked: Asked, step: Record) -> str:
    return without_secrets(log_text(step, asked.ws.blobs, asked.ws.settings.home))


def _list(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    wanted, ws = asked.query, asked.ws
    kept = {k: v for k, v in msgspec.structs.asdict(wanted).items() if k != "after" and v not in ("", 50, "run")}
    named = {name for r in given["items"] for name in r["metrics"]}
    asked_for = run_query.read(wanted.query).metrics & named if wanted.query.strip() else set()
    metrics = [*sorted(asked_for), *sorted(named - asked_for)][:SHOWN]
    return "runs.html", {
        "runs": given["items"], "next": given["next"], "looked": given["looked"], "query": wanted, "kept": urlencode(kept), "kinds": run_rows.KINDS,
        "counts": {k: ws.ledger.count(k) for k in run_rows.KINDS}, "metrics": metrics, "statuses": STATUSES, "causes": CAUSES,
        "targets": [f"{ws.project.name}.{n}" for n in (*ws.project.models, *ws.project.pipelines)],
        "models": list(ws.project.models), "pipelines": {n: list(declared.parameters(p)) for n, p in ws.project.pipelines.items()},
    }  # fmt: skip


def _one(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    drawing = drawn.shown(given["graph"]) if given["graph"] else {"d": None}
    about = {"about": f"run/{given['id']}"} if given["kind"] == RUN else {}
    return "run.html", {"run": given, "charts": given["charts"], "ended": given["status"] not in ("running", "waiting"), **drawing, **about}


def _compared(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    parallel = run_compare.parallel(given["runs"], {"params": given["params"], "metrics": given["metrics"]})
    chosen = urlencode([("run", r["id"]) for r in given["runs"]])
    return "runs_compared.html", {"c": given, "parallel": parallel, "charts": given["curves"], "chosen": chosen}


def _tail(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "run_log.html", {"log": given, "query": asked.query}


OPERATIONS = [
    Operation("runs.list", "/runs", "runs.see", runs, "The runs, newest first, by filters and by a question over parameters and metrics.",
              query=Wanted, page=_list),
    Operation("runs.compare", "/runs/compare", "runs.see", compare, "Two to eight runs side by side.", query=Several, page=_compared),
    Operation("runs.see", "/runs/{run}", "runs.see", run, "One run: its steps with times, reasons and logs, parameters, metrics, what it made.",
              page=_one),
    Operation("runs.tail", "/runs/{run}/tail", "runs.see", tail, "The last lines of a step's log, also while it runs.", query=OfStep, page=_tail),
    Operation("runs.log", "/runs/{run}/log", "runs.see", log, "The whole log of a step, or of all steps, as a file.", query=Whole, raw=True),
]  # fmt: skip
