"""A small generated history with a change in the middle: what each policy does about it, and that what is counted is what was done."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.backtest.compared import Prices
from treadle.backtest.faults import fault
from treadle.backtest.history import history_of
from treadle.backtest.live import live
from treadle.backtest.policies import policies
from treadle.backtest.run import backtest
from treadle.backtest.trained import trained
from treadle.core.clock import parse_time
from treadle.core.errors import DataError, UsageError
from treadle.testing.command import treadle
from treadle.training.losses import auc

START, CHANGE, BEGIN = "2024-01-01", "2024-02-10", "2024-02-01"
PROJECT = """import polars as pl
import treadle as tr

project = tr.Project("orders", owner="shop", goal="know which orders come back")
orders = project.dataset("orders", source=tr.parquet("orders.parquet"), key="order", event_time="ordered_at", known_time="settled_at",
    contract=tr.Contract(columns={"order": tr.text(), "amount": tr.number(ge=0), "shop": tr.category(), "ordered_at": tr.timestamp(),
                                  "settled_at": tr.timestamp(), "returned": tr.boolean()}))
model = project.model("returns", rows=orders, target="returned", inputs=["amount", "shop", tr.hour("ordered_at")],
    candidates=[tr.candidate("logistic")], trials=1, split=tr.by_time(test="3d"), slices=["shop"],
    gates=[tr.enough_rows(100), tr.signal(), tr.beats_baseline(), tr.no_worse_than_champion(margin=0.05)])
