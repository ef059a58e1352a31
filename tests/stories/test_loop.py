"""The whole loop on a small generated history with a change in the middle: an alarm starts exactly one retraining, whose version takes over on evidence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.client import Endpoint
from treadle.core.clock import ReplayClock, parse_time
from treadle.live.deploy import deploy, running_endpoint, stop
from treadle.monitoring.alarms import open_alarms
from treadle.reactions import rollout, step
from treadle.registry import promote, versions
from treadle.replay import replay
from treadle.testing.command import treadle
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story

START, CHANGE, TRAINED = "2024-01-01", "2024-02-10", "2024-02-01T00:00:00Z"
PROJECT = """import polars as pl
import treadle as tr

project = tr.Project("orders", owner="shop", goal="know which orders come back")
orders = project.dataset("orders", source=tr.parquet("orders.parquet"), key="order", event_time="ordered_at", known_time="settled_at",
    contract=tr.Contract(columns={"order": tr.text(), "amount": tr.number(ge=0), "shop": tr.category(), "ordered_at": tr.timestamp(),
                                  "settled_at": tr.timestamp(), "returned": tr.boolean()}))
shop = project.view("shop_record", source=orders, entity="shop", window="7d", every="1d", features={"shop_returns": pl.col("returned").mean()})
model = project.model("returns", rows=orders, target="returned", inputs=["amount", "shop", tr.hour("ordered_at")], views=[shop],
    candidates=[tr.candidate("logistic")], trials=2, split=tr.by_time(test="4d"), slices=["shop"],
    gates=[tr.enough_rows(100), tr.signal(), tr.beats_baseline(), tr.no_worse_than_champion(margin=0.05)])
