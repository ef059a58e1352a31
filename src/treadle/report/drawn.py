"""A collected graph as things to draw: boxes and lines in rows that fit a page, and the bars of a timeline. Too many for a picture are summed up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from html import escape
from itertools import pairwise
from typing import Any
from unicodedata import east_asian_width

from treadle.report.layout import Edge, Node, Place, layout
from treadle.report.show import count as counted
from treadle.report.show import seconds as lasting

MOST = 400  # boxes in one picture, bars in one timeline
ROWS = 1_000  # rows of the table of steps
BUDGET = 600_000  # characters of logs, tracebacks and lists on the page, as they are written there
WIDE, ROW = 1180.0, 1240.0  # of the timeline; of a row of boxes, at most
WIDTH, HEIGHT, TALL = 204.0, 70.0, 88.0
TONES = {
    "done": "good", "up to date": "good", "reused": "reused", "failed": "bad", "interrupted": "bad", "rejected": "bad", "cancelled": "bad",
    "running": "look", "waiting": "look", "would run": "look", "skipped": "off", "not reached": "off",
}  # fmt: skip
ORDER = tuple(TONES)  # states, as they stand in a bar of states
KINDS = {"input": "takes its result", "when": "runs on its condition", "after": "only comes after it"}
_LANE, _LABEL, _TOLD, _BREAK, _BREAKS = 26.0, 230.0, 250.0, 26.0, 6


def shown(d: Mapping[str, Any]) -> dict[str, Any]:
    """What the template asks for: `d` itself, the picture, the timeline, the rows of the table."""
    units = _units(d["steps"], d["chain"])
    rows = _rows(d["steps"])
    anchors = {s["name"]: f"step-{s['index']}" for s in rows}
    return {"d": d, "picture": picture(units, anchors), "timeline": timeline(units, anchors), "rows": rows, "left_out": len(d["steps"]) - len(rows)}


# What is drawn as one


def _units(steps: Sequence[Mapping[str, Any]], chain: Sequence[str]) -> list[dict[str, Any]]:
    """The steps as boxes; where there are more than `MOST`, alike ones in one box, then sub-pipelines, then neighbours."""
    named = {s["name"]: s["name"] for s in steps}
    if len(steps) > MOST:
        depth = _depths(steps)
        alike: dict[str, list[str]] = defaultdict(list)
        for s in steps:
            base, _, number = s["name"].rpartition("-")
            alike[f"{base if number.isdigit() and base else s['name']}, {depth[s['name']]}"].append(s["name"])
        named = {name: f"{members[0]}" for members in alike.values() for name in members}
        if len(set(named.values())) > MOST:
            for group in sorted({s["name"].rpartition("/")[0].split("/")[0] for s in steps if "/" in s["name"]}):
                tried = {name: f"{group}/" if name.startswith(f"{group}/") else unit for name, unit in named.items()}
                if _acyclic(steps, tried):
                    named = tried
        if len(set(named.values())) > MOST:
            deepest = max(depth.values()) + 1
            width = -(-deepest // MOST)
            named = {s["name"]: f"{depth[s['name']] // width}" for s in steps}
    members: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for s in steps:
        members[named[s["name"]]].append(s)
    pairs = {(named[b], named[a]) for a, b in pairwise(chain)}
    return [{**_unit(unit, some, named), "before": {a for b, a in pairs if b == unit}} for unit, some in members.items()]


def _unit(name: str, steps: Sequence[Mapping[str, Any]], named: Mapping[str, str]) -> dict[str, Any]:
    first = steps[0]
    kinds: dict[str, str] = {}
    for s in steps:
        for n in s["needs"]:
            if named[n["step"]] != name:
                kinds[named[n["step"]]] = "input" if "input" in (n["kind"], kinds.get(named[n["step"]])) else n["kind"]
    own = {
        "unit": name, "needs": kinds, "critical": any(s["critical"] for s in steps), "many": len(steps), "stack": len(steps) > 1 or first["fan"],
        "group": tuple(first["name"].split("/")[:-1]) if len(steps) == 1 or not name.endswith("/") else (),
    }  # fmt: skip
    if len(steps) == 1:
        keys = ("name", "state", "reason", "seconds", "cpu", "from", "to", "span", "waited", "saved", "question", "tasks", "error")
        states = first["tasks"]["states"] if first["tasks"] else {}
        return {**own, **{k: first[k] for k in keys}, "states": states, "of": first["tasks"]["count"] if first["tasks"] else 0, "noun": "task"}
    states = dict(Counter(s["state"] for s in steps))
    worst = next(s for s in ("failed", "interrupted", "rejected", "cancelled", "running", "waiting", "would run", *ORDER) if s in states)
    times = [s for s in steps if s["from"] is not None]
    if not name.endswith("/"):
        own["group"] = own["group"] if len({s["name"].rpartition("/")[0] for s in steps}) == 1 else ()
    return {
        **own, "name": name[:-1] if name.endswith("/") else f"{first['name']} … {steps[-1]['name']}", "state": worst, "reason": "", "error": "",
        "seconds": sum(s["seconds"] or 0.0 for s in steps), "cpu": sum(s["cpu"] or 0.0 for s in steps),
        "from": min((s["from"] for s in times), default=None), "to": max((s["to"] for s in times), default=None),
        "span": sum(s["span"] for s in steps), "waited": None, "saved": sum(s["saved"] or 0.0 for s in steps) or None, "question": "", "tasks": None,
        "states": states, "of": len(steps), "noun": "step", "first": first["name"],
    }  # fmt: skip


def _depths(steps: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    needs = {s["name"]: [n["step"] for n in s["needs"]] for s in steps}
    depth: dict[str, int] = {}
    for name in TopologicalSorter(needs).static_order():
        depth[name] = 1 + max((depth[n] for n in needs[name]), default=-1)
    return depth


def _acyclic(steps: Sequence[Mapping[str, Any]], named: Mapping[str, str]) -> bool:
    needs: dict[str, set[str]] = defaultdict(set)
    for s in steps:
        needs[named[s["name"]]].update(named[n["step"]] for n in s["needs"] if named[n["step"]] != named[s["name"]])
    try:
        TopologicalSorter(needs).prepare()
    except CycleError:
        return False
    return True


# The picture


def picture(units: Sequence[Mapping[str, Any]], anchors: Mapping[str, str]) -> dict[str, Any]:
    """Rows of boxes, frames and lines, each row with the part of the plane it shows; and what is marked how, for the legend."""
    by_unit = {u["unit"]: u for u in units}
    nodes = [Node(u["unit"], WIDTH, TALL if u["stack"] else HEIGHT, u["group"]) for u in units]
    edges = [Edge(source, u["unit"], kind, source in u["before"]) for u in units for source, kind in u["needs"].items()]
    placed = layout(nodes, edges)
    boxes = [_box(by_unit[p.name], p, anchors, framed=bool(placed.frames)) for p in placed.boxes]
    rows = []
    for start, end in _cuts(placed.boxes, placed.width) if boxes else ():
        mine = [b for b in boxes if start <= b["x"] < end]
        lines = [p for p in placed.lines if p.x1 < end and p.x2 > start]
        frames = [f for f in placed.frames if any(f.x <= b["x"] < f.x + f.width and f.y <= b["y"] < f.y + f.height for b in mine)]
        ys = [*(b["y"] for b in mine), *(f.y for f in frames), *(min(p.y1, p.y2) for p in lines)]
        ye = [*(b["y"] + b["height"] for b in mine), *(f.y + f.height for f in frames), *(max(p.y1, p.y2) for p in lines)]
        top, bottom = min(ys) - 8, max(ye) + 12
        rows.append({
            "x": round(start, 1), "y": round(top, 1), "width": round(end - start, 1), "height": round(bottom - top, 1), "boxes": mine,
            "frames": [
                {"x": _n(f.x), "y": _n(f.y), "width": _n(f.width), "height": _n(f.height), "left": _n(max(f.x, start) + 12),
                 "label": _cut(f.name.rpartition("/")[2], 40), "name": f.name} for f in frames
            ],
            "lines": [{"kind": p.kind, "d": _path(p), "strong": p.strong} for p in sorted(lines, key=lambda p: p.strong)],
            "tips": "".join(f"M{_n(x - 8)} {_n(y - 4.5)}l8 4.5l-8 4.5z" for x, y in sorted({(p.x2, p.y2) for p in lines if p.ends and p.x2 < end})),
        })  # fmt: skip
    states = Counter(u["state"] for u in units) + Counter(s for u in units for s in u["states"])
    return {
        "rows": rows, "states": [s for s in ORDER if states[s]], "kinds": [k for k in KINDS if any(e.kind == k for e in edges)],
        "critical": any(u["critical"] for u in units), "summed": sum(u["many"] for u in units if u["many"] > 1), "boxes": len(units),
    }  # fmt: skip


def _cuts(boxes: Sequence[Place], width: float) -> list[tuple[float, float]]:
    """Where the picture is cut into rows: between columns of boxes, so that a row is about as wide as a page."""
    if width <= ROW * 1.2:
        return [(-8.0, width + 12)]
    edges: list[float] = []  # right ends of stretches no box stands beyond
    right = 0.0
    for box in sorted(boxes, key=lambda b: b.x):
        if box.x > right and right:
            edges.append(right)
        right = max(right, box.x + box.width)
    cuts, start, last = [], -8.0, -8.0
    for edge in [*edges, width]:
        if edge - start > ROW and last > start:
            cuts.append((start, last + 14))
            start = last + 14
        last = edge
    return [*cuts, (start, width + 12)]


def _path(p: Any) -> str:
    x2 = p.x2 - 7 if p.ends else p.x2
    middle = (p.bend + x2) / 2
    level = f"H{_n(p.bend)}" if p.bend > p.x1 else ""
    return f"M{_n(p.x1)} {_n(p.y1)}{level}C{_n(middle)} {_n(p.y1)} {_n(middle)} {_n(p.y2)} {_n(x2)} {_n(p.y2)}" + (f"H{_n(p.x2)}" if p.ends else "")


def _box(u: Mapping[str, Any], p: Place, anchors: Mapping[str, str], framed: bool) -> dict[str, Any]:
    own = u["name"].split("/")[-1] if u["many"] == 1 and framed else u["name"]
    second = u["state"] if u["many"] == 1 else f"{u['many']:,} steps"
    if u["seconds"] is not None and (u["state"] in ("done", "failed", "interrupted", "cancelled") or u["many"] > 1):
        second += f" · {lasting(u['seconds'] or u['span'])}"
    elif u["saved"]:
        second += f" · saved {lasting(u['saved'])}"
    elif u["seconds"] is not None and u["state"] in ("would run", "up to date"):
        second += f" · {lasting(u['seconds'])} last"
    elif u["span"]:
        second += f" · {lasting(u['span'])}"
    third = _why(u)
    if u["tasks"]:
        of = f"{u['of']:,} task{'' if u['of'] == 1 else 's'}" if u["of"] else "a task for each element"
        third = f"{of}: {third}" if third else of
    return {
        "x": _n(p.x), "y": _n(p.y), "width": _n(p.width), "height": _n(p.height), "tone": TONES.get(u["state"], "off"), "stack": u["stack"],
        "critical": u["critical"], "name": u["name"], "label": _fit(own, 9.2), "second": _fit(second, 8.2, end=True),
        "third": _fit(third, 7.0, end=True), "bar": _bar(u["states"], p), "href": anchors.get(u.get("first", u["name"]), ""), "said": sentence(u),
    }  # fmt: skip


def _why(u: Mapping[str, Any]) -> str:
    return str(u["error"] or u["question"] or u["reason"] or ("nothing it depends on changed" if u["state"] == "reused" else ""))


def _fit(text: str, each: float, *, end: bool = False) -> str:
    """What of a text fits a box, where an ordinary letter takes `each`: without its middle, or its end."""
    room = (WIDTH - 24) / each
    line = " ".join(text[:400].split())
    most = max(4, int(len(line) * room / max(room, sum(map(_broad, line)))))
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…" if end else _cut(line, most)


def _broad(letter: str) -> float:
    if east_asian_width(letter) in "WF":
        return 1.7
    if letter in "iljtfI.,:;'|![]() ":
        return 0.7
    return 1.35 if letter in "mw@%<>=+~#&" or letter.isupper() else 1.0


def _bar(states: Mapping[str, int], p: Place) -> list[dict[str, Any]]:
    """A bar of states along the lower edge of a box: each at least 2 wide, so that one failed task of thousands is seen."""
    total = sum(states.values())
    if not total:
        return []
    wide, known = p.width - 24, [s for s in ORDER if states.get(s)]
    free = wide - 2 * len(known)
    x, found = p.x + 14, []
    for state in known:
        width = 2 + free * states[state] / total
        found.append({"tone": TONES[state], "x": _n(x), "width": _n(width), "state": state, "count": states[state]})
        x += width
    return found


def sentence(u: Mapping[str, Any]) -> str:
    """A box in words, for who cannot see it."""
    parts = [f"{u['name']}: {u['state']}" if u["many"] == 1 else f"{u['name']}, {counted(u['many'])} steps"]
    if u["states"]:
        parts.append(", ".join(f"{counted(n)} {state}" for state, n in u["states"].items()))
    if u["seconds"]:
        parts.append(lasting(u["seconds"]))
    if u["saved"]:
        parts.append(f"saved {lasting(u['saved'])}")
    if u["critical"]:
        parts.append("on the longest chain")
    if _why(u):
        parts.append(_cut(_why(u), 200))
    return "; ".join(parts)


# The timeline


def timeline(units: Sequence[Mapping[str, Any]], anchors: Mapping[str, str]) -> dict[str, Any] | None:
    """A bar for each step that has times, in the order they began; long stretches in which nothing ran are cut out. None where no step has times."""
    timed = sorted((u for u in units if u["from"] is not None), key=lambda u: (u["from"], u["to"]))
    if not any(u["span"] for u in timed):
        return None
    at, ticks, breaks, width = _scale(timed)
    lanes = []
    for i, u in enumerate(timed):
        y = 30 + i * _LANE
        x, end = at(u["from"]), at(u["to"])
        lanes.append({
            "y": _n(y), "name": u["name"], "label": _cut(u["name"], 30), "tone": TONES.get(u["state"], "off"), "critical": u["critical"], "x": _n(x),
            "width": _n(max(2.0, end - x)), "mark": not u["span"], "wait": _n(at(max(0.0, u["from"] - u["waited"]))) if u["waited"] else None,
            "told": _told(u), "text": _n(max(2.0, end - x) + x + 7),
            "href": anchors.get(u.get("first", u["name"]), ""), "said": f"{sentence(u)}; began after {lasting(u['from'])}",
            "cpu": _n(min(1.0, u["cpu"] / u["span"]) * (end - x)) if u["cpu"] and u["span"] and u["many"] == 1 and not u["tasks"] else None,
        })  # fmt: skip
    return {"width": width, "height": _n(30 + len(lanes) * _LANE + 8), "lanes": lanes, "ticks": ticks, "breaks": breaks, "label": _LABEL}


def _told(u: Mapping[str, Any]) -> str:
    if u["state"] == "reused":
        return "reused" + (f", saved {lasting(u['saved'])}" if u["saved"] else "")
    if not u["span"]:
        return str(u["state"])
    said = lasting(u["span"]) if u["many"] == 1 else f"{lasting((u['to'] or 0) - (u['from'] or 0))}, {u['many']:,} steps"
    said += f" · CPU {lasting(u['cpu'])}" if u["cpu"] else ""
    said += f" · waited {lasting(u['waited'])}" if u["waited"] and u["waited"] >= 0.0005 else ""
    return said if u["state"] == "done" else f"{u['state']} · {said}"


def _scale(timed: Sequence[Mapping[str, Any]]) -> tuple[Callable[[float], float], list[dict[str, Any]], list[dict[str, Any]], float]:
    """From seconds to places. Stretches in which nothing ran, because a person slept before he approved, are cut out where they outweigh the rest."""
    spans = [(0.0, 0.0)]
    for u in timed:
        spans += [(u["from"], u["from"]), (u["to"], u["to"])] if u["question"] else [(u["from"], u["to"])]
    gaps, end = [], 0.0
    for a, b in sorted(spans):
        if a > end:
            gaps.append((end, a))
        end = max(end, b)
    left, long = end, []
    for a, b in sorted(gaps, key=lambda g: g[0] - g[1])[:_BREAKS]:
        if b - a > max(1.0, left * 0.4):
            left -= b - a
            long.append((a, b))
    long.sort()
    per = (WIDE - _LABEL - _TOLD - len(long) * _BREAK) / left if left > 0 else 0.0

    def at(moment: float) -> float:
        x = _LABEL + moment * per
        for a, b in long:
            if moment > a:
                x += (min(moment, b) - a) * (_BREAK / (b - a) - per)
        return x

    step = next((s for s in _steps() if left / s <= 8), left or 1.0)
    ticks: list[dict[str, Any]] = []
    for start, stop in zip([0.0, *(b for _, b in long)], [*(a for a, _ in long), end]):  # each begins to count anew
        n = 0 if stop > start else 1
        while start + n * step <= stop:
            if not n or at(start + n * step) - ticks[-1]["x"] > 56:
                ticks.append({"x": _n(at(start + n * step)), "text": f"{'+' if start else ''}{lasting(n * step) if n else '0'}"})
            n += 1
    breaks = [{"x": _n(at(a)), "width": _BREAK, "text": lasting(b - a)} for a, b in long]
    return at, ticks, breaks, WIDE


def _steps() -> list[float]:
    round_ = [m * 10.0**e for e in range(-4, 5) for m in (1, 2, 5)]
    hours = [10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 10800.0, 21600.0, 43200.0]
    return [*(s for s in round_ if s < 10), *hours, *(86400 * s for s in round_ if s >= 1)]


# The table


def _rows(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The steps of the table: all, or those that matter most, with as much of their logs as the page has room for."""
    matter = {"failed": 0, "interrupted": 0, "rejected": 0, "cancelled": 0, "running": 1, "waiting": 1, "would run": 2, "done": 2}
    kept = sorted(steps, key=lambda s: (matter.get(s["state"], 3), -s["span"], s["index"]))[:ROWS]
    left, found = BUDGET, []
    for s in kept:
        named = [str(n["step"]) for n in s["needs"]]
        size = sum(len(escape(t)) for t in [*s["log"], s["traceback"], str(s["error"]), *named, *map(str, s["warnings"])])
        short = {"log": [], "traceback": "", "needs": s["needs"][:5], "error": _cut(str(s["error"]), 200), "warnings": s["warnings"][:1]}
        found.append({**s, **(short if size > left else {}), "cut": size > left})
        left -= size if size <= left else 0
    return sorted(found, key=lambda s: s["index"])


def _cut(text: str, most: int) -> str:
    """On one line, and no longer: the middle goes, because both ends of a name tell it from others.

    >>> _cut("the_quick_brown_fox_jumps", 15)
    'the_quick…jumps'
    """
    line = " ".join(text.split())
    if len(line) <= most:
        return line
    tail = most // 3
    return f"{line[: most - tail - 1]}…{line[-tail:]}" if tail else line[:most]


def _n(value: float) -> float:
    return round(float(value), 1)
