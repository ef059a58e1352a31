"""Very many columns: a turn of the wheel costs in proportion to them, the few that matter are found, and the evidence says what was left out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import open_workspace
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story

PROJECT = '''
import numpy as np
import polars as pl

import treadle as tr

project = tr.Project("wide", owner="me", goal="many columns")


def rows(columns):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame(rng.normal(size=(300, columns)), schema=[f"f{i}" for i in range(columns)])
    truth = rng.random(300) < 1 / (1 + np.exp(-3 * frame["f7"].to_numpy()))
    return frame.with_columns(id=pl.arange(300, eager=True), y=np.where(truth, "yes", "no"))


def warm(): return rows(50)
def few(): return rows(1_200)
def many(): return rows(4_800)


for made, columns in ((warm, 50), (few, 1_200), (many, 4_800)):
    data = project.dataset(made.__name__, source=tr.rows(made), key="id")
    project.model(
        made.__name__, rows=data, target="y", inputs=[f"f{i}" for i in range(columns)], trials=1, candidates=[tr.candidate("logistic", C=0.01)],
        split=tr.at_random(0.3, folds=2),
    )
'''


@pytest.mark.slow
def test_four_times_the_columns_cost_about_four_times_as_much_and_the_signal_is_found(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(PROJECT)
    ws = open_workspace(tmp_path)
    spent: dict[str, float] = {}
    versions: dict[str, Any] = {}
    for name in ("warm", "few", "many"):  # the first pays for imports
        begun = time.process_time()
        turn(ws, ws.model(name), cause={"kind": "hand", "text": "test"})
        spent[name] = time.process_time() - begun
        [versions[name]] = ws.ledger.find("model_version", {"model": name}, newest_first=True, limit=1)
    ws.close()
    assert spent["many"] < 9 * spent["few"], spent  # 16 where something is done for each column with each
    for name, columns in (("few", 1_200), ("many", 4_800)):
        evaluation = versions[name]["evaluation"]
        assert evaluation["features"] == {"all": columns, "used": 300}
        assert evaluation["importance"]["features"][0]["name"] == "f7"
        assert evaluation["metrics"]["model"]["roc_auc"]["value"] > 0.6
