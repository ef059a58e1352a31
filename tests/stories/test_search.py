"""Every task a search knows goes through the whole loop, with its own measure, split and baseline; a search survives what may happen to it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.records import Record
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story

PROJECT = '''
"""Every task a search knows, on rows made up with something to find."""

import math
import time
from datetime import datetime, timedelta, timezone

import numpy as np
import polars as pl
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

import treadle as tr

project = tr.Project("tasks", owner="me", goal="search")
START = datetime(2024, 1, 1, tzinfo=timezone.utc)


def queries():
    rng = np.random.default_rng(1)
    n = 7200
    a, b = rng.normal(size=n), rng.normal(size=n)
    rel = np.clip(np.round(a + 0.5 * b + rng.normal(size=n) * 0.5), 0, 4)
    hard = np.arange(n) // 12 % 2 == 0
    rel = np.where(hard, rng.permutation(rel), rel)
    country = np.where(hard, "far", "near")
    return pl.DataFrame({"id": range(n), "query": [f"q{i // 12}" for i in range(n)], "a": a, "b": b, "relevance": rel, "country": country, "kind": rng.choice(["x", "y"], n)})


def load():
    rng = np.random.default_rng(2)
    n = 24 * 120
    at = [START + timedelta(hours=i) for i in range(n)]
    level = np.cumsum(rng.normal(size=n) * 0.05)
    value = 10 + 3 * np.sin(np.arange(n) * 2 * math.pi / 24) + level + rng.normal(size=n) * 0.7
    frame = pl.DataFrame({"at": at, "load": value}).with_columns(pl.col("at").dt.cast_time_unit("us"))
    from treadle.training.forecasts import lagged

    frame = lagged(frame, "at", "load", ["1d", "2d", "7d"], gap="1d").drop_nulls()
    return frame.with_columns(id=pl.int_range(pl.len()), known=pl.col("at"))


def machines():
    rng = np.random.default_rng(3)
    n = 3000
    odd = rng.random(n) < 0.03
    x = rng.normal(size=(n, 4))
    x[odd] += rng.choice([-4, 4], size=(odd.sum(), 4))
    return pl.DataFrame({"id": range(n), **{f"x{i}": x[:, i] for i in range(4)}, "odd": odd, "machine": [f"m{i % 40}" for i in range(n)]})


ranked = project.dataset("queries", source=tr.rows(queries), key="id")
hourly = project.dataset("load", source=tr.rows(load), key="id", event_time="at", known_time="known")
sensors = project.dataset("machines", source=tr.rows(machines), key="id")


def endless(depth):
    if depth == 2:
        while True:
            time.sleep(1)
    if depth == 3:
        raise ValueError("depth 3 is not to be had")
    return LogisticRegression(C=float(depth))


project.model("rank", rows=ranked, target="relevance", inputs=["a", "b", "country"], task=tr.ranking("query", at=5), trials=6,
              protected=["country", "kind"], gates=[tr.enough_rows(), tr.signal(), tr.better_than_luck(), tr.covered(), tr.no_weak_slice(rows=50), tr.fair(gap=0.1)])
project.model("demand", rows=hourly, target="load", inputs=["load_lag_1d", "load_lag_2d", "load_lag_7d"], task=tr.forecast("load_lag_1d"),
              split=tr.by_time("14d", gap="1d"), trials=4)
project.model("high", rows=hourly, target="load", inputs=["load_lag_1d", "load_lag_2d", "load_lag_7d"], task=tr.forecast("load_lag_1d", quantile=0.9),
              split=tr.by_time("14d", gap="1d"), trials=3, candidates=[tr.candidate("lightgbm")])
project.model("odd", rows=sensors, target="odd", inputs=["x0", "x1", "x2", "x3"], task=tr.anomaly(0.03), trials=6)
project.model("grouped", rows=sensors, target="odd", inputs=["x0", "x1", "x2", "x3"], split=tr.by_group("machine"), metric="roc_auc", protected=["machine"],
              candidates=[tr.candidate("logistic"), tr.candidate("curved", make_pipeline(PolynomialFeatures(), LogisticRegression(max_iter=500)),
                          polynomialfeatures__degree=[1, 2], logisticregression__C=stats.loguniform(0.01, 10))], trials=6)
project.model("twice", rows=sensors, target="odd", inputs=["x0", "x1", "x2", "x3"], split=tr.at_random(nested=3, folds=3), candidates=[tr.candidate("logistic")], trials=3)
project.model("hangs", rows=sensors, target="odd", inputs=["x0", "x1"], candidates=[tr.candidate("mine", endless, depth=[1, 2, 3])], trials=3, trial_limit="8s")
project.model("timed", rows=sensors, target="odd", inputs=["x0", "x1", "x2", "x3"], budget="10s", trials=8)


def slow(depth):
    time.sleep(0.4)
    return LogisticRegression(C=float(depth))


project.model("killed", rows=sensors, target="odd", inputs=["x0", "x1"], candidates=[tr.candidate("slow", slow, depth=(0.01, 10.0))], trials=10)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "project.py").write_text(PROJECT)
    return folder


@pytest.fixture
def ws(folder: Path) -> Any:
    ws = open_workspace(folder)
    yield ws
    ws.close()


def run(ws: Workspace, name: str) -> tuple[Record, Record]:
    """(the version a turn made, the record of its search)."""
    turn(ws, ws.model(name), cause={"kind": "hand", "text": "test"})
    [version] = ws.ledger.find("model_version", {"model": name}, newest_first=True, limit=1)
    search = ws.ledger.get("search", version["trials"])
    assert search is not None
    return version, search


def value(version: Record, metric: str, who: str = "model") -> float:
    return float(version["evaluation"]["metrics"][who][metric]["value"])


def test_a_ranking_is_judged_by_ndcg_within_its_groups_and_no_group_is_parted(ws: Workspace) -> None:
    version, search = run(ws, "rank")
    assert version["evaluation"]["primary"] == "ndcg"
    assert version["split"]["method"] == "group"
    assert value(version, "ndcg") > 0.58 > 0.5 > value(version, "ndcg", "baseline")
    assert {t["family"] for t in search["leaderboard"]} == {"ridge", "lightgbm", "lambdarank"}
    assert version["parity"]["largest_difference"] < 1e-5


def test_everything_asked_of_a_ranking_is_asked_by_its_ndcg_and_of_its_groups(ws: Workspace) -> None:
    version, _ = run(ws, "rank")
    found = version["evaluation"]
    loss = 1 - value(version, "ndcg")
    assert found["selection"]["loss"] == "1 - NDCG"
    assert found["selection"]["judged"] >= 2
    assert abs(found["selection"]["seen"] - loss) < 0.1
    assert found["selection"]["baseline"] > 0.5
    assert abs(found["robustness"]["loss"] - loss) < 0.05  # of 1,500 of the 1,800 test rows, in whole groups
    assert found["importance"]["features"][0]["name"] == "a"
    worst = found["worst_slices"]["worst"][0]
    assert (worst["where"], worst["rows"]) == ([["country", "= far"]], worst["rows"])
    assert worst["excess"] > 0.1
    [(attribute, gap)] = [(a["attribute"], a["gap"]["value"]) for a in found["fairness"]["attributes"]]
    assert (attribute, gap > 0.2) == ("country", True)
    assert "kind: differs within a group" in found["fairness"]["not_asked"]
    said = {f["gate"]: (f["passed"], f["reason"]) for f in version["verdict"]["findings"]}
    assert said["covered"] == (True, "not asked: the score of a ranking only orders, no interval of it would mean anything")
    assert said["better_than_luck"][0]
    assert "weak where country = far: 1 - NDCG of its groups above the mean" in said["no_weak_slice"][1]
    assert "unfair beyond doubt: country" in said["fair"][1]


def test_a_forecast_is_scaled_by_the_season_before_which_is_its_baseline(ws: Workspace) -> None:
    version, _ = run(ws, "demand")
    assert version["evaluation"]["primary"] == "mase"
    assert version["evaluation"]["baseline_family"] == "the same time a season ago"
    assert value(version, "mase") < 0.95 < value(version, "mase", "baseline") < 1.1
    assert version["split"]["gap"] == 86400
    quantile, _ = run(ws, "high")
    assert quantile["evaluation"]["primary"] == "pinball"
    assert value(quantile, "pinball") < value(quantile, "pinball", "baseline") / 2
    found = quantile["evaluation"]
    assert found["selection"]["loss"] == found["staleness"]["loss"] == "scaled pinball loss"
    assert found["robustness"]["loss"] == pytest.approx(value(quantile, "scaled_pinball"), rel=0.01) or found["robustness"]["rows"] < found["rows"]
    assert found["conformal"][0]["level"] == 0.9
    assert abs(found["conformal"][0]["coverage"] - 0.9) < 0.1


def test_anomalies_are_found_by_what_is_usual_and_judged_on_the_labels(ws: Workspace) -> None:
    version, search = run(ws, "odd")
    assert {t["family"] for t in search["leaderboard"]} == {"isolation", "neighbours", "distance"}
    assert value(version, "average_precision") > 0.9
    assert value(version, "average_precision", "baseline") < 0.1


def test_groups_stay_whole_and_a_pipeline_of_ones_own_is_searched_by_a_distribution(ws: Workspace) -> None:
    version, search = run(ws, "grouped")
    assert version["split"] == {**version["split"], "method": "group", "by": "machine"}
    assert version["family"] == "curved"
    assert version["params"]["polynomialfeatures__degree"] == 2
    ways = [w["way"] for w in version["evaluation"]["fairness"]["mitigation"]["machine"]]
    assert any("rows weighted" in w for w in ways)  # the weights reach the last step of a pipeline of one's own
    assert {0.01 <= t["params"]["logisticregression__C"] <= 10 for t in search["leaderboard"] if t["family"] == "curved"} == {True}


def test_a_nested_search_says_what_such_a_search_is_worth(ws: Workspace) -> None:
    _, search = run(ws, "twice")
    assert len(search["nested"]) == 3
    assert any("repeated in 3 outer folds" in sentence for sentence in search["explanation"])
    assert search["expected"] >= search["leaderboard"][0]["loss"]


def test_a_trial_that_never_ends_and_one_that_raises_are_failed_trials_with_their_reasons(ws: Workspace) -> None:
    version, search = run(ws, "hangs")
    assert version["params"] == {"depth": 1}
    errors = {t["params"]["depth"]: t["error"] for t in search["leaderboard"] if t["status"] == "failed"}
    assert errors == {2: "It took longer than its limit of 8 s and was stopped.", 3: "ValueError: depth 3 is not to be had"}


def test_a_budget_ends_the_search_and_the_record_says_what_was_tried_and_why_the_winner_won(ws: Workspace) -> None:
    version, search = run(ws, "timed")
    told = " ".join(search["explanation"])
    assert "The budget was 10 s" in told
    assert f"The winner is {version['family']}" in told
    assert search["leaderboard"][0]["family"] == version["family"]


def test_a_search_that_is_killed_takes_over_the_trials_on_record_and_finds_the_same_model(folder: Path, tmp_path: Path) -> None:
    def home(name: str) -> dict[str, str]:
        return {**os.environ, "TREADLE_HOME": str(tmp_path / name), "TREADLE_THREADS": "1"}

    command = [sys.executable, "-m", "treadle.cli.main", "-C", str(folder), "run", "killed"]
    process = subprocess.Popen(command, env=home("one"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: trials(tmp_path / "one") >= 3, process), "three trials were never on record"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = trials(tmp_path / "one")
    assert 3 <= before < 10
    kept = dict(bodies(tmp_path / "one"))
    for name in ("one", "two"):  # the killed one goes on; another one was never disturbed
        done = subprocess.run(command, env=home(name), capture_output=True, text=True, check=False)
        assert done.returncode in (0, 4), done.stderr
    assert trials(tmp_path / "one") == trials(tmp_path / "two") == 10
    after = dict(bodies(tmp_path / "one"))
    assert {id: after[id] for id in kept} == kept  # not one of them was tried again
    told = explanation(tmp_path / "one")
    assert f"{before} of them were on record" in told
    assert winner(tmp_path / "one") == winner(tmp_path / "two")


def until(happened: Any, process: subprocess.Popen[bytes]) -> bool:
    while process.poll() is None:
        if happened():
            return True
        time.sleep(0.02)
    return bool(happened())


def rows_of(home: Path, kind: str) -> list[tuple[str, str, int]]:
    if not (home / "ledger.db").exists():
        return []
    try:
        with sqlite3.connect(home / "ledger.db") as connection:
            return connection.execute("SELECT id, body, version FROM records WHERE kind = ?", (kind,)).fetchall()
    except sqlite3.OperationalError:  # it is being made
        return []


def trials(home: Path) -> int:
    return len(rows_of(home, "trial"))


def bodies(home: Path) -> list[tuple[str, tuple[str, int]]]:
    return [(id, (body, version)) for id, body, version in rows_of(home, "trial")]


def explanation(home: Path) -> str:
    return rows_of(home, "search")[0][1]


def winner(home: Path) -> Any:
    import json

    [row] = rows_of(home, "model_version")
    body = json.loads(row[1])
    return body["params"], body["package"]["digest"], body["evaluation"]["metrics"], body["evaluation"].get("selection")
