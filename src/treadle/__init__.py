"""Treadle keeps the machine-learning wheel turning: data, features, training, evidence, deployment, monitoring, feedback, as one loop.

The face: the names a project file uses. Each is loaded when first used, so `import treadle` costs almost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_FACE = {
    "Project": "project",
    "csv": "source", "parquet": "source", "jsonl": "source", "sql": "source", "stream": "source", "rows": "source", "files": "source",
    "Contract": "data", "like": "data", "contract_from": "treadle.data.odcs", "datasheet": "datasheet",
    "number": "data", "integer": "data", "category": "data", "text": "data", "boolean": "data", "timestamp": "data",
    "hour": "features", "minute_of_day": "features", "weekday": "features", "month": "features",
    "difference": "features", "ratio": "features", "length": "features", "formula": "features", "within": "features",
    "by_time": "model", "at_random": "model", "by_group": "model", "ranking": "model", "forecast": "model", "anomaly": "model",
    "candidate": "model", "gate": "gates", "enough_rows": "gates", "signal": "gates",
    "beats_baseline": "gates", "beats_champion": "gates", "certain": "gates", "calibrated": "gates", "every_slice": "gates",
    "no_worse_than_champion": "gates",
    "approved": "gates", "bands": "model", "better_than_luck": "gates", "carded": "gates", "covered": "gates", "explained": "gates",
    "fair": "gates", "fast": "gates",
    "invariant": "gates", "licensed": "gates", "no_leakage": "gates", "no_weak_slice": "gates", "robust": "gates", "signature": "gates",
    "small": "gates",
    "on_evidence": "operations", "envelope": "operations", "levels": "levels", "rollback_when": "rollout", "ab_test": "rollout",
    "Transient": "errors", "Terminal": "errors",
    "step": "pipeline", "when": "pipeline", "unless": "pipeline", "first_of": "pipeline", "approval": "pipeline",
    "cron": "schedule", "on_new_data": "schedule", "on_alarm": "schedule", "on_commit": "schedule", "on_call": "schedule", "budget": "schedule",
}  # fmt: skip

__all__ = [*_FACE, "__version__"]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from treadle.core.declare.data import Contract, boolean, category, integer, like, number, text, timestamp
    from treadle.core.declare.datasheet import datasheet
    from treadle.core.declare.features import difference, formula, hour, length, minute_of_day, month, ratio, weekday, within
    from treadle.core.declare.gates import (
        approved,
        beats_baseline,
        beats_champion,
        better_than_luck,
        calibrated,
        carded,
        certain,
        covered,
        enough_rows,
        every_slice,
        explained,
        fair,
        fast,
        gate,
        invariant,
        licensed,
        no_leakage,
        no_weak_slice,
        no_worse_than_champion,
        robust,
        signal,
        signature,
        small,
    )
    from treadle.core.declare.levels import levels
    from treadle.core.declare.model import anomaly, at_random, bands, by_group, by_time, candidate, forecast, ranking
    from treadle.core.declare.operations import envelope, on_evidence
    from treadle.core.declare.pipeline import approval, first_of, step, unless, when
    from treadle.core.declare.project import Project
    from treadle.core.declare.rollout import ab_test, rollback_when
    from treadle.core.declare.schedule import budget, cron, on_alarm, on_call, on_commit, on_new_data
    from treadle.core.declare.source import csv, files, jsonl, parquet, rows, sql, stream
    from treadle.core.errors import Terminal, Transient
    from treadle.data.odcs import contract_from


def __getattr__(name: str) -> Any:
    if name not in _FACE:
        raise AttributeError(f"module 'treadle' has no attribute {name!r}")
    said = _FACE[name]
    home = said if "." in said else "treadle.core.errors" if said == "errors" else f"treadle.core.declare.{said}"
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
