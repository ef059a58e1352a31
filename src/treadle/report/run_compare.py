"""Several runs side by side: a table of what they were given and came to, parallel lines through the same, and the curves of their metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from treadle.ports.ledger import Ledger

LEAST, MOST = 2, 8  # runs that are compared at once
AXES = 12  # of the parallel lines
POINTS = 1_000  # of one curve; a longer one is thinned out evenly, its last point kept
COLOURS = ("a", "b", "good", "look", "bad", "muted")
_WIDE, _HIGH, _LEFT, _TOP = 900, 300, 60, 46


def table(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """{'params': [{'name', 'values', 'differs'}], 'metrics': the same with 'best' unset}: one value a run, None where it has none."""
    found = {}
    for part in ("params", "metrics"):
        names = sorted({name for r in rows for name in r[part]})
        values = {name: [r[part].get(name) for r in rows] for name in names}
        found[part] = [{"name": name, "values": v, "differs": any(x != v[0] for x in v[1:])} for name, v in values.items()]
    return found


def parallel(rows: Sequence[Mapping[str, Any]], compared: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """The drawing of parallel coordinates: an axis for each parameter and metric that differs; None where fewer than two do."""
    differing = [e for part in ("params", "metrics") for e in compared[part] if e["differs"]]
    chosen = differing[: AXES // 2] + differing[AXES // 2 :][-AXES // 2 :]
    if len(chosen) < 2:
        return None
    step = (_WIDE - 2 * _LEFT) / (len(chosen) - 1)
    axes, heights = [], []
    for i, entry in enumerate(chosen):
        places, low, high = _places(entry["values"])
        axes.append({"name": entry["name"], "x": round(_LEFT + i * step, 1), "low": low, "high": high, "up": i % 2 == 0})
        heights.append(places)
    lines = []
    for j, r in enumerate(rows):
        points = [f"{a['x']},{h[j]}" for a, h in zip(axes, heights) if h[j] is not None]
        lines.append({"id": r["id"], "number": j + 1, "points": " ".join(points), "colour": COLOURS[j % len(COLOURS)], "dashed": j >= len(COLOURS)})
    return {"axes": axes, "lines": lines, "width": _WIDE, "height": _HIGH + 2 * _TOP, "top": _TOP, "bottom": _TOP + _HIGH,
            "left_out": len(differing) - len(chosen)}  # fmt: skip


def _places(values: Sequence[Any]) -> tuple[list[float | None], str, str]:
    """Where each value stands on its axis, and what stands at its ends: numbers by size, others in the order of their texts."""
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
    if len(numbers) == len([v for v in values if v is not None]):
        low, high = min(numbers), max(numbers)
        at = {v: (v - low) / (high - low) if high > low else 0.5 for v in numbers}
        ends = f"{low:.4g}", f"{high:.4g}"
        keys: list[Any] = list(values)
    else:
        keys = [None if v is None else str(v) for v in values]
        texts = sorted({k for k in keys if k is not None})
        at = {t: i / (len(texts) - 1) if len(texts) > 1 else 0.5 for i, t in enumerate(texts)}
        ends = texts[0][:14], texts[-1][:14]
    return [None if k is None else round(_TOP + _HIGH * (1 - at[k]), 1) for k in keys], *ends


def curves(runs: Sequence[str], ledger: Ledger, names: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Charts of the metrics with more than one point: name to a chart, a line a run.

    Args:
        names: only these metrics; all of them if empty.
    """
    by_name: dict[str, dict[int, dict[int, float]]] = {}
    for j, run in enumerate(runs):
        for name in names or ("",):
            for p in ledger.points(run, name or None):
                by_name.setdefault(p.name, {}).setdefault(j, {})[p.step] = p.value
    found = {}
    for name, lines in by_name.items():
        if max(len(v) for v in lines.values()) < 2:
            continue
        thin = {j: _thinned(v) for j, v in lines.items()}
        steps = sorted({s for v in thin.values() for s in v})
        series = [
            {"label": f"run {j + 1}" if len(runs) > 1 else name, "color": COLOURS[j % len(COLOURS)],
             "style": "line" + (" dashed" if j >= len(COLOURS) else "") + (" points" if len(v) < 30 else ""),
             "values": [v[s] if s in v and math.isfinite(v[s]) else None for s in steps]}
            for j, v in thin.items()
        ]  # fmt: skip
        found[name] = {"x": steps, "time": False, "marks": [], "series": series}
    return found


def _thinned(points: Mapping[int, float]) -> dict[int, float]:
    steps = sorted(points)
    if len(steps) <= POINTS:
        return dict(points)
    every = len(steps) / POINTS
    kept = sorted({steps[int(i * every)] for i in range(POINTS)} | {steps[-1]})
    return {s: points[s] for s in kept}
