"""One project that went the whole way, built once: two versions, a takeover, three months of answers with outcomes, an alarm. And one that was refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.declare.model import Model
from treadle.data.write_project import write_blank
from treadle.monitoring import alarms
from treadle.monitoring.judge import Finding
from treadle.ports.predictions import Outcome, Prediction
from treadle.registry import promote, versions
from treadle.serving.loaded import Loaded
from treadle.wheel.packaging import feature_lists
from treadle.wheel.turn import load_version, turn

EVIL = "</script><script>alert('x')</script>"
PERSON = {"kind": "person", "id": "", "text": "a test"}


@dataclass
class World:
    """A workspace with everything that was logged in it, as arrays in the order of the log."""

    ws: Workspace
    model: Model
    moments: np.ndarray
    truth: np.ndarray
    said: np.ndarray
    frozen: np.ndarray
    alarm: str


def answered(number: int, row: list[Any], moment: int, output: np.ndarray, version: int, model: str) -> Prediction:
    """One logged answer."""
    features = json.dumps(row).encode()
    return Prediction(f"p-{number:05d}", model, moment, moment, version, "champion", tuple(output.tolist()), 0, (), b"{}", features, 100)


def rows_of(ws: Workspace, model: Model, loaded: Loaded) -> tuple[pl.DataFrame, list[list[Any]]]:
    """The model's rows, and their features as a server sees them."""
    rows = turn(ws, model, cause=PERSON, until="rows")["rows"]
    return rows, feature_lists(rows, [f.name for f in loaded.features])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return build(tmp_path_factory.mktemp("console") / "deliveries", owner="the <b>dispatch</b> desk", goal=EVIL, sentence=f"It is worse: {EVIL}")


def build(folder: Path, *, owner: str, goal: str, sentence: str) -> World:
    """The world in a new folder. `sentence` is that of its alarm. The pictures of the docs are taken of one, too (scripts/screenshots.py)."""
    write_blank(folder, "deliveries")
    file = folder / "project.py"
    file.write_text(file.read_text().replace('owner="me", goal="predict late"', f'owner="{owner}", goal="{goal}"'))
    ws = open_workspace(folder)
    model = ws.model()
    turn(ws, model, cause=PERSON)
    turn(ws, model, cause=PERSON, settings={"family": "logistic", "params": {"C": 0.01}})
    promote.first(model.name, 1, ws.ledger, ws.clock, actor="ann")
    first, second = (load_version(ws, versions.get(model.name, n, ws.ledger)) for n in (1, 2))
    rows, features = rows_of(ws, model, first)
    moments = rows["__moment__"].cast(pl.Int64).to_numpy()
    truth = rows["__target__"].cast(pl.Int64).to_numpy()
    early = np.arange(len(rows)) < len(rows) // 2
    frozen = first.outputs(features)
    said = np.where(early[:, None], frozen, second.outputs(features))
    log = [answered(i, features[i], int(moments[i]), said[i], 1 if early[i] else 2, model.name) for i in range(len(rows))]
    outcomes = [Outcome(p.id, bool(t), p.moment + 3_600_000_000) for p, t in zip(log, truth)]
    ws.predictions.write(log, outcomes)
    promote.challenge(model.name, 2, ws.ledger, ws.clock, actor="ann")
    promote.promote(model.name, {"by": "a person"}, ws.ledger, ws.clock, actor="bob")
    found = Finding("quality", "excess_loss", 5.0, 4.0, int(moments[0]), int(moments[-1]), (("rain", 0.3),), sentence)
    alarm = alarms.raise_alarm(model.name, 2, found, ws.ledger, ws.clock)
    assert alarm is not None
    return World(ws, model, moments, truth, said, frozen, alarm.id)


COIN = """import treadle as tr
project = tr.Project("coin", owner="me", goal="see a refusal")
columns = {"id": tr.integer(), "x": tr.number(), "y": tr.category()}
rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id", contract=tr.Contract(columns))
model = project.model("coin", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("logistic")], trials=1)
"""


@pytest.fixture(scope="session")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project of coin flips: its one version was refused, and it has no time, no watch and no log."""
    folder = tmp_path_factory.mktemp("refused")
    chance = np.random.default_rng(5)
    flips = [f"{i},{x:.4f},{'heads' if y else 'tails'}" for i, (x, y) in enumerate(zip(chance.normal(size=100), chance.integers(0, 2, 100)))]
    (folder / "rows.csv").write_text("\n".join(["id,x,y", *flips]))
    (folder / "project.py").write_text(COIN)
    ws = open_workspace(folder)
    turn(ws, ws.model(), cause=PERSON)
    return ws


START = """import treadle as tr
project = tr.Project("p", owner="me", goal="test")
columns = {{"id": tr.integer(), "x": tr.number(), "y": {truth}}}
rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id", contract=tr.Contract(columns))
"""


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Workspace]:
    """Makes a project of one model from the lines that declare it and its rows (id,x,y), and trains it."""

    def make(body: str, rows: list[str], truth: str = "tr.number()") -> Workspace:
        (tmp_path / "rows.csv").write_text("\n".join(["id,x,y", *rows]))
        (tmp_path / "project.py").write_text(START.format(truth=truth) + body)
        ws = open_workspace(tmp_path)
        turn(ws, ws.model(), cause=PERSON)
        return ws

    return make


@pytest.fixture
def live() -> Callable[..., tuple[np.ndarray, list[Any]]]:
    """Deploys version 1 and logs its answers to its own rows, spread over `days`, with the truth as `value` writes it (no truth if None)."""

    def go(ws: Workspace, value: Callable[[Any], Any] | None, days: int, rows: int | None = None) -> tuple[np.ndarray, list[Any]]:
        model = ws.model()
        promote.first(model.name, 1, ws.ledger, ws.clock, actor="ann")
        loaded = load_version(ws, versions.get(model.name, 1, ws.ledger))
        known, features = rows_of(ws, model, loaded)
        outputs = loaded.outputs(features)[:rows]
        log = [answered(i, f, (i % days) * 86_400_000_000, outputs[i], 1, model.name) for i, f in enumerate(features[:rows])]
        truths = [value(t) for t in known["__target__"].to_list()] if value else []
        ws.predictions.write(log, [Outcome(p.id, t, p.moment) for p, t in zip(log, truths)])
        return outputs, truths

    return go
