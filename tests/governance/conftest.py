"""A version as the registry records it, small enough to read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.records import Record
from treadle.registry import versions


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def body(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "key": "k1", "status": "approved", "run": "run-1", "by": "anna", "project": "flights", "owner": "operations desk", "goal": "call crews only when needed",
        "about": {
            "owner": "operations desk", "goal": "call crews only when needed", "description": "", "intended_use": "decide before departure about standby crews",
            "excluded_use": "", "fields": 3, "undeclared": [], "protected": [],
        },
        "family": "lightgbm", "params": {"num_leaves": 15, "learning_rate": 0.061}, "task": "binary", "labels": [False, True], "format": "onnx",
        "package": {"files": {}, "digest": "a" * 64}, "parity": {"rows": 2000, "largest_difference": 1e-7, "labels_changed": 0},
        "trained_rows": 5000, "trained_to": "2013-03-31T00:00:00Z", "trials": "g1", "as_of": "", "data": {"flights": "flights-abc"}, "settings": None,
        "features": {}, "gates": "x", "code": {"commit": "c" * 40, "dirty": False}, "environment": {"python": "3.11", "numpy": "2.4.6", "packages": ""},
        "threads": 1, "champion": "", "cause": {"kind": "person", "id": "", "text": "treadle run by anna"},
        "split": {"method": "time", "test_from": "2013-03-17T00:00:00Z", "test_to": "2013-03-31T00:00:00Z"},
        "measured": {"answer": {"p50_ms": 0.1, "p99_ms": 0.4}, "explanation": {"p50_ms": 1.0, "p99_ms": 3.0}}, "bytes": 400_000,
        "licences": {"numpy": "BSD-3-Clause"}, "explanation": {"kind": "trees", "unit": "log-odds", "largest_gap": 1e-7, "rows": 50},
        "verdict": {"passed": True, "reasons": [], "findings": [
            {"gate": "signal", "passed": True, "reason": "p = 0.001", "evidence": {"p": 0.001}, "waits": False},
        ]},
        "evaluation": {
            "task": "binary", "rows": 1200, "blocks": 14, "test_reads": 1, "primary": "roc_auc", "classes": [900, 300], "baseline_family": "always the share",
            "metrics": {"model": {"roc_auc": interval(0.72), "log_loss": interval(0.5)}, "baseline": {"roc_auc": interval(0.5), "log_loss": interval(0.56)}},
            "against": {"baseline": {"better_by": 0.06, "low": 0.02, "high": 0.1, "worst": 0.03, "p": 0.002, "loss": "log loss"}},
            "slices": [{"column": "carrier", "value": "<UA>|*x*", "rows": 500, "metric": "roc_auc", "value_of_metric": 0.7, "low": 0.6, "high": 0.8}],
            "calibration": {"error": 0.03, "curve": []}, "shuffled_labels": {"p": 0.001, "shuffles": 999},
        },
    }  # fmt: skip
    for name, value in changes.items():
        *path, last = name.split("__")
        inside = found
        for part in path:
            inside = inside[part]
        inside[last] = value
    return json.loads(json.dumps(found))


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def make(ledger: MemoryLedger) -> Callable[..., Record]:
    """`make(verdict__passed=False, ...)`: register a version with these changes."""

    def register(model: str = "late", **changes: Any) -> Record:
        changes.setdefault("key", f"k{len(ledger.find(versions.KIND))}")
        return versions.register(model, body(**changes), [], ledger)

    return register
