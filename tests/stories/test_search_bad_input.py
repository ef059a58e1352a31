"""Rows that are hard or impossible to learn from: a right answer, or one clear sentence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.errors import TreadleError
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story

PROJECT = '''
import math
from datetime import datetime, timedelta, timezone

import numpy as np
import polars as pl

import treadle as tr

project = tr.Project("hard", owner="me", goal="bad input")


def base(n=400, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return pl.DataFrame({"id": range(n), "x": x, "z": rng.normal(size=n), "y": np.where(rng.random(n) < 1 / (1 + np.exp(-2 * x)), "yes", "no")})


def one_class(): return base().with_columns(y=pl.lit("yes"))
def constant(): return base().with_columns(z=pl.lit(3.0))
def missing(): return base().with_columns(z=pl.lit(None, pl.Float64))
def all_missing(): return base().with_columns(z=pl.lit(None, pl.Float64), x=pl.lit(None, pl.Float64))
def three(): return base(3)
def infinite(): return base().with_columns(x=pl.when(pl.col("id") == 5).then(float("inf")).otherwise("x"))
def rare(count):
    frame = base(20_000)
    return frame.with_columns(y=pl.when(pl.col("id").is_in(list(range(0, 20_000, 20_000 // count)))).then(pl.lit("yes")).otherwise(pl.lit("no")))
def rare_1(): return rare(1)
def rare_2(): return rare(2)
def rare_8(): return rare(8)
def late_class():
    start = datetime(2024, 1, 1, tzinfo=timezone.utc)
    frame = base(600).with_columns(y=pl.when(pl.col("id") > 560).then(pl.lit("new")).otherwise("y"), word=pl.lit("w"))
    return frame.with_columns(at=pl.Series([start + timedelta(hours=i) for i in range(600)]).dt.cast_time_unit("us"))


def add(name, source, inputs=("x", "z"), **more):
    times = {"event_time": "at", "known_time": "at"} if name == "late-class" else {}
    data = project.dataset(name, source=tr.rows(source), key="id", **times)
    project.model(name, rows=data, target="y", inputs=list(inputs), trials=more.pop("trials", 3), **more)


for name, source in {"one-class": one_class, "constant": constant, "missing": missing, "all-missing": all_missing, "three": three,
                     "infinite": infinite}.items():
    add(name, source)
add("rare-1", rare_1)
add("rare-2", rare_2, candidates=[tr.candidate("logistic")])
add("rare-8", rare_8, candidates=[tr.candidate("logistic"), tr.candidate("lightgbm")], split=tr.at_random(0.25))
add("late-class", late_class, ["x", "z", "word"], candidates=[tr.candidate("logistic"), tr.candidate("lightgbm")], trials=2)
'''


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("hard")
    (Path(folder) / "project.py").write_text(PROJECT)
    opened = open_workspace(folder)
    yield opened
    opened.close()


def run(ws: Workspace, name: str) -> Any:
    turn(ws, ws.model(name), cause={"kind": "hand", "text": "test"})
    [version] = ws.ledger.find("model_version", {"model": name}, newest_first=True, limit=1)
    return version


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("one-class", "The target 'y' is constant: it is always 'yes'."),
        ("three", "Only 3 rows have a known 'y'."),
        ("infinite", "Infinite values in 1 feature: 'x' (1)."),
        ("all-missing", "Every feature is missing in all rows: 'x', 'z'."),
        ("late-class", "y = 'new' is only among the test rows: no model of the other rows can know it."),
        ("rare-1", "Only one of the 15,000 rows to search has y = 'yes'."),
    ],
)
def test_what_cannot_be_learned_is_said_in_one_sentence(ws: Workspace, name: str, sentence: str) -> None:
    with pytest.raises(TreadleError) as caught:
        run(ws, name)
    assert sentence in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize("name", ["constant", "missing"])
def test_a_feature_that_says_nothing_does_no_harm(ws: Workspace, name: str) -> None:
    version = run(ws, name)
    assert version["evaluation"]["metrics"]["model"]["roc_auc"]["value"] > 0.8
    assert version["labels"] in (["no", "yes"], ["yes", "no"])


def test_one_in_ten_thousand_is_refused_for_want_of_evidence(ws: Workspace) -> None:
    version = run(ws, "rare-2")
    assert version["status"] == "refused"
    assert version["split"]["folds"] == 2


def test_eight_in_twenty_thousand_are_searched_in_folds_that_each_hold_one_and_refused_for_want_of_evidence(ws: Workspace) -> None:
    version = run(ws, "rare-8")
    assert version["status"] == "refused"
    assert version["split"]["folds"] == 5
    assert version["evaluation"]["classes"][1] == 2
