"""The wheel: the eight stations of the loop, each with its live figures, and where they stand on the drawing."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, hypot, pi, sin
from typing import Any

WIDTH, HEIGHT, RADIUS_X, RADIUS_Y = 640, 520, 243, 220


def wheel(d: Mapping[str, Any]) -> dict[str, Any]:
    """Stations clockwise from the top: name, two lines, the section they lead to, position; and the arrows between them."""
    return drawn([{"name": name, "lines": lines, "href": href, "tone": "plain"} for name, lines, href in _figures(d)], int(d["totals"]["trainings"]))


def drawn(stations: list[dict[str, Any]], turns: int) -> dict[str, Any]:
    """The drawing of stations, each with its name, lines, link and tone, and of how often the wheel turned."""
    count = len(stations)
    for i, station in enumerate(stations):
        station["x"], station["y"] = _place(i / count)
    arrows = []
    for i in range(count):
        x, y = _place((i + 0.5) / count)
        ahead_x, ahead_y = _place((i + 0.52) / count)
        length = hypot(ahead_x - x, ahead_y - y)
        ux, uy = (ahead_x - x) / length, (ahead_y - y) / length
        corners = [(x + 8 * ux, y + 8 * uy), (x - 6 * ux - 6 * uy, y - 6 * uy + 6 * ux), (x - 6 * ux + 6 * uy, y - 6 * uy - 6 * ux)]
        arrows.append({"points": " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)})
    return {
        "width": WIDTH, "height": HEIGHT, "cx": WIDTH / 2, "cy": HEIGHT / 2, "rx": RADIUS_X, "ry": RADIUS_Y, "stations": stations, "arrows": arrows,
        "turns": turns, "turned": "turn of the wheel" if turns == 1 else "turns of the wheel",
    }  # fmt: skip


def _place(share: float) -> tuple[float, float]:
    angle = 2 * pi * share - pi / 2
    return round(WIDTH / 2 + RADIUS_X * cos(angle), 1), round(HEIGHT / 2 + RADIUS_Y * sin(angle), 1)


def _figures(d: Mapping[str, Any]) -> list[tuple[str, list[str], str]]:
    rows = sum(v["rows"] for v in d["data"])
    aside = sum(v["quarantined"] for v in d["data"])
    totals, deployment, versions = d["totals"], d["deployment"], d["versions"]
    refused = sum(not v["passed"] for v in versions)
    opened = sum(a["status"] == "open" for a in d["alarms"])
    return [
        ("Data", [f"{rows:,} rows", f"{aside:,} in quarantine"] if versions else ["not read yet"], "#data"),
        ("Features", [_count(d["model"]["features"], "feature"), _count(len(d["model"]["views"]), "view")], "#data"),
        ("Training", [_count(totals["trainings"], "training"), f"{totals['run_seconds']:,.0f} s in all"], "#search"),
        ("Evidence", [_gates(d), f"{refused:,} refused" if refused else "none refused"] if versions else ["none yet"], "#evidence"),
        ("Registry", [_count(len(versions), "version"), f"newest: {versions[-1]['status']}" if versions else ""], "#versions"),
        ("Deployment", _deployment(deployment), "#timeline"),
        ("Monitoring", [f"{len(d['blocks']):,} blocks judged" if d["blocks"] else "nothing judged yet",
                        _count(len(d["alarms"]), "alarm") + (f", {opened} open" if opened else "")], "#alarms"),
        ("Feedback", [_count(totals["requests"], "request"), _count(totals["outcomes"], "outcome")], "#production"),
    ]  # fmt: skip


def _gates(d: Mapping[str, Any]) -> str:
    gates = d["evaluations"][0]["gates"]
    return f"{sum(g['passed'] for g in gates)} of {len(gates)} gates"


def _deployment(deployment: Mapping[str, Any] | None) -> list[str]:
    if deployment is None:
        return ["not in production", ""]
    if deployment["stage"] == "none":
        return [f"version {deployment['champion']} answers", "no challenger"]
    if deployment["stage"] == "stopped":
        return ["stopped", "nothing answers"]
    beside = f"{deployment['share']:.0%} of requests" if deployment["stage"] == "canary" else "in shadow"
    return [f"version {deployment['champion']} answers", f"version {deployment['challenger']} {beside}"]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
