"""The newest requests tell of a broken feed before their block is over, once; and the block's own judgement is the same alarm."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

import treadle as tr
from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.memory_predictions import MemoryPredictions
from treadle.core.clock import ReplayClock, parse_time
from treadle.core.declare.operations import Rate, Watch
from treadle.core.schema import Field
from treadle.monitoring import alarms
from treadle.monitoring.blocks import prediction_sketches
from treadle.monitoring.fresh import LEAST, look_at_newest
from treadle.monitoring.reference import Normal
from treadle.monitoring.sketches import sketch_column
from treadle.monitoring.thresholds import Thresholds
from treadle.monitoring.watch import Watched, judge_due
from treadle.ports.predictions import Prediction

ZERO = int(parse_time("2024-01-01").timestamp() * 1e6)
MINUTE = 60_000_000


def predictions(begin: int, count: int, broken: int = 10**9) -> list[Prediction]:
    rng = np.random.default_rng(begin)
    made = []
    for i in range(begin, begin + count):
        temp = None if i >= broken and i % 5 > 1 else round(float(rng.normal(20, 5)), 2)
        p, at = float(rng.random()), ZERO + i * MINUTE
        made.append(Prediction(f"p{i}", "m", at, at, 1, "champion", (1 - p, p), 0, (), b"{}", json.dumps([temp, "a"]).encode(), 5))
    return made


@pytest.fixture
def world() -> Any:
    rng = np.random.default_rng(0)
    p = rng.random(5_000)
    reference = {
        "temp": sketch_column(rng.normal(20, 5, 5_000), "number"), "kind": sketch_column(["a"] * 4_000 + ["b"] * 1_000, "category"),
        **prediction_sketches([False, True], np.column_stack([1 - p, p])),
    }  # fmt: skip
    watched = Watched("m", 1, "binary", [False, True], [Field("temp", "number"), Field("kind", "category")], Normal(reference, Thresholds(), 0))
    project = tr.Project("p", owner="me", goal="see")
    model = project.model("m", rows=project.dataset("rows", source=tr.csv("rows.csv"), key="id"), target="y", inputs=["temp", "kind"])
    return watched, Watch(model, timedelta(days=1), timedelta(days=2), Rate(1, timedelta(days=91))), MemoryPredictions(), MemoryLedger()


def test_a_null_burst_is_told_within_500_requests_and_its_block_later_says_the_same(world: Any) -> None:
    watched, watch, log, ledger = world
    log.write(predictions(0, 600))
    now = parse_time("2024-01-01T12:00:00")
    assert look_at_newest(watched, watch, log, ledger, now) == []
    log.write(predictions(600, 400, broken=600))
    now = parse_time("2024-01-01T20:00:00")
    [(block, found)] = look_at_newest(watched, watch, log, ledger, now)
    assert (found.kind, found.metric, found.features[0][0], found.suspected) == ("data_quality", "missing_jump", "temp", "pipeline bug")
    assert alarms.raise_alarm("m", 1, found, ledger, ReplayClock(now)) is not None
    assert alarms.gone(ledger, ReplayClock(now)) == []  # it waits for the judgement of its block
    for _ in range(3):
        for _, again in look_at_newest(watched, watch, log, ledger, now):
            assert alarms.raise_alarm("m", 1, again, ledger, ReplayClock(now)) is None
    log.write(predictions(1_000, 440, broken=600))
    told = [f for _, f in judge_due(watched, watch, log, ledger, parse_time("2024-01-05"))]
    [same] = [f for f in told if f.metric == "missing_jump"]
    assert same.window_end == block.end == found.window_end
    assert alarms.raise_alarm("m", 1, same, ledger, ReplayClock(now)) is None
    assert len(alarms.open_alarms("m", ledger)) == 1
    assert look_at_newest(watched, watch, log, ledger, now) == []  # its block has been judged


def test_few_requests_requests_of_the_future_and_kinds_not_wanted_are_not_looked_at(world: Any) -> None:
    watched, watch, log, ledger = world
    log.write(predictions(0, LEAST - 1, broken=0))
    assert look_at_newest(watched, watch, log, ledger, parse_time("2024-01-02")) == []
    log.write(predictions(LEAST - 1, 100, broken=0))
    assert look_at_newest(watched, watch, log, ledger, parse_time("2024-01-01T01:00:00")) == []  # the clock went back
    assert look_at_newest(watched, watch, log, ledger, parse_time("2024-01-02")) != []
    quiet = Watch(watch.model, watch.every, watch.label_window, watch.false_alarms, kinds=("quality",))
    assert look_at_newest(watched, quiet, log, ledger, parse_time("2024-01-02")) == []
