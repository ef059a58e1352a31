"""A run's graph as data: its steps, what each waited for, times, what the cache saved, and the chain that took longest. Or what a run would do.

Nothing is drawn here. Moments are seconds since the run began; a step that took no time of its own (reused, left out) stands where its needs ended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from statistics import median
from typing import Any

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.core.errors import NotFound, TreadleError
from treadle.core.records import Record
from treadle.pipelines import declared
from treadle.pipelines.graph import Slot, Step, needed, ordered
from treadle.pipelines.logs import log_text
from treadle.pipelines.plan import LATEST, RESULT
from treadle.pipelines.run import APPROVAL, RUN, steps_of
from treadle.ports.ledger import Ledger
from treadle.registry import promote, versions
from treadle.wheel.start import only
from treadle.wheel.turn import build

TAIL = 20  # lines of a log that are shown where nothing else is said
LONGEST = 300_000  # characters of logs and tracebacks in all; what failed comes first
_LINE, _TRACE, _NAMED = 500, 6_000, 10
_KEPT = ("key", "codec", "address", "error", "attempt", "where", "lines")
_LIVE = ("running", "retry")


def graph_of(ws: Workspace, target: str = "", params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The graph of a run, or of what a model or pipeline would do now.

    Args:
        target: a run's id, or the name of a model or pipeline; the newest run if empty, or else what the project declares.
        params: a pipeline's parameters, where there is no run. Raises NotFound, UsageError, ProjectError.
    """
    if target and target not in ws.project.models and target not in ws.project.pipelines:
        record = ws.ledger.get(RUN, target)
        if record is None:
            known = ", ".join([*ws.project.models, *ws.project.pipelines])
            raise NotFound(f"There is no run, model or pipeline {target!r}.", hint=f"The project declares: {known or 'nothing'}. Runs: treadle runs")
        return graph_of_run(ws, record)
    if not target and not params:
        newest = next((r for r in ws.ledger.find(RUN, newest_first=True, limit=50) if r.get("project") == ws.project.name), None)
        if newest is not None:
            return graph_of_run(ws, newest)
    return graph_of_plan(ws, target or only(ws), params or {})


def graph_of_run(ws: Workspace, record: Record, *, tail: int = TAIL) -> dict[str, Any]:
    """What a run did: see the module. Steps that are declared but were not come to are in it, as far as the project still declares them alike.

    Args:
        tail: how many lines of each log.
    """
    entries = steps_of(record.id, ws.ledger)
    tasks: dict[str, list[Record]] = defaultdict(list)
    for entry in entries:
        if entry.get("of"):
            tasks[entry["of"]].append(entry)
    steps = [_step(entry, tasks.get(entry["step"], ()), record) for entry in entries if not entry.get("of")]
    steps = sorted([*steps, *_not_reached(ws, record, steps)], key=lambda s: s["index"])
    by_name = {s["name"]: s for s in steps}
    for i, s in enumerate(steps):
        s["index"], s["needs"] = i, [n for n in s["needs"] if n["step"] in by_name]
    began, now = _second(record["started"]), ws.clock.now().timestamp()
    approvals = {a["step"]: a for a in ws.ledger.find(APPROVAL, {"run": record.id})}
    for s in steps:
        _times(s, began, now, approvals.get(s["name"]))
    _follow(steps, by_name)
    for s in steps:
        s["saved"] = _saved(s, tasks.get(s["name"], ()), ws.ledger)
    chain = _chain(steps, by_name)
    _logs(ws, steps, {e["step"]: e for e in entries}, tasks, tail)
    states = Counter(s["state"] for s in steps)
    kind, name = ("model", record["model"]) if record.get("model") else ("pipeline", record.get("pipeline", ""))
    wanted = ("scope", "status", "cause", "started", "code", "params", "as_of", "counts", "epoch")
    return {
        "project": ws.project.name, "target": {"kind": kind, "name": name or record["scope"]}, "made": iso(ws.clock.now()),
        "chain": chain, "steps": steps,
        "run": {
            "id": record.id, **{k: record.get(k) for k in wanted}, "ended": record.get("ended", ""), "error": record.get("error", ""),
            "seconds": float(record.get("seconds", 0.0)), "cpu": float(record.get("cpu", 0.0)),
        },
        "totals": {
            "steps": len(steps), "states": dict(states), "tasks": sum(s["tasks"]["count"] for s in steps if s["tasks"]),
            "saved": sum(s["saved"] or 0.0 for s in steps), "hits": sum(_hits(s) for s in steps), "chain": sum(by_name[n]["span"] for n in chain),
            "person": sum(by_name[n]["span"] for n in chain if by_name[n]["question"]),
        },
    }  # fmt: skip


