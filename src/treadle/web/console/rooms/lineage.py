"""Lineage, a step at a time: what a thing comes from and what it led to, from data to prediction and back, drawn and as a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from treadle.assemble import Workspace
from treadle.core.errors import Forbidden, NotFound, TreadleError
from treadle.core.records import Ref
from treadle.data import versions as data_versions
from treadle.pipelines.run import RUN
from treadle.registry import versions
from treadle.report.things import exists
from treadle.review.subjects import KINDS, titled
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.places import page_of, permission_of

EACH = 12  # neighbours on a side
PREDICTIONS = 5  # of a version
WIDE, HIGH, GAP, APART = 250, 46, 14, 330  # of the drawing, in its own units
Step = tuple[str, Ref]


def lineage(asked: Asked) -> dict[str, Any]:
    """What a thing comes from, and what it led to: the nearest of each. Raises NotFound; Forbidden for what one may not see."""
    ws, ref = asked.ws, Ref(asked["kind"], asked["id"])
    if ref.kind not in KINDS:
        raise NotFound(f"There is no kind {ref.kind!r} to follow.", hint=f"Kinds are: {', '.join(KINDS)}.")
    if not asked.person.may(permission_of(ref)):
        raise Forbidden(f"You may not see this: it needs the permission {permission_of(ref)!r}.")
    sees = asked.person.may("predictions.see")
    try:
        there = exists(ref, ws)
    except TreadleError:
        there = False
    if not there:
        raise NotFound(f"There is no {titled(ref)}.")
    before = _once([*[(link.relation, link.target) for link in ws.ledger.links(ref)], *_made_from(ws, ref)])
    after = _once([*[(link.relation, link.source) for link in ws.ledger.links(ref, back=True)], *_led_to(ws, ref, sees)])
    return {
        **_node(asked, "", ref), "before": [_node(asked, *s) for s in before[:EACH]], "after": [_node(asked, *s) for s in after[:EACH]],
        "more_before": max(0, len(before) - EACH), "more_after": max(0, len(after) - EACH),
    }  # fmt: skip


def _once(steps: Sequence[Step]) -> list[Step]:
    """Each neighbour once, the newest link first."""
    return list({ref: (relation, ref) for relation, ref in reversed(steps)}.values())


def _made_from(ws: Workspace, ref: Ref) -> list[Step]:
    """What is known beside the links: of what a thing is a version, and what answered."""
    if ref.kind == "prediction":
        found = ws.predictions.get(ref.id)
        return [("answered by", Ref(versions.KIND, versions.version_id(found.model, found.version)))] if found is not None else []
    record = ws.ledger.get(ref.kind, ref.id)
    if ref.kind == versions.KIND and record is not None:
        return [("version of", Ref("model", record["model"]))]
    if ref.kind == data_versions.KIND and record is not None:
        return [("version of", Ref("dataset", record["dataset"]))]
    if ref.kind == "model" and ref.id in ws.project.models:
        declared = ws.project.models[ref.id]
        return [("learns from", Ref("dataset", d)) for d in dict.fromkeys([declared.rows.name, *(v.source.name for v in declared.views)])]
    return []


def _led_to(ws: Workspace, ref: Ref, sees: bool) -> list[Step]:
    """What is known beside the links: the newest versions of a thing, and the newest answers of a version."""
    if ref.kind == "dataset":
        found = ws.ledger.find(data_versions.KIND, {"dataset": ref.id}, newest_first=True, limit=EACH)
        models = [m.name for m in ws.project.models.values() if ref.id in {m.rows.name, *(v.source.name for v in m.views)}]
        return [*(("version of", Ref(r.kind, r.id)) for r in reversed(found)), *(("learns from", Ref("model", n)) for n in models)]
    if ref.kind == "model":
        found = ws.ledger.find(versions.KIND, {"model": ref.id}, newest_first=True, limit=EACH)
        deployed = [("deployment of", Ref(versions.DEPLOYMENT, ref.id))] if ws.ledger.get(versions.DEPLOYMENT, ref.id) else []
        return [*(("version of", Ref(r.kind, r.id)) for r in reversed(found)), *deployed]
    if ref.kind == versions.KIND and sees:
        model, _, number = ref.id.rpartition(".v")
        newest = [p for p in ws.predictions.last(model, 200) if str(p.version) == number][:PREDICTIONS]
        return [("answered by", Ref("prediction", p.id)) for p in reversed(newest)]
    if ref.kind == "alarm":
        record = ws.ledger.get(ref.kind, ref.id)
        return [("answered by", Ref(RUN, record["reaction"]))] if record is not None and record["reaction"] else []
    return []


def _node(asked: Asked, relation: str, ref: Ref) -> dict[str, Any]:
    """A thing with its page and the way on; without both where it is none that is followed, or nothing that whoever asks may see."""
    open_to = ref.kind in KINDS and asked.person.may(permission_of(ref))
    return {
        "relation": relation.replace("_", " "), "kind": ref.kind, "id": ref.id, "noun": KINDS.get(ref.kind, (ref.kind.replace("_", " "), False))[0],
        "page": page_of(ref) if open_to else "", "follow": f"/lineage/{ref.kind}/{quote(ref.id, safe='')}" if open_to else "",
    }  # fmt: skip


def drawn(given: Mapping[str, Any]) -> dict[str, Any]:
    """Boxes and lines: what it comes from at the left, itself in the middle, what it led to at the right."""
    rows = max(len(given["before"]), len(given["after"]), 1)
    height = rows * (HIGH + GAP) + GAP
    middle = height / 2 - HIGH / 2
    boxes, lines = [_box(given, APART + 10, middle, "here")], []
    for side, x in (("before", 10), ("after", 2 * APART + 10)):
        nodes = given[side]
        start = (height - len(nodes) * (HIGH + GAP) + GAP) / 2
        for i, node in enumerate(nodes):
            y = start + i * (HIGH + GAP)
            boxes.append(_box(node, x, y, "off"))
            left, right = (x + WIDE, APART + 10) if side == "before" else (APART + 10 + WIDE, x)
            a, b = (y, middle) if side == "before" else (middle, y)
            bend = (left + right) / 2
            lines.append(f"M{left} {a + HIGH / 2:.1f}C{bend} {a + HIGH / 2:.1f} {bend} {b + HIGH / 2:.1f} {right} {b + HIGH / 2:.1f}")
    return {"width": 2 * APART + WIDE + 20, "height": height, "boxes": boxes, "lines": lines}


def _box(node: Mapping[str, Any], x: float, y: float, tone: str) -> dict[str, Any]:
    id = node["id"]
    label = id if len(id) <= 30 else id[:14] + "…" + id[-14:]
    said = f"{node['relation']}: {node['noun']} {id}" if node["relation"] else f"{node['noun']} {id}"
    href = node["page"] if tone == "here" else node["follow"]
    return {"x": x, "y": round(y, 1), "label": label, "second": node["noun"] + (f", {node['relation']}" if node["relation"] else ""), "said": said,
            "href": href, "tone": "look" if tone == "here" else "reused"}  # fmt: skip


def _page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "lineage.html", {"d": given, "p": drawn(given), "about": f"{given['kind']}/{given['id']}"}


OPERATIONS = [
    Operation("lineage.see", "/lineage/{kind}/{id}", "models.see", lineage, "What a thing comes from and led to, one step each way.", page=_page),
]  # fmt: skip
