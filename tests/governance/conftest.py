"""Two worlds for these tests: a project about invented persons, run once, with one of them planted wherever a person can get to, of which each test
gets a copy; and a version as the registry records it, small enough to read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from treadle.assemble import Workspace, open_workspace
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.records import Record, Ref
from treadle.ports.online import Key, Value
from treadle.registry import versions
from treadle.testing.command import treadle
from treadle.testing.persons import ADA, OLD_EMAIL, write_persons

STEPS = '''

@tr.step
def letter(who: str) -> str:
    print("writing to", who)
    return f"Dear {who}"


@tr.step
def broken(text: str) -> str:
    raise ValueError(f"no stamp for {text}")


@project.pipeline
def letters(who: str = "nobody"):
    return broken(letter(who))
'''


@pytest.fixture(scope="session")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after some days: two versions of the customers, a model, logs, failures, online values, a checkpoint, leftovers."""
    folder = write_persons(tmp_path_factory.mktemp("persons") / "persons", mention=True)
    with (folder / "project.py").open("a") as file:
        file.write(STEPS)
    customers = (folder / "customers.csv").read_text()
    (folder / "customers.csv").write_text(customers.replace(ADA.email, OLD_EMAIL))
    treadle(folder, "run", "late-return")
    (folder / "customers.csv").write_text(customers)
    treadle(folder, "run", "late-return")
    treadle(folder, "run", "letters", "--set", f"who={ADA.name}", expect=1)
    plant(open_workspace(folder))
    return folder


def plant(ws: Workspace) -> None:
    """What comes to be in weeks of work."""
    home = ws.settings.home
    ws.online.put_many([(Key(view, who), Value(1, f"{who} {ADA.email if who == ADA.id else 'other'}".encode())) for view in ("profile", "habits") for who in (ADA.id, "cust-0100")])
    DeltaTable(str(home / "tables" / "customers")).create_checkpoint()
    with (home / "alarms.jsonl").open("a") as file:
        file.write(json.dumps({"sentence": f"unseen value {ADA.email!r}"}) + "\n" + json.dumps({"sentence": "another alarm"}) + "\n")
    left = home / "logs" / "run-dead" / "step.log"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text(f"looking at {ADA.id}\nand at cust-0100\n")
    ws.blobs.put(f"nobody knows what this was for: {ADA.name}".encode())
    shelf = ws.shelf.folder / "opened"
    shelf.mkdir(parents=True, exist_ok=True)
    (shelf / "samples.bin").write_bytes(ADA.email.encode("utf-16"))
    ws.ledger.put("trial", "t-1", {"error": f"{ADA.id} does not fit", "state": "failed"})
    ws.ledger.append("note.made", Ref("trial", "t-1"), {"n": 1})


@pytest.fixture
def persons(lived_in: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(lived_in, tmp_path / "persons"))


@pytest.fixture
def opened(persons: Path) -> Callable[[], Workspace]:
    """Opens the copy, anew each time."""
    return lambda: open_workspace(persons)


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
