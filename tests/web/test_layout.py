"""A picture of a graph can be read: boxes do not lie on each other, lines go forward and around boxes, and the same graph looks the same each time."""

from __future__ import annotations

import time
from itertools import combinations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.report.layout import Edge, Layout, Node, Place, layout

GROUPS: list[tuple[str, ...]] = [(), ("a",), ("a", "b"), ("a",), ("c",), ()]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Node], list[Edge]]:
    """Steps in an order they can run in, in nested sub-graphs that follow one another, with lines of two kinds."""
    count = draw(st.integers(1, 24))
    grouped = draw(st.booleans())
    nodes = [
        Node(f"s{i}", draw(st.sampled_from([90.0, 140.0])), draw(st.sampled_from([40.0, 60.0])), GROUPS[i * len(GROUPS) // count] if grouped else ())
        for i in range(count)
    ]
    pairs = draw(st.sets(st.sampled_from(list(combinations(range(count), 2))), max_size=60)) if count > 1 else set()
    return nodes, [Edge(f"s{a}", f"s{b}", draw(st.sampled_from(["x", "y"])), draw(st.booleans())) for a, b in sorted(pairs)]


def apart(a: Place, b: Place) -> bool:
    return a.x + a.width <= b.x + 1e-6 or b.x + b.width <= a.x + 1e-6 or a.y + a.height <= b.y + 0.2 or b.y + b.height <= a.y + 0.2


def inside(a: Place, b: Place) -> bool:
    return b.x <= a.x and a.x + a.width <= b.x + b.width + 0.2 and b.y <= a.y + 0.2 and a.y + a.height <= b.y + b.height + 0.2


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_boxes_keep_apart_and_lie_within_the_picture(graph: tuple[list[Node], list[Edge]]) -> None:
    placed = layout(*graph)
    assert sorted(b.name for b in placed.boxes) == sorted(n.name for n in graph[0])
    whole = Place("", 0.0, 0.0, placed.width, placed.height)
    assert all(inside(b, whole) for b in [*placed.boxes, *placed.frames])
    assert all(apart(a, b) for a, b in combinations(placed.boxes, 2))


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_edges_go_forward_and_their_lines_too(graph: tuple[list[Node], list[Edge]]) -> None:
    placed = layout(*graph)
    at = {b.name: b for b in placed.boxes}
    assert all(at[e.source].x + at[e.source].width < at[e.target].x for e in graph[1])
    assert all(p.x1 <= p.bend <= p.x2 for p in placed.lines)


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_no_line_passes_through_a_box(graph: tuple[list[Node], list[Edge]]) -> None:
    placed = layout(*graph)
    for p in placed.lines:
        for b in placed.boxes:
            level = Place("", p.x1, p.y1, p.bend - p.x1, 0.0)
            curve = Place("", p.bend, min(p.y1, p.y2), p.x2 - p.bend, abs(p.y2 - p.y1))  # it stays within its corners
            assert apart(level, b)
            assert apart(curve, b)


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_every_edge_can_be_followed_from_box_to_box(graph: tuple[list[Node], list[Edge]]) -> None:
    placed = layout(*graph)
    at = {b.name: b for b in placed.boxes}
    for e in graph[1]:
        a, b = at[e.source], at[e.target]
        reached = {(a.x + a.width, a.y + a.height / 2)}
        for p in sorted((p for p in placed.lines if p.kind == e.kind), key=lambda p: p.x1):
            if any(abs(x - p.x1) <= 1 and abs(y - p.y1) <= 1 for x, y in reached):
                reached.add((p.x2, p.y2))
        assert any(abs(x - b.x) <= 1 and abs(y - (b.y + b.height / 2)) <= 1 for x, y in reached)


@settings(max_examples=50, deadline=None)
@given(graphs())
def test_the_same_graph_gives_the_same_picture(graph: tuple[list[Node], list[Edge]]) -> None:
    assert layout(*graph) == layout(*graph)


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_a_frame_holds_its_own_boxes_and_no_others(graph: tuple[list[Node], list[Edge]]) -> None:
    placed = layout(*graph)
    at = {b.name: b for b in placed.boxes}
    for frame in placed.frames:
        path = tuple(frame.name.split("/"))
        for node in graph[0]:
            assert (inside if node.group[: len(path)] == path else apart)(at[node.name], frame)


def test_two_branches_are_not_crossed_when_they_need_not_be() -> None:
    nodes = [Node(n, 100, 40) for n in ("a", "b", "b2", "a2", "a3", "b3")]
    placed = layout(nodes, [Edge("a", "a2"), Edge("a2", "a3"), Edge("b", "b2"), Edge("b2", "b3")])
    at = {b.name: b.y for b in placed.boxes}
    assert (at["a"] < at["b"]) == (at["a2"] < at["b2"]) == (at["a3"] < at["b3"])
    assert at["a"] == at["a2"] == at["a3"], "a chain is straight"


def test_a_sub_graph_that_feeds_and_follows_another_is_drawn_without_frames() -> None:
    nodes = [Node("a", 10, 10, ("g",)), Node("b", 10, 10), Node("c", 10, 10, ("g",))]
    placed = layout(nodes, [Edge("a", "b"), Edge("b", "c")])
    assert not placed.frames
    assert [b.name for b in sorted(placed.boxes, key=lambda b: b.x)] == ["a", "b", "c"]


def test_a_cycle_is_refused() -> None:
    with pytest.raises(ValueError, match="cycle"):
        layout([Node("a", 1, 1), Node("b", 1, 1)], [Edge("a", "b"), Edge("b", "a")])


def test_nothing_is_a_picture_of_nothing() -> None:
    assert layout([], []) == Layout(0.0, 0.0, [], [], [])


def test_hundreds_of_boxes_are_placed_within_a_moment() -> None:
    chance = Random(1)
    nodes = [Node(f"s{i}", 200, 70) for i in range(400)]
    edges = [Edge(f"s{chance.randint(max(0, i - 40), i - 1)}", f"s{i}") for i in range(1, 400) for _ in range(3)]
    began = time.perf_counter()
    assert len(layout(nodes, edges).boxes) == 400
    assert time.perf_counter() - began < 5