project.serve(model, shadow="3d", canary="30%", canary_for="3d", least_outcomes=100, durability="buffered")
project.watch(model, every="1d", label_window="1d", false_alarms="1 per quarter", retrain=tr.on_evidence(at_most="1 per 5d"))
"""


def history(days: int = 75, a_day: int = 80) -> pl.DataFrame:
    """Orders that come back more often the dearer they are; from CHANGE on many more of them do. Generated."""
    rng = np.random.default_rng(3)
    count = days * a_day
    at = np.sort(rng.uniform(0, days * 86_400, count))
    change = (parse_time(CHANGE) - parse_time(START)).total_seconds()
    amount = rng.gamma(2.0, 30.0, count)
    level = np.where(at < change, -1.0, 1.0)
    returned = rng.random(count) < 1 / (1 + np.exp(-0.03 * (amount - 60) - level))
    ordered = pl.Series(at * 1e6).cast(pl.Int64) + int(parse_time(START).timestamp() * 1e6)
    frame = pl.DataFrame(
        {"order": [f"o{i:06d}" for i in range(count)], "amount": amount, "shop": rng.choice(["north", "south"], count), "returned": returned}
    )
    ordered_at = ordered.cast(pl.Datetime("us", "UTC"))
    return frame.with_columns(ordered_at.alias("ordered_at"), (ordered_at + pl.duration(hours=6)).alias("settled_at"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project.py").write_text(PROJECT)
    history().write_parquet(tmp_path / "orders.parquet")
    return tmp_path


def trained(folder: Path) -> Workspace:
    """The project with its first version answering."""
    os.environ["TREADLE_THREADS"] = "1"
    ws = open_workspace(folder)
    turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "test"}, as_of=parse_time(TRAINED))
    deploy(ws, ws.model(), at=parse_time(TRAINED))
    return ws


def test_a_change_in_the_world_becomes_one_alarm_one_retraining_and_a_new_champion(folder: Path) -> None:
    ws = trained(folder)
    model = ws.model()
    told: list[str] = []
    try:
        record = replay(ws, model, sample=1, tell=lambda p: told.append(p.did) if p.did else None)
    finally:
        stop(ws, model.name)
    assert record["status"] == "done"
    assert record["sent"] == record["outcomes"] == ws.predictions.count(model.name)[0] == ws.predictions.count(model.name)[1]
    # The change is found within days of its outcomes, and the alarm is the recorded cause of exactly one run.
    runs = [r for r in ws.ledger.find("run") if r["cause"]["kind"] == "alarm"]
    assert runs, told
    assert len({r["cause"]["id"] for r in runs}) == len(runs)
    alarm = ws.ledger.get("alarm", runs[0]["cause"]["id"])
    assert alarm is not None
    assert CHANGE <= alarm["raised"][:10] <= "2024-02-17"
    assert alarm["reaction"] == runs[0].id
    # Its version went through shadow and canary and is champion; the events say on what evidence.
    deployed = promote.deployment(model.name, ws.ledger)
    assert deployed is not None
    assert deployed["champion"] > 1
    kinds = [e.kind for e in ws.ledger.events_since(0, limit=10_000) if e.kind.startswith("deployment.")]
    assert kinds[:4] == ["deployment.started", "deployment.shadow", "deployment.canary", "deployment.promoted"]
    # And the loop was right to: after the change the first version is worse than what answered.
    late = [(p, o) for batch in ws.predictions.between(model.name, 0, 2**62) for p, o in batch if p.version == deployed["champion"]]
    assert late
    correct = [(p.output[1] > 0.5) == o.value for p, o in late if o]
    assert np.mean(correct) > 0.6
    # One prediction's story, read backwards from its id.
    done = treadle(folder, "why", late[0][0].id, "--json")
    story = json.loads(done.stdout)
    assert story["version"]["id"] == f"returns.v{deployed['champion']}"
    assert story["made_by"]["alarm"]["sentence"] == alarm["sentence"] or story["made_by"]["cause"]["kind"] == "alarm"
    assert story["outcome"][0]["value"] in (True, False)
    assert set(story["features"]) == {"amount", "shop", "ordered_at_hour", "shop_returns"}
    # A finished replay is not done again.
    again = treadle(folder, "replay", "returns", "--sample", "1", "--json")
    assert json.loads(again.stdout)["sent"] == record["sent"]


def test_a_replay_that_is_killed_goes_on_where_it_was_and_loses_nothing(folder: Path) -> None:
    ws = trained(folder)
    model = ws.model()
    environment = {**os.environ, "TREADLE_THREADS": "1"}
    try:
        for _ in range(2):
            before = ws.predictions.count(model.name)[0]
            child = subprocess.Popen(
                [sys.executable, "-m", "treadle.cli.main", "-C", str(folder), "replay", "--sample", "2"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            deadline = time.monotonic() + 60
            while ws.predictions.count(model.name)[0] < before + 300 and time.monotonic() < deadline and child.poll() is None:
                time.sleep(0.05)
            child.send_signal(signal.SIGKILL)
            child.wait()
        record = replay(ws, model, sample=2)
    finally:
        stop(ws, model.name)
    expected = json.loads(treadle(folder, "status", "--json").stdout)["models"][0]
    predictions, outcomes = ws.predictions.count(model.name)
    assert record["status"] == "done"
    assert predictions == outcomes == expected["predictions"]
    ids = [p.id for batch in ws.predictions.between(model.name, 0, 2**62) for p, _ in batch]
    assert len(ids) == len(set(ids))


def test_an_endpoint_that_is_killed_has_kept_every_acknowledged_answer_and_starts_again(folder: Path) -> None:
    text = PROJECT.replace('durability="buffered"', 'durability="acknowledged"')
    (folder / "project.py").write_text(text)
    ws = trained(folder)
    model = ws.model()
    running = running_endpoint(ws, model.name)
    assert running is not None
    endpoint = Endpoint(running["url"])
    answered = [endpoint.predict({"amount": float(i), "shop": "north", "ordered_at": "2024-02-01T10:00:00Z"})["id"] for i in range(50)]
    os.kill(running["pid"], signal.SIGKILL)
    os.waitpid(running["pid"], 0)
    assert all(ws.predictions.get(id) is not None for id in answered)
    assert running_endpoint(ws, model.name) is None
    deploy(ws, model)
    try:
        again = running_endpoint(ws, model.name)
        assert again is not None
        assert Endpoint(again["url"]).predict({"amount": 5.0, "shop": "north"})["version"] == 1
    finally:
        stop(ws, model.name)


def _answered(ws: Workspace, model: Any, worse: bool) -> None:
    """Ten days of traffic with a challenger beside the champion, and its truth."""
    from treadle.ports.predictions import Outcome, Prediction

    rng = np.random.default_rng(1)
    start = int(parse_time(TRAINED).timestamp() * 1e6)
    entries, outcomes = [], []
    for i in range(1_000):
        p = rng.uniform(0.1, 0.9)
        truth = bool(rng.random() < p)
        other = 1 - p if worse else p
        moment = start + int(i * 864e6)
        entries.append(
            Prediction(f"p-{i}", model.name, moment, moment, 1, "champion", (1 - p, p), 2, (1 - other, other), b"{}", b'[1.0,"north",1.0,0.5]', 5)
        )
        outcomes.append(Outcome(f"p-{i}", truth, moment + 1))
    ws.predictions.write(entries, outcomes)


@pytest.mark.parametrize(("worse", "stage"), [(True, "none"), (False, "canary")])
def test_a_worse_challenger_is_thrown_out_in_shadow_and_an_equal_one_goes_on(folder: Path, worse: bool, stage: str) -> None:
    ws = open_workspace(folder)
    model = ws.model()
    os.environ["TREADLE_THREADS"] = "1"
    turn(ws, model, cause={"kind": "person", "id": "", "text": "first"}, as_of=parse_time(TRAINED))
    turn(ws, model, cause={"kind": "person", "id": "", "text": "second"}, as_of=parse_time("2024-02-05"))
    ws.clock = ReplayClock(parse_time(TRAINED))
    promote.first(model.name, 1, ws.ledger, ws.clock, actor="test")
    promote.challenge(model.name, 2, ws.ledger, ws.clock)
    _answered(ws, model, worse)
    ws.clock = ReplayClock(parse_time("2024-02-11"))
    decision = rollout(ws, model, lambda line: None)
    assert decision is not None
    deployed = promote.deployment(model.name, ws.ledger)
    assert deployed is not None
    assert deployed["stage"] == stage
    assert deployed["champion"] == 1
    assert versions.get(model.name, 2, ws.ledger)["status"] == ("rejected" if worse else "challenger")


def test_one_cause_starts_one_run_however_often_and_from_wherever_it_is_looked_at(folder: Path) -> None:
    ws = trained(folder)
    model = ws.model()
    try:
        replay(ws, model, sample=2, end=parse_time("2024-02-18"))
    finally:
        stop(ws, model.name)
    count = len([r for r in ws.ledger.find("run") if r["cause"]["kind"] == "alarm"])
    for _ in range(3):
        other = open_workspace(folder, clock=ReplayClock(parse_time("2024-02-18")))
        step(other, other.model())
    assert len([r for r in ws.ledger.find("run") if r["cause"]["kind"] == "alarm"]) == count
    assert len({a.id for a in open_alarms(model.name, ws.ledger)}) == len(open_alarms(model.name, ws.ledger))


def test_a_watch_brings_the_online_store_up_to_what_is_known_now(folder: Path) -> None:
    from treadle.live.deploy import refresh

    ws = trained(folder)
    model = ws.model()
    stop(ws, model.name)
    before = ws.online.newest("shop_record")
    ws.clock = ReplayClock(parse_time("2024-02-20T12:00:00Z"))
    assert refresh(ws, model) == 2
    after = ws.online.newest("shop_record")
    assert before is not None
    assert after is not None
    assert before < after <= int(parse_time("2024-02-20T12:00:00Z").timestamp() * 1e6)
    assert refresh(ws, model) == 0


def test_a_damaged_table_is_read_from_its_source_again(folder: Path) -> None:
    ws = open_workspace(folder)
    model = ws.model()
    cause = {"kind": "person", "id": "", "text": "test"}
    first = turn(ws, model, cause=cause, as_of=parse_time(TRAINED), until="signature")
    table = ws.tables.files(first["data:orders"]["address"])[0]
    table.chmod(0o644)
    table.write_bytes(table.read_bytes()[:-100] + bytes(100))
    again = turn(ws, model, cause=cause, as_of=parse_time(TRAINED), until="signature")
    assert "data:orders" not in again.reused
    assert again["data:orders"] == first["data:orders"]
    ws.tables.verify(again["data:orders"]["address"])
