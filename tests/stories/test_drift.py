"""A project's data sets, windows and models are compared by name; the watch finds a fault, says what it is, and writes its figures."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from treadle.assemble import open_workspace
from treadle.cli.main import cli, main
from treadle.core.clock import ReplayClock, parse_time
from treadle.monitoring import alarms
from treadle.monitoring.figures import figures
from treadle.ports.predictions import Outcome, Prediction
from treadle.reactions import look
from treadle.registry import promote
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story

START = parse_time("2024-01-01")
PROJECT = """import treadle as tr

project = tr.Project("trips", owner="desk", goal="know which trips are late")
trips = project.dataset("trips", source=tr.parquet("trips.parquet"), key="trip", event_time="at", known_time="known",
    contract=tr.Contract(columns={"trip": tr.text(), "temp": tr.number(), "line": tr.category(), "at": tr.timestamp(), "known": tr.timestamp(),
                                  "late": tr.boolean()}))
model = project.model("late-trip", rows=trips, target="late", inputs=["temp", "line"], candidates=[tr.candidate("logistic")], trials=1,
    split=tr.by_time(test="14d"), gates=[tr.enough_rows(100)])
project.watch(model, every="1d", label_window="1d", false_alarms="1 per quarter")
"""


def test_a_project_compares_what_it_has_and_names_a_fault_in_production(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    days, a_day = 80, 300
    (tmp_path / "project.py").write_text(PROJECT)
    at = pl.Series(np.sort(rng.uniform(0, days * 86_400e6, days * a_day)).astype(np.int64) + int(START.timestamp() * 1e6)).cast(pl.Datetime("us", "UTC"))
    weather = np.repeat(rng.normal(0, 4, days), a_day)
    temp = 60 + weather + rng.normal(0, 6, days * a_day)
    frame = pl.DataFrame({"trip": [f"t{i}" for i in range(len(at))], "temp": temp, "line": rng.choice(["red", "blue"], len(at)), "at": at,
                          "late": rng.random(len(at)) < 1 / (1 + np.exp(-(temp - 62) / 6))}).with_columns(known=pl.col("at") + timedelta(hours=2))  # fmt: skip
    frame.write_parquet(tmp_path / "trips.parquet")
    ws = open_workspace(tmp_path)
    ws.clock = clock = ReplayClock(parse_time("2024-02-25"))
    model = ws.model()
    turn(ws, model, cause={"kind": "person", "id": "", "text": "test"}, as_of=clock.now())
    promote.first(model.name, 1, ws.ledger, clock, actor="test")

    def live(day: int, celsius: bool) -> None:
        rows = frame.slice(day * a_day, a_day)
        values = (rows["temp"] - 32) * 5 / 9 if celsius else rows["temp"]
        p = 1 / (1 + np.exp(-(rows["temp"].to_numpy() - 62) / 6))
        predictions, outcomes = [], []
        for i, (row, value) in enumerate(zip(rows.rows(named=True), values.to_list(), strict=True)):
            moment = int(row["at"].timestamp() * 1e6)
            features = msgspec.json.encode([value, row["line"]])
            predictions.append(Prediction(f"p{day}-{i}", model.name, moment, moment, 1, "champion", (1 - p[i], p[i]), 0, (), b"{}", features, 100))
            outcomes.append(Outcome(f"p{day}-{i}", bool(row["late"]), moment + 1))
        ws.predictions.write(predictions, outcomes)

    for day in range(56, 79):
        live(day, celsius=day >= 76)
    clock.set(START + timedelta(days=76, hours=30))
    raised = look(ws, model, lambda line: None)
    assert not [a for a in raised if a["kind"] == "data_quality"]
    clock.set(START + timedelta(days=80))
    raised = look(ws, model, lambda line: None)
    [alarm] = [a for a in raised if a["metric"] == "unit"]
    assert "Fahrenheit to Celsius" in alarm["sentence"]
    assert (alarm["suspected"], alarm["severity"]) == ("pipeline bug", "high")
    assert alarm["window"][0][:10] == "2024-03-17"
    alarms.gone(ws.ledger, clock)
    assert alarms.open_alarms(model.name, ws.ledger)  # it is still so
    assert 'treadle_alarms_open{about="late-trip",kind="data_quality",severity="high"} 1' in figures([model.name], ws.ledger, clock)
    assert 'treadle_feature_psi{model="late-trip",version="1",feature="temp"}' in figures([model.name], ws.ledger, clock)

    there = ["-C", str(tmp_path), "drift"]

    def compared(*arguments: str) -> dict[str, str]:
        run = CliRunner().invoke(cli, [*there, *arguments, "--json"], catch_exceptions=False)
        assert run.exit_code == 0, run.output
        return {c["name"]: c["verdict"] for c in json.loads(run.output)["columns"]}

    assert compared("trips@2024-01-01..2024-02-01", "trips@2024-02-01..")["temp"] == "alike"
    assert compared("trips@0", "trips", "--columns", "temp,line") == {"temp": "alike", "line": "alike"}
    assert compared("late-trip", "late-trip@2024-02-26..2024-03-17")["temp"] == "alike"
    assert compared("late-trip@v1", "late-trip@2024-03-17..")["temp"] == "broken"
    assert compared("trips", "late-trip@2024-03-17..", "--columns", "temp,line") == {"temp": "broken", "line": "alike"}
    assert main([*there, "trips@77", "trips"]) == 5
    assert main([*there, "nothing", "trips"]) == 5
    assert main([*there, "trips@2025-01-01..", "trips"]) == 3
    assert main([*there, "trips@2024-02-01..2024-01-01", "trips"]) == 2
    assert main([*there, "late-trip", "trips", "--every", "1d", "--columns", "temp"]) == 0
    assert main([*there, "trips", "late-trip", "--every", "1d"]) == 2
