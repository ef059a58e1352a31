"""Where the boxes of a graph stand and how its lines run: layers from left to right, sub-graphs in frames of their own. Pure arithmetic, no drawing.

The method is that of Sugiyama, Tagawa and Toda (1981): layers by the longest path, long lines led through their own places in the layers they pass,
order within a layer by sweeps of barycentres (the one with the fewest crossings is kept), heights by least squares under that order. A frame is laid
out first, by itself, and then stands in its surroundings as one box whose lines arrive and leave at the heights they have inside.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

GAP, STEEP, BETWEEN, PASS = 44.0, 50.0, 18.0, 10.0  # between layers, and that much more for steep lines; between boxes; of a passing line
PAD, TITLE = 16.0, 26.0  # of a frame
SWEEPS = 8
Port = tuple[str, str]  # a line is known by the box it comes from and its kind


@dataclass(frozen=True)
class Node:
    """A box to be placed. `group` is the path of the sub-graphs it is in, from the outside."""

    name: str
    width: float
    height: float
    group: tuple[str, ...] = ()


@dataclass(frozen=True)
class Edge:
    """A line from one box to another; `strong` ones are told apart in the result."""

    source: str
    target: str
    kind: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Place:
    """Where something stands: its left upper corner and its size. For a frame, `name` is its path joined by '/'."""

    name: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Line:
    """A piece of a line: from (x1, y1) level to x = bend, then in a curve to (x2, y2); x1 <= bend <= x2. `ends`: at a box; else it goes on."""

    kind: str
    x1: float
    y1: float
    bend: float
    x2: float
    y2: float
    ends: bool
    strong: bool


@dataclass(frozen=True)
class Layout:
    """All of it, from (0, 0)."""

    width: float
    height: float
    boxes: Sequence[Place]
    frames: Sequence[Place]
    lines: Sequence[Line]


def layout(nodes: Sequence[Node], edges: Sequence[Edge]) -> Layout:
    """Place a graph without cycles. The same graph in the same order gives the same picture. Raises ValueError for a cycle.

    Where one sub-graph both feeds and follows another, no frames can be drawn, and all boxes are placed on one level.
    """
    known = {n.name for n in nodes}
    edges = [e for e in dict.fromkeys(edges) if e.source in known and e.target in known]
    try:
        whole = _Frame((), nodes, edges)
    except ValueError:
        if not any(n.group for n in nodes):
            raise
        whole = _Frame((), [replace(n, group=()) for n in nodes], edges)
    return Layout(whole.width, whole.height, whole.boxes, whole.frames, whole.lines)


@dataclass
class _Item:
    """Something in a layer: a box, a frame, a place where a line enters or leaves the frame, or one where a line passes."""

    width: float
    height: float
    layer: int = 0
    y: float = 0.0
    inside: _Frame | None = None
    line: bool = False


class _Frame:
    """One level, laid out: places relative to its own corner, and the heights at which lines come in and go out."""

    def __init__(self, path: tuple[str, ...], nodes: Sequence[Node], edges: Sequence[Edge]) -> None:
        depth = len(path)
        self._items: dict[str, _Item] = {}
        self._of: dict[str, str] = {}
        inner: dict[str, list[Node]] = defaultdict(list)
        for node in nodes:
            self._of[node.name] = f"/{node.group[depth]}" if len(node.group) > depth else f"={node.name}"
            if len(node.group) > depth:
                inner[node.group[depth]].append(node)
            self._items.setdefault(self._of[node.name], _Item(node.width, node.height))
        for name, members in inner.items():
            mine = {n.name for n in members}
            frame = _Frame((*path, name), members, [e for e in edges if e.source in mine or e.target in mine])
            self._items[f"/{name}"] = _Item(frame.width, frame.height, inside=frame)
        links = self._links(edges)
        _layers(self._items, links)
        pieces = self._pieces(links)
        self._place(pieces, depth > 0)
        top, left = (TITLE, PAD) if depth else (0.0, 0.0)
        self._gather(path, pieces, left, top)

    def _links(self, edges: Sequence[Edge]) -> list[tuple[str, str, Port, bool]]:
        """The lines of this level, between items. Ends outside of the frame become places at its border."""
        found: dict[tuple[str, str, Port], bool] = {}
        for e in edges:
            port = (e.source, e.kind)
            a = self._of.get(e.source) or f"<{e.kind}:{e.source}"
            b = self._of.get(e.target) or f">{e.kind}:{e.source}"
            for border in (a, b):
                if border not in self._items:
                    self._items[border] = _Item(0.0, PASS, line=True)
            if a != b:
                found[a, b, port] = found.get((a, b, port), False) or e.strong
        return [(a, b, port, strong) for (a, b, port), strong in found.items()]

    def _pieces(self, links: Sequence[tuple[str, str, Port, bool]]) -> dict[tuple[str, str, Port], bool]:
        """The lines cut into pieces from one layer to the next; lines of one kind from one box share their way."""
        found: dict[tuple[str, str, Port], bool] = {}
        for a, b, port, strong in links:
            before = a
            for layer in range(self._items[a].layer + 1, self._items[b].layer):
                here = f"-{layer}:{port[1]}:{port[0]}"
                self._items.setdefault(here, _Item(0.0, PASS, layer, line=True))
                found[before, here, port] = found.get((before, here, port), False) or strong
                before = here
            found[before, b, port] = found.get((before, b, port), False) or strong
        return found

    def _place(self, pieces: Mapping[tuple[str, str, Port], bool], framed: bool) -> None:
        items = self._items
        rows: list[list[str]] = [[] for _ in range(1 + max((i.layer for i in items.values()), default=0))]
        for name, item in items.items():
            rows[item.layer].append(name)
        ahead: dict[str, list[tuple[str, float, float]]] = defaultdict(list)  # to: (other, height of the line's end here, and there)
        back: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
        for a, b, port in pieces:
            leaves, arrives = self._height(a, port, out=True), self._height(b, port, out=False)
            ahead[a].append((b, leaves, arrives))
            back[b].append((a, arrives, leaves))
        rows = _ordered(rows, ahead, back)
        for row in rows:
            y = 0.0
            for i, name in enumerate(row):
                y += _room(items[row[i - 1]], items[name]) if i else 0.0
                items[name].y = y
                y += items[name].height
        for sweep in range(SWEEPS):
            order = rows if sweep % 2 == 0 else rows[::-1]
            for row in order:
                both = sweep >= SWEEPS - 2
                wanted = []
                for name in row:
                    to = (back[name] if sweep % 2 == 0 else ahead[name]) if not both else [*back[name], *ahead[name]]
                    ys = [items[other].y + there - here for other, here, there in to]
                    wanted.append(sum(ys) / len(ys) if ys else items[name].y)
                for name, y in zip(row, _apart([items[n] for n in row], wanted)):
                    items[name].y = y
        top = min((i.y for i in items.values()), default=0.0)
        for item in items.values():
            item.y = round(item.y - top, 1)

    def _height(self, name: str, port: Port, *, out: bool) -> float:
        """How far below the top of an item a line leaves or arrives."""
        item = self._items[name]
        if item.inside is None:
            return item.height / 2
        return (item.inside.leaving if out else item.inside.arriving)[port]

    def _gather(self, path: tuple[str, ...], pieces: Mapping[tuple[str, str, Port], bool], left: float, top: float) -> None:
        items = self._items
        widths = [0.0] * (1 + max((i.layer for i in items.values()), default=0))
        for item in items.values():
            widths[item.layer] = max(widths[item.layer], item.width)
        steep = [0.0] * len(widths)
        ends_at = {
            (a, b, port): (items[a].y + self._height(a, port, out=True), items[b].y + self._height(b, port, out=False)) for a, b, port in pieces
        }  # fmt: skip
        for (a, _, _), (y1, y2) in ends_at.items():
            steep[items[a].layer] = max(steep[items[a].layer], abs(y2 - y1))
        starts = [left]
        for i, width in enumerate(widths[:-1]):
            border = (i == 0 and not width) or (i + 2 == len(widths) and not widths[-1])
            gap = GAP * (0.6 if border and path else 1.0) + min(STEEP, steep[i] / 8)
            starts.append(starts[-1] + width + gap)
        ends = starts[-1] + widths[-1]
        if path:  # what enters or leaves does so on the frame itself
            starts[0] = 0.0 if not widths[0] else starts[0]
            if not widths[-1]:
                starts[-1] = ends = ends + left
            else:
                ends += left
        self.width = ends
        self.height = max((i.y + i.height for i in items.values()), default=0.0) + top + (PAD if path else 0.0)
        self.arriving: dict[Port, float] = {}
        self.leaving: dict[Port, float] = {}
        self.boxes: list[Place] = []
        self.frames: list[Place] = []
        self.lines: list[Line] = []
        for name, item in items.items():
            x, y = starts[item.layer], item.y + top
            if item.inside is not None:
                inside = item.inside
                self.frames.append(Place("/".join((*path, name[1:])), x, y, item.width, item.height))
                self.frames += [replace(f, x=f.x + x, y=f.y + y) for f in inside.frames]
                self.boxes += [replace(b, x=b.x + x, y=b.y + y) for b in inside.boxes]
                self.lines += [replace(p, x1=p.x1 + x, bend=p.bend + x, x2=p.x2 + x, y1=p.y1 + y, y2=p.y2 + y) for p in inside.lines]
            elif not item.line:
                self.boxes.append(Place(name[1:], x, y, item.width, item.height))
        for (a, b, port), strong in pieces.items():
            one, two = items[a], items[b]
            y1, y2 = (y + top for y in ends_at[a, b, port])
            x1, x2 = starts[one.layer] + one.width, starts[two.layer]
            bend = max(x1, starts[one.layer] + widths[one.layer])
            self.lines.append(Line(port[1], x1, y1, bend, x2, y2, two.inside is None and not two.line, strong))
            if a.startswith("<"):
                self.arriving[port] = y1
            if b.startswith(">"):
                self.leaving[port] = y2


def _layers(items: Mapping[str, _Item], links: Sequence[tuple[str, str, Port, bool]]) -> None:
    """Give each item its layer: one after the last of those before it; first ones stand as late as they can; borders outermost."""
    ahead: dict[str, set[str]] = {name: set() for name in items}
    open_: dict[str, int] = dict.fromkeys(items, 0)
    for a, b, *_ in links:
        if b not in ahead[a]:
            ahead[a].add(b)
            open_[b] += 1
    first = {name for name in items if not open_[name]}
    entry = 1 if any(name.startswith("<") for name in items) else 0
    for name in first:
        items[name].layer = 0 if name.startswith("<") else entry
    ready, seen = list(first), 0
    while ready:
        name = ready.pop()
        seen += 1
        for after in ahead[name]:
            items[after].layer = max(items[after].layer, items[name].layer + 1)
            open_[after] -= 1
            if not open_[after]:
                ready.append(after)
    if seen < len(items):
        raise ValueError("The graph has a cycle.")
    last = max((i.layer for n, i in items.items() if not n.startswith(">")), default=0)
    for name, item in items.items():
        if name.startswith(">"):
            item.layer = last + 1
    for name in first:
        if not name.startswith("<") and ahead[name]:
            items[name].layer = min(items[after].layer for after in ahead[name]) - 1


def _ordered(
    rows: list[list[str]], ahead: Mapping[str, Sequence[tuple[str, float, float]]], back: Mapping[str, Sequence[tuple[str, float, float]]]
) -> list[list[str]]:
    """The rows in the order with the fewest crossings that the sweeps came by."""
    best, fewest = rows, _crossings(rows, ahead)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        rows = [list(row) for row in rows]
        at = {name: float(i) for row in rows for i, name in enumerate(row)}
        to = back if sweep % 2 == 0 else ahead
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            middle = {n: sum(at[o] for o, *_ in to[n]) / len(to[n]) if to.get(n) else at[n] for n in row}
            row.sort(key=lambda n: (middle[n], at[n]))
            at.update((name, float(i)) for i, name in enumerate(row))
        crossings = _crossings(rows, ahead)
        if crossings < fewest:
            best, fewest = rows, crossings
    return best


def _crossings(rows: Sequence[Sequence[str]], ahead: Mapping[str, Sequence[tuple[str, float, float]]]) -> int:
    at = {name: i for row in rows for i, name in enumerate(row)}
    count = 0
    for row in rows:
        seen: list[int] = []
        for name in row:
            targets = sorted(at[other] for other, *_ in ahead.get(name, ()))
            count += sum(len(seen) - bisect_right(seen, t) for t in targets)
            for t in targets:
                insort(seen, t)
    return count


def _room(a: _Item, b: _Item) -> float:
    return PASS if a.line and b.line else BETWEEN


def _apart(row: Sequence[_Item], wanted: Sequence[float]) -> list[float]:
    """The heights nearest to the wanted ones (least squares) at which the items of a row, in their order, keep apart: pool adjacent violators."""
    shift, offsets = 0.0, []
    for i, item in enumerate(row):
        shift += row[i - 1].height + _room(row[i - 1], item) if i else 0.0
        offsets.append(shift)
    pools: list[tuple[float, int]] = []  # (sum, how many)
    for want, offset in zip(wanted, offsets):
        pools.append((want - offset, 1))
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            (b, n), (a, m) = pools.pop(), pools.pop()
            pools.append((a + b, m + n))
    means = [total / n for total, n in pools for _ in range(n)]
    return [mean + offset for mean, offset in zip(means, offsets)]
