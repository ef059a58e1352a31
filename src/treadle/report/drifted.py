"""The page of a drift report: what its template asks for, from the report's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

SHOWN = 3  # columns drawn by time
BARS = 14  # bins drawn of a column
_WIDTH = 320.0
_NAME = 32


def shown(report: Mapping[str, Any]) -> dict[str, Any]:
    """What `drift.html` asks for.

    Args:
        report: `DriftReport.to_json()`.
    """
    columns = [{**c, "bars": _bars(c["bins"])} for c in report["columns"]]
    names = [c["name"] for c in report["columns"] if c["sizes"]][:SHOWN]
    worst = next(iter(report["counts"]), "alike")
    return {"d": {**report, "columns": columns}, "worst": worst, "shown": names, "charts": _days(report["days"], names)}


def _bars(bins: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The bins as bars, the largest ones where there are many, in their order."""
    kept = sorted(sorted(range(len(bins)), key=lambda i: -max(bins[i]["reference"], bins[i]["now"]))[:BARS])
    most = max((max(bins[i]["reference"], bins[i]["now"]) for i in kept), default=1.0) or 1.0
    bars = [bins[i] for i in kept if max(bins[i]["reference"], bins[i]["now"]) >= 0.0005]
    return [
        {
            "name": b["name"] if len(b["name"]) <= _NAME else b["name"][: _NAME - 1] + "…", "reference": b["reference"], "now": b["now"],
            "before": round(b["reference"] / most * _WIDTH, 1), "after": round(b["now"] / most * _WIDTH, 1),
        }
        for b in bars
    ]  # fmt: skip


def _days(days: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> dict[str, Any]:
    if len(days) < 3 or not names:
        return {}
    colours = ("a", "b", "muted")
    series = [{"label": n, "values": [v.get(n) for v in days.values()], "style": "line", "color": c} for n, c in zip(names, colours)]
    x = [int(datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp()) for start in days]
    return {"days": {"x": x, "time": True, "series": series, "marks": []}}
