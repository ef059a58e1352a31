"""The page of a backtest: what each policy would have been worth, as a table and charts that need no knowledge of the model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from treadle.report.charts import LEAST_MONTH
from treadle.report.page import template, write
from treadle.report.show import METRICS, count, number, signed

_COLOURS = ("a", "b", "good", "look", "bad", "muted")


def write_backtest(told: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a backtest to `path`, whole or not at all. Raises StorageError."""
    return write(template("backtest.html", **shown(told)), path, "report")


def shown(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the template asks for."""
    return {"d": told, "tiles": tiles(told), "charts": charts(told), "metric_name": METRICS.get(told["primary"], told["primary"])}


def tiles(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answer in short: what is best, what it cost, what it would have earned."""
    best = next((p for p in told["policies"] if p["policy"] == told["best"]), None)
    against = next(p for p in told["policies"] if p["policy"] == told["against"])
    if best is None:
        return []
    name = METRICS.get(told["primary"], told["primary"])
    lines = [f"{name} {number(best['metrics'][told['primary']], 4)}; {against['policy']}: {number(against['metrics'][told['primary']], 4)}"]
    gain = best["better_by"].get(told["primary"])
    if gain and gain["low"] is not None:
        lines.append(f"better by {signed(gain['value'])}, 95 % interval {signed(gain['low'])} to {signed(gain['high'])}")
    found = [
        {"title": "Best policy", "verdict": best["policy"], "lines": [best["says"], *lines], "tone": "good"},
        {"title": "What it took", "verdict": f"{best['retrained']} training{'' if best['retrained'] == 1 else 's'}", "tone": "",
         "lines": [f"{number(best['cpu'], 1)} CPU s", f"{best['took_over']} took over, {best['refused']} thrown out"]},
        {"title": "What people saw", "verdict": f"{best['alarmed']} alarm{'' if best['alarmed'] == 1 else 's'}", "tone": "",
         "lines": [", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in best["by_kind"].items()) or "none"]},
    ]  # fmt: skip
    if "earned" in best:
        sign = "" if best["earned"] >= 0 else "−"
        money = f"{sign}{count(abs(best['earned']))} {told['prices']['currency']}".strip()
        found.append({
            "title": "Earned", "verdict": money, "tone": "good" if best["earned"] > 0 else "bad",
            "lines": [f"less spent on errors than {told['against']}, and less what the trainings cost"],
        })  # fmt: skip
    return found


def charts(told: Mapping[str, Any]) -> dict[str, Any]:
    """Quality and loss by month, a line a policy; months of few rows are in the table only."""
    months = sorted({m["month"] for p in told["policies"] for m in p["months"] if m["rows"] >= LEAST_MONTH})
    if len(months) < 2:
        return {}
    found = {}
    for name in dict.fromkeys((told["primary"], "loss")):
        series = []
        for i, p in enumerate(told["policies"]):
            value = {m["month"]: m[name] for m in p["months"]}
            style = "line points" + (" dashed" if i >= len(_COLOURS) or p["policy"] == told["against"] else "")
            series.append({"label": p["policy"], "values": [value.get(m) for m in months], "style": style, "color": _COLOURS[i % len(_COLOURS)]})
        found[f"months-{name}"] = {"x": [_second(m) for m in months], "time": True, "unit": "month", "marks": [], "series": series}
    return found


def _second(month: str) -> int:
    return int(datetime.fromisoformat(f"{month}-15").replace(tzinfo=UTC).timestamp())
