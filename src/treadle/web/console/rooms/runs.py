"""Runs: what was done, step by step, with times, logs and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle.assemble import Workspace
from treadle.core.errors import NotFound
from treadle.core.records import Record
from treadle.pipelines.run import RUN
from treadle.registry import versions
from treadle.report import drawn
from treadle.report.graph import graph_of_run
from treadle.report.happened import seconds_of
from treadle.web.console.operation import LONGEST, Asked, Operation, Pages, listed


class Wanted(Pages, frozen=True, kw_only=True):
    """Which runs."""

    scope: str = ""
    status: str = ""


def runs(asked: Asked) -> dict[str, Any]:
    """The newest runs, a page of them."""
    where = {k: v for k, v in (("scope", asked.query.scope), ("status", asked.query.status)) if v}
    return listed(asked.ws, RUN, where or None, asked.query, told)


def run(asked: Asked) -> dict[str, Any]:
    """One run with its graph: steps, times, reasons and the ends of logs. Raises NotFound."""
    ws, found = asked.ws, known(asked.ws, RUN, asked["run"], "run")
    made = [{"id": v.id, "model": v["model"], "number": v["number"], "status": v["status"]} for v in ws.ledger.find(versions.KIND, {"run": found.id})]
    return {**told(found), "error": found.get("error", ""), "versions": made, "graph": graph_of_run(ws, found, tail=LONGEST)}


def told(record: Record) -> dict[str, Any]:
    """A run in a line."""
    wanted = ("scope", "cause", "status", "started")
    return {
        "id": record.id,
        **{k: record[k] for k in wanted},
        "ended": record.get("ended", ""),
        "by": record.get("by", ""),
        "seconds": seconds_of(record),
    }


def known(ws: Workspace, kind: str, id: str, noun: str) -> Record:
    """A record. Raises NotFound."""
    found = ws.ledger.get(kind, id)
    if found is None:
        raise NotFound(f"There is no {noun} {id!r}.")
    return found


def _list(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "runs.html", {"runs": given["items"], "next": given["next"], "query": asked.query}


def _one(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "run.html", {"run": given, **drawn.shown(given["graph"])}


OPERATIONS = [
    Operation("runs.list", "/runs", "runs.see", runs, "The runs, newest first.", query=Wanted, page=_list),
    Operation("runs.see", "/runs/{run}", "runs.see", run, "One run: its steps with times, reasons and logs.", page=_one),
]