def graph_of_plan(ws: Workspace, target: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """What a model or pipeline would do now: each step's result stands, or why it does not. Nothing is run."""
    steps, values = declared_steps(ws, target, params)
    scope = f"{ws.project.name}.{target}"
    planned = {p["step"]: p for p in ws.runner().plan(scope, steps)}
    found = []
    for i, step in enumerate(ordered(steps)):
        said = planned[step.name]
        latest = ws.ledger.get(LATEST, f"{scope}.{step.name}")
        result = ws.ledger.get(RESULT, latest["key"]) if latest is not None else None
        entry = {**_blank(step.name, i), **_from_declared(step), "state": "up to date" if said["fresh"] else "would run", "reason": said["reason"]}
        entry |= {"seconds": float(result["seconds"]), "cpu": float(result["cpu"])} if result is not None else {"seconds": None, "cpu": None}
        found.append(entry)
    stale = [s for s in found if s["state"] == "would run"]
    return {
        "project": ws.project.name, "target": {"kind": "model" if target in ws.project.models else "pipeline", "name": target},
        "made": iso(ws.clock.now()), "chain": [], "steps": found, "run": None, "params": values,
        "totals": {
            "steps": len(found), "states": dict(Counter(s["state"] for s in found)), "tasks": 0, "saved": 0.0, "hits": 0, "chain": 0.0,
            "expected": sum(s["seconds"] or 0.0 for s in stale), "unknown": sum(s["seconds"] is None for s in stale),
        },
    }  # fmt: skip


def declared_steps(ws: Workspace, target: str, params: Mapping[str, Any]) -> tuple[list[Step], dict[str, Any]]:
    """(the steps of a model or pipeline as it is declared now, a pipeline's parameters as texts). Raises NotFound, UsageError, ProjectError."""
    if target in ws.project.models:
        model = ws.project.models[target]
        deployed = promote.deployment(model.name, ws.ledger)
        champion = versions.get(model.name, deployed["champion"], ws.ledger) if deployed else None
        return build(ws, model, as_of=None, settings=None, champion=champion, cause={}), {}
    pipeline = ws.pipeline(target)
    values = declared.values(pipeline, params)
    return declared.steps_of(pipeline, values)[0], {k: str(v) for k, v in values.items()}


# Steps


def _blank(name: str, index: int) -> dict[str, Any]:
    return {
        "name": name, "index": index, "state": "", "reason": "", "seconds": None, "cpu": None, "needs": [], "inputs": {},
        "warnings": [], "failures": [], "tasks": None, "fan": False,
        "question": "", "started": "", "ended": "", "from": None, "to": None, "span": 0.0, "waited": None, "saved": None,
        "critical": False, "log": [], "traceback": "", **dict.fromkeys(_KEPT, ""),
    }  # fmt: skip


def _step(entry: Record, tasks: Sequence[Record], run: Record) -> dict[str, Any]:
    state = entry["status"]
    if state == "retry":
        state = "running"
    if state == "running" and run["status"] not in ("running",):
        state = "interrupted" if run["status"] == "interrupted" else "cancelled"
    inputs = dict(entry.get("inputs", {}))
    needs = [{"step": n, "kind": "input" if n in inputs.values() else "after"} for n in dict.fromkeys(entry.get("after", ()))]
    for need in needs:
        if need["step"] in entry.get("when", ()) or (state == "skipped" and str(entry.get("reason", "")).startswith(f"{need['step']} is ")):
            need["kind"] = "when"
    return {
        **_blank(entry["step"], int(entry["index"])), **{k: entry.get(k, "") for k in _KEPT}, "state": state, "reason": entry.get("reason", ""),
        "seconds": float(entry.get("seconds", 0.0)), "cpu": float(entry.get("cpu", 0.0)), "inputs": inputs, "needs": needs,
        "warnings": list(entry.get("warnings", ())), "failures": list(entry.get("failures", ())), "started": entry.get("started", ""),
        "ended": entry.get("ended", "") or max((t.get("ended", "") for t in tasks if state not in _LIVE), default=""),
        "fan": "tasks" in entry.body, "tasks": _tasks(entry, tasks) if "tasks" in entry.body else None,
    }  # fmt: skip


def _tasks(entry: Record, tasks: Sequence[Record]) -> dict[str, Any]:
    """A fan-out in short: how many of which state, how long they took, the slowest, and those that failed."""
    states = Counter(t["status"] for t in tasks)
    if entry["tasks"] > len(tasks):
        states["waiting" if entry["status"] in _LIVE else "not reached"] += entry["tasks"] - len(tasks)
    took = sorted(float(t.get("seconds", 0.0)) for t in tasks if t["status"] == "done")
    slow = sorted((t for t in tasks if t["status"] == "done"), key=lambda t: -float(t.get("seconds", 0.0)))[:5]
    failed = [t for t in tasks if t["status"] == "failed"]
    return {
        "count": int(entry["tasks"]), "states": dict(states), "seconds": sum(took), "cpu": sum(float(t.get("cpu", 0.0)) for t in tasks),
        "least": took[0] if took else None, "median": median(took) if took else None, "most": took[-1] if took else None,
        "slowest": [{"name": t["step"], "seconds": float(t["seconds"])} for t in slow] if len(took) > 1 else [],
        "failed": [{"name": t["step"], "error": t.get("error", "")} for t in failed[:_NAMED]],
        "retried": sum(int(t.get("attempt") or 1) > 1 for t in tasks),
    }  # fmt: skip


def _from_declared(step: Step) -> dict[str, Any]:
    kinds: dict[str, str] = dict.fromkeys(step.after, "after")
    kinds.update({c.input: "when" for c, _ in step.when if isinstance(c, Slot)})
    kinds.update(dict.fromkeys(step.inputs.values(), "input"))
    elements = step.params.get(step.over) if step.over else None
    count = len(elements) if isinstance(elements, Sequence) and not isinstance(elements, str | bytes) else 0
    told = {
        "count": count, "states": {}, "seconds": 0.0, "cpu": 0.0, "least": None, "median": None, "most": None, "slowest": [], "failed": [],
        "retried": 0,
    }  # fmt: skip
    return {
        "needs": [{"step": n, "kind": kinds[n]} for n in dict.fromkeys(step.needs())], "inputs": dict(step.inputs), "fan": bool(step.over),
        "question": step.question, "tasks": told if step.over else None,
    }  # fmt: skip


def _not_reached(ws: Workspace, run: Record, steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the project declares for this run and it has no record of; also tells conditions from mere order in the steps it has. Changes `steps`."""
    request = run.get("request") or {}
    ended = run["status"] == "done"
    try:
        if "pipeline" in request:
            now = declared_steps(ws, request["pipeline"], request.get("params", {}))[0]
        elif request.get("model") and not ended:
            now = declared_steps(ws, request["model"], {})[0]
        else:
            return []
        now = needed(ordered(now), request.get("until", ()))
    except TreadleError:  # the project has changed since; the record says what it says
        return []
    by_name = {s.name: s for s in now}
    for s in steps:
        step = by_name.get(s["name"])
        if step is not None and set(step.needs()) == {n["step"] for n in s["needs"]}:
            fresh = _from_declared(step)
            s.update(needs=fresh["needs"], question=fresh["question"], fan=s["fan"] or fresh["fan"])
    if ended or any(s["name"] not in by_name for s in steps):
        return []
    had = {s["name"] for s in steps}
    state = "waiting" if run["status"] in ("running", "waiting") else "not reached"
    found = []
    for i, step in enumerate(now):
        if step.name not in had:
            reason = f"after {', '.join(dict.fromkeys(step.needs()))}" if step.needs() and state == "waiting" else ""
            found.append({**_blank(step.name, i), **_from_declared(step), "tasks": None, "state": state, "reason": reason})
    return found


# Times


def _times(s: dict[str, Any], began: float, now: float, approval: Record | None) -> None:
    """Begin and end, in seconds since the run began."""
    if approval is not None:  # a person's time: from the question to the answer
        s["from"] = _second(approval.created_at) - began
        s["to"] = (now if approval["status"] == "waiting" else _second(approval.get("at") or approval.updated_at)) - began
        s["question"] = approval["question"]
    elif s["started"]:
        s["from"] = _second(s["started"]) - began
        s["to"] = _second(s["ended"]) - began if s["ended"] else now - began if s["state"] == "running" else s["from"] + (s["seconds"] or 0.0)
    if s["from"] is not None:
        s["to"] = max(s["from"], s["to"])
        s["span"] = s["to"] - s["from"]


def _follow(steps: Sequence[dict[str, Any]], by_name: Mapping[str, dict[str, Any]]) -> None:
    """How long each waited between the end of its needs and its start; where those that took no time stand."""
    for s in _in_order(steps, by_name):
        ready = max((by_name[n["step"]]["to"] or 0.0 for n in s["needs"]), default=0.0)
        if s["from"] is None:
            if s["state"] in ("reused", "skipped", "done", "rejected"):
                s["from"] = s["to"] = ready
        elif not s["question"]:
            s["waited"] = max(0.0, s["from"] - ready - sum(float(f.get("seconds", 0.0)) for f in s["failures"]))


def _chain(steps: Sequence[dict[str, Any]], by_name: Mapping[str, dict[str, Any]]) -> list[str]:
    """The critical path: of all chains of steps that need one another, the one whose own times add up to most. Marks its steps."""
    far: dict[str, float] = {}
    by: dict[str, str] = {}
    for s in _in_order(steps, by_name):
        before = max((n["step"] for n in s["needs"]), key=lambda n: far[n], default="")
        far[s["name"]] = s["span"] + far.get(before, 0.0)
        by[s["name"]] = before
    name = max(far, key=lambda n: far[n], default="")
    if not name or far[name] <= 0:
        return []
    chain = []
    while name and far[name] > 0:
        chain.append(name)
        by_name[name]["critical"] = True
        name = by[name]
    return chain[::-1]


def _in_order(steps: Sequence[dict[str, Any]], by_name: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [by_name[name] for name in TopologicalSorter({s["name"]: [n["step"] for n in s["needs"]] for s in steps}).static_order()]


def _saved(s: Mapping[str, Any], tasks: Iterable[Record], ledger: Ledger) -> float | None:
    """Seconds that the results which were used again had taken to make; None where none was."""
    keys = [s["key"]] if s["state"] == "reused" else [t["key"] for t in tasks if t["status"] == "reused"]
    found = [ledger.get(RESULT, key) for key in keys if key]
    return sum(float(r["seconds"]) for r in found if r is not None) if found else None


def _hits(s: Mapping[str, Any]) -> int:
    return int(s["state"] == "reused") or int(s["tasks"]["states"].get("reused", 0) if s["tasks"] else 0)


# Logs


def _logs(
    ws: Workspace, steps: Sequence[dict[str, Any]], entries: Mapping[str, Record], tasks: Mapping[str, Sequence[Record]], tail: int
) -> None:  # fmt: skip
    """The ends of the logs, and tracebacks, as many as `LONGEST` lets in; what failed first."""
    left = LONGEST
    for s in sorted(steps, key=lambda s: s["state"] not in ("failed", "interrupted")):
        own = entries.get(s["name"])
        failed = next((t for t in tasks.get(s["name"], ()) if t["status"] == "failed"), None)
        shown = failed or own
        if shown is None or left <= 0:
            continue
        s["traceback"] = str(shown.get("traceback", ""))[-min(_TRACE, left) :]
        left -= len(s["traceback"])
        if shown.get("log") or s["state"] in ("running", "interrupted", "cancelled"):
            try:
                lines = log_text(shown, ws.blobs, ws.settings.home).splitlines()
            except TreadleError as error:
                lines = [f"[the log cannot be read: {error}]"]
            for line in reversed(lines[-tail:]):
                if left <= 0:
                    break
                s["log"].insert(0, line[:_LINE])
                left -= len(s["log"][0]) + 1
            s["lines"] = len(lines)
            s["log_of"] = shown["step"]


def _second(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
