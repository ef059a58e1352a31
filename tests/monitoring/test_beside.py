"""What stands beside outcomes and columns: repeated rows, unusual rows, groups, contributions; over the prediction log and by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

import treadle as tr
from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.memory_predictions import MemoryPredictions
from treadle.core.clock import parse_time
from treadle.core.declare.operations import Rate, Watch
from treadle.core.errors import ProjectError
from treadle.core.schema import Field
from treadle.monitoring import alarms
from treadle.monitoring.aspects import Aspects, Gathering
from treadle.monitoring.beside import judge_aspects
from treadle.monitoring.blocks import BlockStats, block_stats, prediction_sketches
from treadle.monitoring.calibrate import shares_among
from treadle.monitoring.calibrate_aspects import usual_of
from treadle.monitoring.detectors.outliers import Outliers
from treadle.monitoring.judge import WatchState
from treadle.monitoring.reference import Normal
from treadle.monitoring.sketches import sketch_column
from treadle.monitoring.thresholds import Thresholds
from treadle.monitoring.usual import Usual
from treadle.monitoring.watch import BLOCK, Watched, judge_due
from treadle.ports.predictions import Outcome, Prediction

DAY = 86_400_000_000
ZERO = int(parse_time("2024-01-01").timestamp() * 1e6)
RATE = 1 / 91
QUIET = BlockStats(0, DAY, 400, 400, ())


def ordinary(rng: np.random.Generator, **changes: Any) -> Aspects:
    gap = rng.normal(0, 0.02)
    made = Aspects(
        400, 0.05 * rng.random(), 0.01 + 0.005 * rng.random(), {"temp": 1.0}, {"sex = a": gap, "sex = b": -gap}, {"sex = a": 0.0, "sex = b": 0.0},
        {"sex = a": (200, 200), "sex = b": (200, 200)}, {"temp": 2 + rng.normal(0, 0.1), "hour": 1 + rng.normal(0, 0.1), "rain": 0.2},
    )  # fmt: skip
    return replace(made, **changes)


@pytest.fixture(scope="module")
def usual() -> Usual:
    rng = np.random.default_rng(0)
    return usual_of([ordinary(rng) for _ in range(60)], 7.0, RATE, 8, 0)


def test_unchanged_blocks_are_silent_and_their_limits_survive_json(usual: Usual) -> None:
    again = Usual.from_json(json.loads(json.dumps(usual.to_json())))
    assert again == usual
    rng, state = np.random.default_rng(1), WatchState()
    told = []
    for _ in range(91):
        so, groups, found = judge_aspects(state.open, state.groups, QUIET, ordinary(rng), again)
        state = WatchState.from_json(json.loads(json.dumps(replace(state, open=tuple(so), groups=groups).to_json())))
        told += found
    assert len(told) <= 1


@pytest.mark.parametrize(
    ("changes", "kind", "metric", "says"),
    [
        ({"repeated": 0.5}, "data_quality", "repeated", "50% of the rows stand in the block more than once"),
        ({"odd": 0.3}, "outliers", "odd_rows", "'temp'"),
        ({"weights": {"temp": 0.1, "hour": 0.2, "rain": 3.0}}, "attribution", "contributions", "'rain'"),
        ({"gaps": {"sex = a": -0.3, "sex = b": 0.3}}, "fairness", "group_loss", "'sex = b' fares worse than others"),
    ],
)
def test_each_is_told_on_the_day_it_begins_and_once(usual: Usual, changes: dict[str, Any], kind: str, metric: str, says: str) -> None:
    rng = np.random.default_rng(2)
    so, groups, [found] = judge_aspects((), {}, QUIET, ordinary(rng, **changes), usual)
    assert (found.kind, found.metric) == (kind, metric)
    assert says in found.sentence
    assert found.value > found.threshold
    if kind != "fairness":  # which waits for an answer, as quality does
        assert judge_aspects(tuple(so), groups, QUIET, ordinary(rng, **changes), usual)[2] == []
        assert {alarms.PASSING[name.split(":")[0]] for name in so} == {kind}
    assert found.slices[0][0] == "sex = b" if kind == "fairness" else found.slices == ()


def test_a_declared_gap_is_told_beyond_chance_only(usual: Usual) -> None:
    rng = np.random.default_rng(3)
    few = ordinary(rng, bias={"sex = a": 0.15, "sex = b": -0.15})
    many = replace(few, sizes={"sex = a": (5_000.0, 5_000.0), "sex = b": (5_000.0, 5_000.0)})
    assert judge_aspects((), {}, QUIET, few, Usual(), 0.1)[2] == []
    [found] = judge_aspects((), {}, QUIET, many, Usual(), 0.1)[2]
    assert (found.metric, found.severity) == ("group_bias", "high")
    assert judge_aspects((), {}, QUIET, many, Usual(), None)[2] == []


def test_nothing_is_judged_where_nothing_is_known() -> None:
    assert usual_of([], 7.0, RATE, 8, 0) == Usual()
    assert judge_aspects((), {}, QUIET, ordinary(np.random.default_rng(0), repeated=1.0, odd=1.0), Usual())[2] == []


def test_rows_are_gathered_in_batches_as_at_once() -> None:
    known = Outliers({"temp": sketch_column([float(v % 40) for v in range(4_000)], "number")})
    rows = [[float(i % 50)] for i in range(900)] + [[500.0]] * 100
    raw = [json.dumps(r).encode() for r in rows]
    whole, parts = (Gathering(["temp"], known, 6.0, 3) for _ in range(2))
    whole.add(rows, raw)
    for i in range(0, 1_000, 130):
        parts.add(rows[i : i + 130], raw[i : i + 130])
    assert whole.aspects({}, ()) == parts.aspects({}, ())
    found = whole.aspects({}, (), lambda kept: {"temp": float(len(kept))})
    assert found.odd >= 0.1
    assert found.repeated > 0.9
    assert found.weights == {"temp": 3.0}


def test_the_tolerated_rate_is_shared_among_what_is_judged() -> None:
    assert sum(shares_among(("quality", "calibration", "input", "prediction", "fairness")).values()) == pytest.approx(1)
    assert shares_among(("quality",), beside=False)["ranking"] > shares_among(("quality", "input"), beside=False)["ranking"]
    assert "ranking" not in shares_among(("quality",), ranked=False)


def test_groups_that_are_no_categories_of_the_version_are_named_where_they_are_declared() -> None:
    model = tr.Project("p", owner="me", goal="see")
    with pytest.raises(ProjectError, match="is not a share"):
        model.watch(made := _model(model), fairness_gap="x")
    watch = model.watch(made, groups="temp")
    with pytest.raises(ProjectError, match=r"groups names 'temp', which is no category") as raised:
        watch.compared([Field("temp", "number"), Field("sex", "category")])
    assert "sex" in str(raised.value)
    with pytest.raises(ProjectError, match=r"p99='soon' is not a length of time"):
        tr.levels(p99="soon")
    with pytest.raises(ProjectError, match=r"errors=0 is not a share above zero"):
        tr.levels(errors=0)
    assert tr.levels(p99="50ms").p99 == timedelta(milliseconds=50)


def _model(project: Any) -> Any:
    rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id")
    return project.model("m", rows=rows, target="y", inputs=["temp", "sex"])


def test_the_watch_judges_them_over_the_prediction_log_and_records_them() -> None:
    rng = np.random.default_rng(5)

    def day(number: int, twice: bool = False, shift: float = 0.0) -> list[tuple[Prediction, Outcome]]:
        rows = [[round(float(rng.normal(20, 5)) + shift, 3), str(rng.choice(["a", "b"]))] for _ in range(300)]
        rows = rows[:150] * 2 if twice else rows
        found = []
        for i, row in enumerate(rows):
            p, at = float(rng.random()), ZERO + number * DAY + i * 60_000_000
            id = f"p{number}-{i}"
            found.append((Prediction(id, "m", at, at, 1, "champion", (1 - p, p), 0, (), b"{}", json.dumps(row).encode(), 5),
                          Outcome(id, bool(rng.random() < p), at + 1)))  # fmt: skip
        return found

    features = [Field("temp", "number"), Field("sex", "category")]
    training = {"temp": sketch_column(rng.normal(20, 5, 5_000), "number"), "sex": sketch_column(rng.choice(["a", "b"], 5_000), "category")}
    outputs = rng.random(5_000)
    reference = {**training, **prediction_sketches([False, True], np.column_stack([1 - outputs, outputs]))}
    normal = Normal(reference, Thresholds(usual=Usual(odd_score=6.0, odd=0.05, repeated=0.2)), 60)
    watched = Watched("m", 1, "binary", [False, True], features, normal)
    watch = Watch(_model(tr.Project("p", owner="me", goal="see")), timedelta(days=1), timedelta(days=1), Rate(1, timedelta(days=91)), groups=("sex",))
    log, ledger = MemoryPredictions(), MemoryLedger()
    for number in range(4):
        pairs = day(number, twice=number == 2, shift=40.0 if number == 3 else 0.0)
        log.write([p for p, _ in pairs], [o for _, o in pairs])
    found = judge_due(watched, watch, log, ledger, parse_time("2024-01-10"))
    assert [(b.start // DAY - ZERO // DAY, f.metric) for b, f in found if f.metric in ("repeated", "odd_rows")] == [(2, "repeated"), (3, "odd_rows")]
    blocks = sorted(ledger.find(BLOCK, {"model": "m"}), key=lambda b: b["start"])
    assert blocks[2]["beside"]["repeated"] == pytest.approx(0.5, abs=0.01)
    assert set(blocks[0]["beside"]["gaps"]) == {"sex = a", "sex = b"}
    assert blocks[3]["beside"]["odd_by"]["temp"] > 0.9
    assert judge_due(watched, watch, log, ledger, parse_time("2024-01-10")) == []  # nothing is judged twice
    assert block_stats("binary", [False, True], np.zeros((0, 2)), None, np.zeros(0)).rows == 0
