"""What there is to see of features, gathered from the declarations, the record and the online store."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import polars as pl

from treadle.assemble import Workspace
from treadle.core.declare.features import Derived
from treadle.core.errors import NotFound, TreadleError, UsageError
from treadle.data import versions as data_versions
from treadle.features import graph
from treadle.registry import promote, versions
from treadle.wheel.steps import view_digest


def samples(ws: Workspace) -> dict[str, pl.DataFrame]:
    """The first rows of the newest version of each data set that a view computed by a function has as its source."""
    wanted = {v.source.name for v in ws.project.views.values() if v.function is not None}
    return {name: frame for name in wanted if (frame := sample(ws, name)) is not None}


def sample(ws: Workspace, dataset: str) -> pl.DataFrame | None:
    newest = data_versions.newest(dataset, ws.ledger)
    if newest is None or not ws.tables.exists(newest.address):
        return None
    return ws.tables.scan(newest.address).head(graph.SAMPLE).collect()


def answering(ws: Workspace) -> dict[str, list[int]]:
    """Model to the versions of it that answer."""
    found = {}
    for name in ws.project.models:
        deployed = promote.deployment(name, ws.ledger)
        if deployed is not None:
            found[name] = sorted({int(n) for n in (deployed["champion"], deployed["challenger"]) if n is not None})
    return found


def listed(ws: Workspace) -> list[dict[str, Any]]:
    """Every feature, with how fresh its online values are."""
    from treadle.wheel.materialise import standing

    fresh: dict[str, str] = {}
    for view in ws.project.views.values():
        try:
            stands = standing(ws, view)
            fresh[view.name] = "not online" if stands.newest is None else "stale" if stands.stale else _age(stands.age)
        except TreadleError as error:
            fresh[view.name] = f"unknown: {error.what}"
    return [
        {
            "feature": f.name, "of": f.of, "kind": f.kind, "owner": f.owner, "description": f.description, "columns": list(f.columns),
            "models": list(f.models), "fresh": fresh.get(f.of, "") if f.kind == "view" else "in the request",
        }
        for f in graph.features(ws.project, samples(ws))
    ]  # fmt: skip


def described(ws: Workspace, name: str) -> dict[str, Any]:
    """A view, or the view or model a feature is of. Raises NotFound."""
    project = ws.project
    view = project.views.get(name) or next((v for v in project.views.values() if name in v.feature_names()), None)
    if view is None:
        for model in project.models.values():
            for item in model.inputs:
                if isinstance(item, Derived) and item.name == name:
                    needs = list(item.columns)
                    return {"feature": name, "of model": model.name, "kind": item.rule[0], "computed as": graph.said(item), "from": ", ".join(needs)}
        known = [*project.views, *(i.name for m in project.models.values() for i in m.inputs if isinstance(i, Derived))]
        raise NotFound(f"There is no view or feature {name!r}.", hint=f"There are: {', '.join(known) or 'none'}. See: treadle features")
    rows = samples(ws).get(view.source.name)
    now = view_digest(view)
    used: dict[str, list[str]] = defaultdict(list)
    for model in project.models.values():
        for version in versions.all_versions(model.name, ws.ledger):
            digest = version["features"].get(view.name)
            if digest is not None:
                used[digest].append(f"{model.name} version {version['number']}")
    sort = "aggregates" if view.aggregates else "function" if view.function is not None else "latest values"
    return {
        "view": view.name, "description": view.description, "owner": view.owner, "sort": sort, "source": view.source.name,
        "entity": ", ".join(view.entity), "window": str(view.window or ""), "every": str(view.every or ""), "ttl": str(view.ttl or ""),
        "declared": view.place, "version": now,
        "features": [
            {
                "name": f, "columns": sorted(graph.columns_of(view, f, rows)), "description": view.descriptions.get(f, ""),
                "window": str(view.windows.get(f, view.window or "")),
            }
            for f in view.feature_names()
        ],
        "versions": [{"digest": d, "now": d == now, "used_by": used.get(d, [])} for d in dict.fromkeys([now, *used])],
    }  # fmt: skip


def graph_of(ws: Workspace) -> list[tuple[str, str]]:
    return graph.edges(ws.project, answering(ws), samples(ws))


def broken_by(ws: Workspace, column: str) -> list[graph.Use]:
    """What breaks without 'dataset.column'. Raises UsageError, NotFound."""
    dataset, dot, name = column.partition(".")
    if not dot or not name:
        raise UsageError(f"{column!r} names no column.", hint="Write DATASET.COLUMN, for example flights.distance")
    return graph.uses(ws.project, dataset, name, sample(ws, dataset), answering(ws))


def tree(edges: Sequence[tuple[str, str]]) -> list[str]:
    """The graph as indented lines: each model, below it what it stands on."""
    below: dict[str, list[str]] = defaultdict(list)
    above: dict[str, list[str]] = defaultdict(list)
    for a, b in edges:
        below[b].append(a)
        above[a].append(b)
    lines: list[str] = []

    def add(node: str, depth: int) -> None:
        lines.append("  " * depth + node.replace(":", " ", 1))
        for child in sorted(below[node], key=lambda n: (n.startswith("column:"), n)):
            add(child, depth + 1)

    for root in sorted(n for n in below if not above[n]):
        add(root, 0)
    return lines


def drawn(project: str, edges: Sequence[tuple[str, str]]) -> str:
    """The graph as one page without scripts: a column each for data, features, formulas, models and versions, joined by curves."""
    stages = ["column", "feature", "formula", "model", "version"]
    nodes = list(dict.fromkeys(n for edge in edges for n in edge))
    place: dict[str, tuple[int, int]] = {}
    for i, stage in enumerate(stages):
        for j, node in enumerate(sorted(n for n in nodes if n.startswith(f"{stage}:"))):
            place[node] = (20 + i * 300, 50 + j * 30)
    width, height = 20 + len(stages) * 300, 80 + max((y for _, y in place.values()), default=0)
    parts = []
    for a, b in edges:
        (x1, y1), (x2, y2) = place[a], place[b]
        x1, y1, y2 = x1 + 240, y1 + 11, y2 + 11
        bend = (x2 - x1) / 2
        parts.append(f'<path d="M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}" fill="none" stroke="#9aa7b5"/>')
    for node, (x, y) in place.items():
        name = node.partition(":")[2]
        short = html.escape(name if len(name) <= 34 else name[:31] + "...")
        parts.append(
            f'<g><title>{html.escape(node)}</title><rect x="{x}" y="{y}" width="240" height="22" rx="4" fill="#f4f6f8" stroke="#5b6b7b"/>'
            f'<text x="{x + 8}" y="{y + 15}">{short}</text></g>'
        )
    heads = "".join(f'<text x="{20 + i * 300}" y="30" font-weight="bold">{s}s</text>' for i, s in enumerate(stages))
    title = html.escape(f"Features of {project}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>'
        f'<body style="font-family:sans-serif"><h1>{title}</h1><svg role="img" aria-label="{title}" width="{width}" height="{height}" font-size="13">'
        f"{heads}{''.join(parts)}</svg></body></html>\n"
    )


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "holds always"
    for size, word in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word} old"
    return f"{seconds:.0f} seconds old"
