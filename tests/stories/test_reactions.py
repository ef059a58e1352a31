"""What evidence may do: one run for one cause, a person where a change is not agreed, the way back, and nothing twice."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.clock import ReplayClock, parse_time
from treadle.core.errors import Conflict, NotFound
from treadle.live import retraining
from treadle.monitoring import alarms
from treadle.monitoring.judge import Finding
from treadle.reactions import HOLD, react
from treadle.registry import promote, versions
from treadle.testing.command import treadle
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story

START, TRAINED, NOW = "2024-01-01", "2024-02-01T00:00:00Z", "2024-02-20T00:00:00Z"
PROJECT = """import treadle as tr

project = tr.Project("orders", owner="shop", goal="know which orders come back")
orders = project.dataset("orders", source=tr.parquet("orders.parquet"), key="order", event_time="ordered_at", known_time="settled_at",
    contract=tr.Contract(columns={"order": tr.text(), "amount": tr.number(ge=0), "shop": tr.category(), "ordered_at": tr.timestamp(),
                                  "settled_at": tr.timestamp(), "returned": tr.boolean()}))
model = project.model("returns", rows=orders, target="returned", inputs=["amount", "shop"],
    candidates=[tr.candidate("logistic")], trials=1, split=tr.by_time(test="4d"), gates=[tr.enough_rows(50)])
