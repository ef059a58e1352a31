"""What is watched of a model: drift and quality by window with their limits, the outcomes of each window, and false alarms, tolerated and had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from treadle.assemble import Workspace
from treadle.core.clock import iso, parse_time
from treadle.core.errors import TreadleError
from treadle.core.records import Record
from treadle.monitoring import alarms
from treadle.registry import packages, promote, versions
from treadle.report import matured
from treadle.report.charts import Chart, charts, rolling
from treadle.web.console.operation import Asked, Operation

BLOCK = "block"  # of monitoring/watch.py; named here, so that a project without a watch need not bring the sketches
SHOWN = 120  # blocks
FEATURES = 3  # features whose drift is drawn
_SAYS = ("version", "rows", "matured", "loss", "expected_loss", "excess", "gap")


def monitors(asked: Asked) -> dict[str, Any]:
    """What the watch of a model saw, block by block, and how its truth came. Reads no prediction."""
    ws, model = asked.ws, asked.ws.model(asked["model"])
    watch, deployed = ws.watch_of(model), promote.deployment(model.name, ws.ledger)
    blocks = _blocks(ws, model.name)
    limits = _limits(ws, model.name, deployed)
    raised = ws.ledger.find(alarms.KIND, {"model": model.name}, newest_first=True, limit=50)
    state = ws.ledger.get("watch_state", model.name)
    return {
        "model": model.name, "watched": watch is not None, "kinds": list(watch.kinds) if watch else [],
        "every_seconds": watch.every.total_seconds() if watch else None, "label_seconds": watch.label_window.total_seconds() if watch else None,
        "false_alarms": limits["said"], "limits": limits["levels"], "single_limit": limits["moved"], "problem": limits["problem"],
        "open": list(state["state"]["open"]) if state is not None else [], "judged_to": iso(_day(int(state["next"]))) if state is not None else "",
        "blocks": blocks, "features": _features(blocks, limits["levels"], limits["moved"]), "truth": matured.told(ws, model, waiting=False),
        "alarms": [{"id": a.id, **{k: a[k] for k in ("kind", "severity", "status", "sentence", "raised", "reaction")}} for a in raised],
    }  # fmt: skip


def _blocks(ws: Workspace, model: str) -> list[dict[str, Any]]:
    """The newest judged blocks, oldest first."""
    found = sorted(ws.ledger.find(BLOCK, {"model": model}, newest_first=True, limit=SHOWN), key=lambda b: int(b["start"]))
    return [
        {"start": iso(_day(int(b["start"]))), "end": iso(_day(int(b["end"]))), **{k: b[k] for k in _SAYS}, "psi": dict(b.get("psi") or {}),
         "open": list(b.get("open") or [])}
        for b in found
    ]  # fmt: skip


def _limits(ws: Workspace, model: str, deployed: Record | None) -> dict[str, Any]:
    """The champion's own thresholds, and what false alarms are tolerated and were had."""
    found: dict[str, Any] = {"said": "", "levels": {}, "moved": None, "problem": ""}
    watch = ws.watch_of(ws.model(model))
    if watch is None or deployed is None:
        return found
    from treadle.monitoring.reference import read_reference
    from treadle.monitoring.thresholds import MOVED
    from treadle.monitoring.tolerated import rates

    version = versions.get(model, int(deployed["champion"]), ws.ledger)
    try:
        normal = read_reference(packages.open_package(version["package"], ws.blobs, ws.shelf)[0])
    except TreadleError as error:
        return {**found, "problem": error.what}
    if normal is None:
        return {**found, "problem": f"Version {version['number']} brings no thresholds of its own."}
    said = rates(watch, normal.thresholds, int(version["number"]))
    return {**found, "said": said, "levels": dict(normal.thresholds.block_levels), "moved": MOVED}


def _features(blocks: Sequence[Mapping[str, Any]], levels: Mapping[str, float], moved: float | None) -> list[dict[str, Any]]:
    """Features by how far the newest block has moved, the farthest first."""
    if not blocks:
        return []
    newest = blocks[-1]["psi"]
    rows = [
        {"name": n, "psi": v, "limit": levels.get(n), "beyond": v is not None and v > levels.get(n, moved or 1e9)} for n, v in newest.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda r: (r["psi"] is None, -(r["psi"] or 0.0)))


def around(ws: Workspace, alarm: Record) -> dict[str, Any] | None:
    """The chart of an alarm: loss beyond what was expected, or how far the feature that moved most has moved, block by block around its window."""
    blocks = [b for b in _blocks(ws, alarm["model"]) if alarm["version"] in (None, b["version"])]
    named = [name for name, _ in alarm["features"] if any(name in b["psi"] for b in blocks)]
    name = "excess" if alarm["kind"] in ("quality", "calibration") or not named else named[0]
    values = [b["excess"] if name == "excess" else b["psi"].get(name) for b in blocks]
    if sum(v is not None for v in values) < 3:
        return None
    label = "loss beyond what was expected" if name == "excess" else f"population stability index of {name}"
    series = [
        {"label": f"{label}, mean of 7", "values": rolling(values, [b["rows"] for b in blocks]), "style": "line", "color": "a"},
        {"label": "one block", "values": values, "style": "points", "color": "muted"},
    ]
    x = [_second(b["start"]) for b in blocks]
    end = _second(alarm["window"][1])
    marks = [{"x": end, "kind": "window", "label": "the window ends"}] if x[0] <= end <= x[-1] + 86_400 else []
    return {"title": label, "drawn": {"x": x, "time": True, "series": series, "marks": marks, "zero": name == "excess"}}


def _page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    blocks = given["blocks"]
    # What the report's charts ask for; drift is drawn here, by feature.
    asks = {"production": None, "blocks": [{**b, "psi": None} for b in blocks], "truth": given["truth"], "evaluations": [], "timeline": []}
    drawn = charts({**asks, "alarms": given["alarms"]})
    names = [f["name"] for f in given["features"][:FEATURES]]
    if len(blocks) > 2 and names:
        drawn["drift"] = _drift(blocks, names, given["single_limit"])
    about = {"about": f"model/{given['model']}", "declared_owner": asked.ws.project.owner}
    return "monitors.html", {"d": given, "charts": drawn, "drawn": names, **about}


def _drift(blocks: Sequence[Mapping[str, Any]], names: Sequence[str], moved: float | None) -> Chart:
    series: list[dict[str, Any]] = [
        {"label": _named(name), "values": [b["psi"].get(name) for b in blocks], "style": style, "color": color}
        for name, (color, style) in zip(names, (("a", "line"), ("b", "line"), ("a", "dashed")))
    ]
    if moved is not None:
        series.append({"label": f"another population ({moved:g})", "values": [moved] * len(blocks), "style": "dashed", "color": "muted"})
    return {"x": [_second(b["start"]) for b in blocks], "time": True, "series": series, "marks": []}


def _named(name: str) -> str:
    return "the answers" if name.startswith("@prediction") else name


def _second(text: str) -> int:
    return int(parse_time(text).timestamp())


def _day(at: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)


OPERATIONS = [
    Operation("monitors.see", "/monitors/{model}", "alarms.see", monitors, "What a watch sees: drift, quality, limits, false alarms.", page=_page),
]  # fmt: skip