project.serve(model, shadow="2d", canary="30%", canary_for="2d", least_outcomes=100, durability="buffered")
project.watch(model, every="1d", label_window="1d", false_alarms="1 per quarter", retrain=tr.on_evidence(at_most="1 per 4d", window="9d"))
"""


def history(days: int = 70, a_day: int = 80) -> pl.DataFrame:
    """Orders that come back more often the dearer they are; from CHANGE on it is the cheap ones. Generated."""
    rng = np.random.default_rng(3)
    count = days * a_day
    at = np.sort(rng.uniform(0, days * 86_400, count))
    change = (parse_time(CHANGE) - parse_time(START)).total_seconds()
    amount = rng.gamma(2.0, 30.0, count)
    slope = np.where(at < change, 0.03, -0.03)
    returned = rng.random(count) < 1 / (1 + np.exp(-slope * (amount - 60)))
    ordered = pl.Series(at * 1e6).cast(pl.Int64) + int(parse_time(START).timestamp() * 1e6)
    frame = pl.DataFrame(
        {"order": [f"o{i:06d}" for i in range(count)], "amount": amount, "shop": rng.choice(["north", "south"], count), "returned": returned}
    )
    ordered_at = ordered.cast(pl.Datetime("us", "UTC"))
    return frame.with_columns(ordered_at.alias("ordered_at"), (ordered_at + pl.duration(hours=6)).alias("settled_at"))


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("orders")
    (folder / "project.py").write_text(PROJECT)
    history().write_parquet(folder / "orders.parquet")
    return open_workspace(folder)


@pytest.fixture(scope="module")
def told(ws: Workspace) -> dict:
    model = ws.model()
    past = history_of(ws, model, begin=parse_time(BEGIN))
    prices = Prices(cpu_hour=1.0, training=5.0, miss=10.0, false_alarm=10.0, currency="EUR")
    return backtest(ws, model, past, policies(["never", "every:7d", "quality", "new:30%"], ws.watch_of(model)), prices=prices)


def of(told: dict, name: str) -> dict:
    return next(p for p in told["policies"] if p["policy"] == name)


def test_a_loop_that_retrains_is_better_than_one_that_never_does(told: dict) -> None:
    never, quality = of(told, "never"), of(told, "quality")
    assert never["retrained"] == 0
    assert never["better_by"] == {}
    gain = quality["better_by"]["roc_auc"]
    assert gain["low"] > 0, quality
    assert quality["earned"] > 0
    assert told["best"] in ("quality", "every:7d", "new:30%")


def test_an_alarm_about_quality_comes_after_the_change_and_starts_one_training(told: dict) -> None:
    quality = of(told, "quality")
    causes = [t["cause"]["id"] for t in quality["trainings"][1:]]
    assert causes
    assert len(set(causes)) == len(causes)
    first = next(a for a in quality["alarms"] if a["id"] == causes[0])
    assert CHANGE <= first["raised"][:10] <= "2024-02-16"


def test_the_calendar_trains_as_often_as_it_says(told: dict) -> None:
    moments = [parse_time(t["at"]) for t in of(told, "every:7d")["trainings"]]
    assert all((b - a).days >= 7 for a, b in pairwise(moments))
    assert 4 <= len(moments) - 1 <= 6


def test_what_is_said_of_never_is_what_the_first_version_says_of_those_rows(ws: Workspace, told: dict) -> None:
    model = ws.model()
    past = history_of(ws, model, begin=parse_time(BEGIN))
    first = trained(ws, model, past, past.begin)
    assert first.reused
    rows = past.between(past.begin, past.end)
    assert of(told, "never")["metrics"]["roc_auc"] == pytest.approx(auc(past.truth[rows], first.of(rows)[:, 1]), abs=1e-9)
    # And the first version learned from nothing that was not known then.
    assert first.learned <= len(past.known_by(past.begin))


def test_money_is_what_the_errors_cost(told: dict) -> None:
    never, other = of(told, "never"), of(told, "every:7d")
    spent = other["cpu"] / 3600 + 5.0 * other["retrained"]
    assert other["spent"] == pytest.approx(spent, abs=0.01)
    assert other["earned"] == pytest.approx(never["errors_cost"] - other["errors_cost"] - spent, abs=0.02)


def test_done_again_it_is_the_same_and_nothing_is_trained(ws: Workspace, told: dict) -> None:
    model, said = ws.model(), []
    past = history_of(ws, model, begin=parse_time(BEGIN))
    before = len(ws.ledger.find("backtest_training"))
    again = backtest(
        ws, model, past, policies(["never", "every:7d", "quality", "new:30%"], ws.watch_of(model)),
        prices=Prices(1.0, 5.0, 10.0, 10.0, "EUR"), tell=said.append,
    )  # fmt: skip
    assert {k: v for k, v in again.items() if k != "made"} == {k: v for k, v in told.items() if k != "made"}
    assert len(ws.ledger.find("backtest_training")) == before
    assert sum("known already" in line for line in said) == 5
    # Lived through once more, from the trainings that are kept: the same answers, row by row.
    policy = policies(["quality"], ws.watch_of(model))[0]
    lived = live(ws, model, past, policy, trained(ws, model, past, past.begin))
    assert lived.body()["trainings"] == of(told, "quality")["trainings"]


def test_a_fault_is_found_or_missed(ws: Workspace) -> None:
    model = ws.model()
    broken = [fault("missing:amount@2024-02-05+2d")]
    past = history_of(ws, model, begin=parse_time(BEGIN), end=parse_time("2024-02-09"), faults=broken)
    assert past.rows.filter(pl.col("amount").is_null()).height > 100
    found = backtest(ws, model, past, policies(["never"], ws.watch_of(model)))
    said = of(found, "never")["faults"][0]
    assert said["alarm"]
    assert said["kind"] == "data_quality"
    assert said["after_days"] <= 3


def test_bad_input_is_said_in_one_sentence(ws: Workspace) -> None:
    model = ws.model()
    with pytest.raises(DataError, match="no rows between"):
        history_of(ws, model, begin=parse_time("2030-01-01"))
    with pytest.raises(UsageError, match="no feature 'weight'"):
        history_of(ws, model, faults=[fault("missing:weight@2024-02-05")])
    with pytest.raises(UsageError, match="is no category"):
        history_of(ws, model, faults=[fault("rename:amount@2024-02-05")])
    past = history_of(ws, model, begin=parse_time("2024-01-01T02:00:00Z"))
    with pytest.raises(DataError):  # there is not enough to learn from yet
        backtest(ws, model, past, policies(["never"], ws.watch_of(model)))


@pytest.mark.story
def test_the_command_writes_a_page_and_its_numbers(ws: Workspace, told: dict, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = treadle(
        ws.folder, "backtest", "--from", BEGIN, "--policy", "never", "--policy", "every:7d", "--policy", "quality", "--at-once", "2", "--out", str(page)
    )
    assert "every:7d" in done.stdout
    text = page.read_text()
    assert "What would this loop have been worth?" in text
    assert f"{of(told, 'quality')['metrics']['roc_auc']:.4f}" in text
    assert json.loads(page.with_suffix(".json").read_text())["against"] == "never"
    wrong = treadle(ws.folder, "backtest", "--policy", "often", expect=2)
    assert "There is no policy 'often'" in wrong.stderr