project.serve(model, shadow="2d", canary="30%", canary_for="2d", least_outcomes=100, durability="buffered")
project.watch(model, every="1d", label_window="1d", skew_sample=0, retrain=tr.on_evidence(at_most="2 per 30d", POLICY))
"""


def folder_with(tmp_path: Path, policy: str = "", family: str = "logistic") -> Workspace:
    """The project, its first version answering (without a process), and the clock at NOW."""
    os.environ["TREADLE_THREADS"] = "1"
    (tmp_path / "project.py").write_text(PROJECT.replace("POLICY", policy).replace("logistic", family))
    rng = np.random.default_rng(3)
    count = 60 * 40
    at = pl.Series(np.sort(rng.uniform(0, 60 * 86_400, count)) * 1e6).cast(pl.Int64) + int(parse_time(START).timestamp() * 1e6)
    amount = rng.gamma(2.0, 30.0, count)
    late = (at > int(parse_time(TRAINED).timestamp() * 1e6)).to_numpy()
    returned = rng.random(count) < 1 / (1 + np.exp(-0.03 * (amount - 60) - np.where(late, 1.5, -1.0)))
    at = at.cast(pl.Datetime("us", "UTC"))
    pl.DataFrame({"order": [f"o{i}" for i in range(count)], "amount": amount, "shop": rng.choice(["north", "south"], count), "returned": returned}).with_columns(
        at.alias("ordered_at"), (at + pl.duration(hours=6)).alias("settled_at")
    ).write_parquet(tmp_path / "orders.parquet")
    ws = open_workspace(tmp_path)
    turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "test"}, as_of=parse_time(TRAINED))
    ws.clock = ReplayClock(parse_time(TRAINED))
    promote.first("returns", 1, ws.ledger, ws.clock, actor="test")
    ws.clock = ReplayClock(parse_time(NOW))
    return ws


def alarm(ws: Workspace, kind: str = "quality", number: int = 0) -> str:
    end = int(parse_time(NOW).timestamp() * 1e6) - number
    raised = alarms.raise_alarm("returns", 1, Finding(kind, kind, 9.0, 5.0, end - 86_400_000_000, end, (), f"{kind} {number}"), ws.ledger, ws.clock)  # type: ignore[arg-type]
    return raised.id if raised else ""


def runs(ws: Workspace) -> list:
    return [r for r in ws.ledger.find("run") if r["cause"]["kind"] in ("alarm", "schedule", "new_data")]


@pytest.mark.parametrize("alarms", [150, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_storm_of_alarms_is_answered_by_one_run(tmp_path: Path, alarms: int) -> None:
    ws = folder_with(tmp_path)
    first = alarm(ws)
    body = ws.ledger.get("alarm", first).body  # type: ignore[union-attr]
    for i in range(alarms):  # beside those that join it: as many of their own, as if each was another cause
        alarm(ws, number=i)
        ws.ledger.put("alarm", f"alarm-storm-{i:04d}", {**body, "kind": ("quality", "calibration")[i % 2]})
    for _ in range(3):
        react(ws, ws.model(), lambda line: None)
    assert len(runs(ws)) == 1
    record = ws.ledger.find(retraining.KIND)[0]
    assert record["status"] == "challenges"
    assert len(record["also"]) == alarms
    assert all(a["reaction"] == record["run"] for a in ws.ledger.find("alarm"))


def _react(folder: str, barrier: object) -> None:
    ws = open_workspace(folder, clock=ReplayClock(parse_time(NOW)))
    barrier.wait()  # type: ignore[attr-defined]
    react(ws, ws.model(), lambda line: None)


def test_two_processes_that_see_the_same_alarm_at_once_start_one_run(tmp_path: Path) -> None:
    ws = folder_with(tmp_path)
    alarm(ws)
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    children = [spawn.Process(target=_react, args=(str(tmp_path), barrier)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert len(runs(ws)) == 1
    assert [r["status"] for r in ws.ledger.find(retraining.KIND)] == ["challenges"]


def test_a_retraining_that_was_begun_and_left_is_gone_on_with_by_whoever_looks_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = folder_with(tmp_path)
    id = alarm(ws)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(retraining, "turn", killed)
        with pytest.raises(KeyboardInterrupt):
            react(ws, ws.model(), lambda line: None)
    assert ws.ledger.find(retraining.KIND)[0]["status"] == "started"
    ws.clock = ReplayClock(parse_time("2024-02-22"))  # the rows are still those of when the alarm was first answered
    done = react(ws, ws.model(), lambda line: None)
    assert done is not None
    assert done["status"] == "challenges"
    assert versions.get("returns", 2, ws.ledger)["as_of"][:10] == NOW[:10]
    assert ws.ledger.get("alarm", id)["reaction"] == done["run"]  # type: ignore[index]


def test_a_change_outside_the_envelope_waits_for_a_person_who_says_yes(tmp_path: Path) -> None:
    ws = folder_with(tmp_path, "envelope=tr.envelope(answers=0.001)")
    alarm(ws)
    asked = react(ws, ws.model(), lambda line: None)
    assert asked is not None
    assert asked["status"] == "asks"
    assert "its answers change by" in asked["outside"][0]
    alarm(ws, "calibration")
    assert react(ws, ws.model(), lambda line: None) is None  # nothing new starts while a person is asked
    assert promote.deployment("returns", ws.ledger)["challenger"] is None  # type: ignore[index]
    shown = treadle(tmp_path, "reactions").stdout
    assert asked.id in shown
    assert "a person is asked if its answers change by more than 0.001" in shown
    treadle(tmp_path, "reactions", "approve", asked.id, "--reason", "the new shop explains it")
    assert "answered" in treadle(tmp_path, "reactions", "reject", asked.id, expect=6).stderr
    react(ws, ws.model(), lambda line: None)
    assert promote.deployment("returns", ws.ledger)["challenger"] == 2  # type: ignore[index]
    assert len(runs(ws)) == 1


def test_a_person_who_says_no_or_nothing_ends_it(tmp_path: Path) -> None:
    ws = folder_with(tmp_path, "ask='always'")
    id = alarm(ws)
    asked = react(ws, ws.model(), lambda line: None)
    assert asked is not None
    assert asked["status"] == "asks"
    retraining.say(ws, asked.id, yes=False, reason="labels are wrong")
    react(ws, ws.model(), lambda line: None)
    assert ws.ledger.get(retraining.KIND, asked.id)["status"] == "rejected"  # type: ignore[index]
    assert "labels are wrong" in ws.ledger.get("alarm", id)["resolution"]  # type: ignore[index]
    with pytest.raises(Conflict):
        retraining.say(ws, asked.id, yes=True)
    with pytest.raises(NotFound):
        retraining.say(ws, "reaction-none", yes=True)


def test_a_budget_that_is_spent_is_said_and_the_alarm_is_answered_later(tmp_path: Path) -> None:
    ws = folder_with(tmp_path)
    for k in range(2):  # two are allowed; both are thrown out by hand
        alarm(ws, number=k)
        react(ws, ws.model(), lambda line: None)
        promote.reject("returns", "test", {}, ws.ledger, ws.clock)
        retraining.settled(ws, ws.model(), 2 + k, "thrown out", "test")
        ws.clock = ReplayClock(parse_time(f"2024-02-{21 + k}"))
    third = alarm(ws, number=7)
    assert react(ws, ws.model(), lambda line: None) is None
    held = ws.ledger.get(HOLD, "returns")
    assert held is not None
    assert held["held"]["cause"] == third
    assert "2 of 2 retrainings" in held["held"]["sentence"]
    assert "HELD until" in treadle(tmp_path, "reactions").stdout


def test_new_rows_start_a_retraining_and_the_window_limits_what_it_learns_from(tmp_path: Path) -> None:
    ws = folder_with(tmp_path, "on=(), new_rows='40%', window='14d'")
    done = react(ws, ws.model(), lambda line: None)
    assert done is not None
    assert done["cause"]["kind"] == "new_data"
    made = versions.get("returns", 2, ws.ledger)
    assert 300 < made["trained_rows"] < 450  # ten days of forty, the four newest tested on
    assert react(ws, ws.model(), lambda line: None) is None


def test_an_online_family_follows_what_becomes_known_and_its_version_is_made_again_to_the_last_bit(tmp_path: Path) -> None:
    ws = folder_with(tmp_path, "on=(), new_rows=400, ask='never'", "online")
    react(ws, ws.model(), lambda line: None)
    made = versions.get("returns", 2, ws.ledger)
    assert made["trained_rows"] > versions.get("returns", 1, ws.ledger)["trained_rows"]
    assert made["trained_to"] < NOW  # an outcome counts from the moment it is known, six hours after its prediction
    assert promote.deployment("returns", ws.ledger)["stage"] == "shadow"  # type: ignore[index]  # it goes through the same stages
    assert "equal" in treadle(tmp_path, "reproduce", "returns", "--version", "2", "--here").stdout


def test_a_clock_that_jumps_a_year_and_back_starts_one_run_for_the_calendar(tmp_path: Path) -> None:
    ws = folder_with(tmp_path, "on=(), every='30d'")
    for moment in ("2025-03-01", "2024-02-21", "2025-03-01", "2024-02-22"):
        ws.clock = ReplayClock(parse_time(moment))
        react(ws, ws.model(), lambda line: None)
        deployed = promote.deployment("returns", ws.ledger)
        if deployed is not None and deployed["challenger"] is not None:
            promote.reject("returns", "test", {}, ws.ledger, ws.clock)
    assert len(runs(ws)) == 1


def test_a_retraining_that_cannot_be_done_is_said_once_and_not_tried_at_every_look(tmp_path: Path) -> None:
    ws = folder_with(tmp_path, "window='1d'")
    id = alarm(ws)
    for _ in range(3):
        react(ws, ws.model(), lambda line: None)
    assert [r["status"] for r in ws.ledger.find(retraining.KIND)] == ["failed"]
    assert "could not be done" in ws.ledger.get("alarm", id)["resolution"]  # type: ignore[index]
