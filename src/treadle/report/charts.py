"""What each chart draws, as data for the page's script; the same numbers stand in tables beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

LEAST_MONTH = 200  # rows of a month below which its metrics are noise, and only in the table
LEAST_BLOCK = 20  # likewise for a block
SMOOTH = 7

Chart = dict[str, Any]


def charts(d: Mapping[str, Any]) -> dict[str, Chart]:
    """Charts by name; one with nothing to draw is left out."""
    found: dict[str, Chart] = {}
    earned = d["production"]
    if earned:
        shown = [m for m in earned["months"] if m["compared"] >= LEAST_MONTH or (len(earned["months"]) == 1 and m["compared"])]
        for name in dict.fromkeys((earned["primary"], earned["loss"])):
            if len(shown) > 1:
                found[f"months-{name}"] = _months(shown, name, earned["frozen"])
        days = [day for day in earned["days"] if day["matured"]]
        if len(days) > 2:
            found["days"] = _days(days, _marks(d, _second(days[0]["day"])))
    blocks = [b for b in d["blocks"] if b["excess"] is not None and b["matured"] >= LEAST_BLOCK]
    if len(blocks) > 2:
        found["excess"] = _blocks(blocks, "excess", _marks(d, _second(blocks[0]["start"])), zero=True)
    if sum(b["psi"] is not None for b in blocks) > 2:
        found["psi"] = _blocks(blocks, "psi", _marks(d, _second(blocks[0]["start"])), zero=False)
    if d.get("truth"):
        found.update(_truth(d["truth"]))
    curves = [e for e in d["evaluations"] if e["calibration"]]
    if curves:
        found["calibration"] = calibration(curves)
    return found


def calibration(evaluations: Sequence[Mapping[str, Any]]) -> Chart:
    """Observed against predicted share, a line an evaluation, on one scale."""
    at = sorted({p["predicted"] for e in evaluations for p in e["calibration"]["curve"]})
    series = [{"label": "as predicted", "values": at, "style": "dashed", "color": "muted"}]
    for color, e in zip(("a", "b"), evaluations):
        value = {p["predicted"]: p["observed"] for p in e["calibration"]["curve"]}
        series.append({"label": f"version {e['version']}", "values": [value.get(x) for x in at], "style": "line points", "color": color})
    return {"x": at, "time": False, "xlabel": "predicted probability", "series": series, "marks": []}


def _months(months: Sequence[Mapping[str, Any]], name: str, frozen: int) -> Chart:
    x = [_second(f"{m['month']}-15") for m in months]
    return {
        "x": x, "time": True, "unit": "month", "marks": [],
        "series": [
            {"label": "the loop", "values": [m["loop"].get(name) for m in months], "style": "line points", "color": "a"},
            {"label": f"version {frozen}, frozen", "values": [m["frozen"].get(name) for m in months], "style": "line points dashed", "color": "b"},
        ],
    }  # fmt: skip


def _days(days: Sequence[Mapping[str, Any]], marks: list[dict[str, Any]]) -> Chart:
    weights = [day["matured"] for day in days]
    return {
        "x": [_second(day["day"]) for day in days], "time": True, "marks": marks,
        "series": [
            {"label": "predicted", "values": rolling([day["predicted"] for day in days], weights), "style": "line", "color": "a"},
            {"label": "came true", "values": rolling([day["observed"] for day in days], weights), "style": "line", "color": "b"},
        ],
    }  # fmt: skip


def _blocks(blocks: Sequence[Mapping[str, Any]], name: str, marks: list[dict[str, Any]], *, zero: bool) -> Chart:
    values = [b[name] for b in blocks]
    series = [{"label": "7-block mean", "values": rolling(values, [b["rows"] for b in blocks]), "style": "line", "color": "a"}]
    if not zero:
        series = [{"label": "answers against training", "values": values, "style": "line", "color": "a"}]
    else:
        series.append({"label": "block", "values": values, "style": "points", "color": "muted"})
    return {"x": [_second(b["start"]) for b in blocks], "time": True, "series": series, "marks": marks, "zero": zero}


def _truth(truth: Mapping[str, Any]) -> dict[str, Chart]:
    """Of the first metric: a series a version, and what was estimated."""
    if not truth["names"] or len(truth["rows"]) < 2:
        return {}
    name, rows = truth["names"][0], truth["rows"]
    starts = sorted({r["from"] for r in rows})
    series: list[dict[str, Any]] = []
    for color, version in zip(("a", "b"), sorted({r["version"] for r in rows})[-2:]):
        mine = {r["from"]: r["metrics"].get(name, {}) for r in rows if r["version"] == version}
        series.append({
            "label": f"version {version}", "values": [mine.get(s, {}).get("value") for s in starts], "style": "line points", "color": color
        })  # fmt: skip
        expected = [mine.get(s, {}).get("estimate") for s in starts]
        if any(v is not None for v in expected):
            series.append({"label": f"version {version}, estimated", "values": expected, "style": "dashed", "color": color})
    return {"truth": {"x": [_second(s) for s in starts], "time": True, "series": series, "marks": []}}


def _marks(d: Mapping[str, Any], since: int) -> list[dict[str, Any]]:
    """Alarms that had a retraining, and takeovers, as upright lines."""
    found: list[dict[str, Any]] = [{"x": _second(a["raised"]), "kind": "alarm", "label": f"alarm: {a['kind']}"} for a in d["alarms"] if a["reaction"]]
    for entry in d["timeline"]:
        if entry["kind"] == "deployment.promoted":
            found.append({"x": _second(entry["at"]), "kind": "takeover", "label": f"version {entry['version']} takes over"})
    return [mark for mark in found if int(mark["x"]) >= since]


def rolling(values: Sequence[float | None], weights: Sequence[float], width: int = SMOOTH) -> list[float | None]:
    """Trailing weighted mean over `width` values; None until there are that many.

    >>> rolling([1.0, 3.0, 5.0], [1, 1, 2], 2)
    [None, 2.0, 4.333333333333333]
    """
    found: list[float | None] = []
    for i in range(len(values)):
        pairs = [(v, w) for v, w in zip(values[max(0, i - width + 1) : i + 1], weights[max(0, i - width + 1) : i + 1]) if v is not None]
        total = sum(w for _, w in pairs)
        full = i + 1 >= min(width, len(values))
        found.append(sum(v * w for v, w in pairs) / total if full and total else None)
    return found


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
