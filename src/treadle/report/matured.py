"""The truth as the page shows it: quality by window and by version with its intervals, how much of each window has an outcome, and what was estimated
before any outcome was known, beside what came true."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle.assemble import Workspace
from treadle.core.declare.model import Model
from treadle.core.errors import TreadleError
from treadle.live import settled

SHOWN = ("roc_auc", "log_loss", "accuracy", "brier", "mae", "rmse", "r2")
MOST = 3  # metrics of a table


def told(ws: Workspace, model: Model, *, waiting: bool) -> dict[str, Any] | None:
    """Windows that are mature, and with `waiting` the estimates of those that are not, which read the prediction log; None where there are none."""
    try:
        found = settled.told(ws, model, waiting=waiting)
    except TreadleError:  # a version of the log that the registry does not know
        return None
    rows = [_window(w) for w in found["windows"]] + [_waiting(w) for w in found["waiting"]]
    if not rows:
        return None
    names = {name for row in rows for name in row["metrics"]}
    return {
        "rows": rows, "names": [n for n in SHOWN if n in names][:MOST], "assumes": found["assumes"], "window_days": found["window_days"],
        "unknown_ids": found["unknown_ids"],
    }  # fmt: skip


def _window(window: Mapping[str, Any]) -> dict[str, Any]:
    expected = window["estimate"] or {}
    return {
        "from": window["from"], "to": window["to"], "version": window["version"], "rows": window["rows"], "matured": window["matured"],
        "restated": window["restated"], "early": window["early"], "odd": window["odd"], "over_limit": window["over_limit"], "mature": True,
        "metrics": {
            name: {**value, "estimate": expected.get(name), "error": None}
            for name, value in {**dict.fromkeys(expected, _UNKNOWN), **window["metrics"]}.items()
        },
    }  # fmt: skip


def _waiting(window: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "from": window["from"], "to": window["to"], "version": window["version"], "rows": window["rows"], "matured": None, "restated": 0, "early": 0,
        "odd": 0, "over_limit": 0, "mature": False,
        "metrics": {name: {**_UNKNOWN, "estimate": value, "error": window["error"].get(name)} for name, value in window["estimate"].items()},
    }  # fmt: skip


_UNKNOWN: dict[str, Any] = {"value": None, "low": None, "high": None}
