"""What goes wrong around a watch: outcomes nobody asked for, days without data, a reference with one value, numbers that cannot be, a jumping clock."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

import treadle as tr
from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.memory_predictions import MemoryPredictions
from treadle.core.clock import parse_time
from treadle.core.declare.operations import Rate, Watch
from treadle.core.schema import Field
from treadle.monitoring.blocks import block_stats, prediction_sketches
from treadle.monitoring.calibrate import calibrate_watch
from treadle.monitoring.findings import Finding
from treadle.monitoring.judge import WatchState, judge_block
from treadle.monitoring.recent import Recent
from treadle.monitoring.reference import Normal
from treadle.monitoring.sketches import rolling, sketch_column
from treadle.monitoring.thresholds import Thresholds
from treadle.monitoring.watch import BLOCK, STATE, Watched, judge_due
from treadle.ports.predictions import Outcome, Prediction

DAY = 86_400_000_000
ZERO = int(parse_time("2024-01-01").timestamp() * 1e6)
FEATURES = [Field("temp", "number"), Field("stuck", "number"), Field("kind", "category")]
LABELS = [False, True]


def project_watch(**options: Any) -> Watch:
    project = tr.Project("p", owner="me", goal="see")
    model = project.model("m", rows=project.dataset("rows", source=tr.csv("r.csv"), key="id"), target="y", inputs=["temp", "stuck", "kind"])
    return Watch(model, timedelta(days=1), timedelta(days=1), Rate(1, timedelta(days=91)), **options)


def watched(thresholds: Thresholds | None = None) -> Watched:
    rng = np.random.default_rng(0)
    p = rng.random(3_000)
    reference = {
        "temp": sketch_column(rng.normal(20, 5, 3_000), "number"), "stuck": sketch_column([7.0] * 3_000, "number"),
        "kind": sketch_column(["a"] * 3_000, "category"), **prediction_sketches(LABELS, np.column_stack([1 - p, p])),
    }  # fmt: skip
    return Watched("m", 1, "binary", LABELS, FEATURES, Normal(reference, thresholds or Thresholds(), 0))


def day(number: int, rows: int = 250) -> tuple[list[Prediction], list[Outcome]]:
    rng = np.random.default_rng(number)
    made, truth = [], []
    for i in range(rows):
        p, at = float(rng.random()), ZERO + number * DAY + i * 60_000_000
        features = json.dumps([round(float(rng.normal(20, 5)), 2), 7.0, "a"]).encode()
        made.append(Prediction(f"p{number}-{i}", "m", at, at, 1, "champion", (1 - p, p), 0, (), b"{}", features, 5))
        truth.append(Outcome(f"p{number}-{i}", bool(rng.random() < p), at + 3_600_000_000))
    return made, truth


def judged(log: MemoryPredictions, ledger: MemoryLedger, *moments: str) -> list[Finding]:
    found = []
    for moment in moments:
        found += [f for _, f in judge_due(watched(), project_watch(), log, ledger, parse_time(moment))]
    return found


def blocks(ledger: MemoryLedger) -> list[dict[str, Any]]:
    kept = sorted(ledger.find(BLOCK, {"model": "m"}), key=lambda b: int(b["start"]))
    return [{k: v for k, v in b.body.items() if k != "sketches"} for b in kept]


def test_outcomes_for_unknown_ids_duplicates_and_contradictions_give_the_block_of_the_last_word() -> None:
    clean, messy = MemoryPredictions(), MemoryPredictions()
    made, truth = day(0)
    clean.write(made, truth)
    wrong = [Outcome(o.prediction, not o.value, o.known) for o in truth[:80]]
    messy.write([], truth[:50])  # before their predictions are logged
    messy.write(made, wrong)
    messy.write([], [Outcome("nobody", True, ZERO), Outcome("p0-1-x", False, ZERO)])
    right = [Outcome(o.prediction, o.value, o.known + 1) for o in truth]  # a correction back is known later; the same told again is a retry
    messy.write([], [*right, *right[:30]])
    ledgers = MemoryLedger(), MemoryLedger()
    for log, ledger in zip((clean, messy), ledgers):
        judged(log, ledger, "2024-01-05")
    assert blocks(ledgers[0]) == blocks(ledgers[1])
    assert messy.strays() == 2


def test_a_stretch_without_data_is_passed_over_in_one_step_and_an_empty_log_is_no_error() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    assert judged(log, ledger, "2024-01-05") == []
    assert ledger.get(STATE, "m") is None
    for number in (0, 1, 200):
        log.write(*day(number))
    judged(log, ledger, "2024-09-01")
    assert [(b["start"] - ZERO) // DAY for b in blocks(ledger)] == [0, 1, 200]


def test_outcomes_that_are_no_values_of_the_target_are_as_unknown() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    made, truth = day(0)
    log.write(made, [Outcome(o.prediction, "perhaps" if i < 245 else o.value, o.known) for i, o in enumerate(truth)])
    judged(log, ledger, "2024-01-05")
    [block] = blocks(ledger)
    assert (block["rows"], block["matured"]) == (250, 5)


def test_a_clock_that_jumps_ahead_and_back_judges_each_block_once() -> None:
    log, ledger, steady = MemoryPredictions(), MemoryLedger(), MemoryLedger()
    for number in range(4):
        log.write(*day(number))
    judged(log, ledger, "2024-01-03", "2031-01-01", "2023-01-01", "2024-01-04", "2024-01-08")
    judged(log, steady, *(f"2024-01-0{d}" for d in range(2, 9)))
    assert blocks(ledger) == blocks(steady)
    log.write(*day(5))  # what comes after the clock was years ahead is not lost for good
    assert int(ledger.get(STATE, "m")["next"]) > ZERO  # type: ignore[index]


def test_a_reference_with_one_value_gives_finite_thresholds_and_no_alarm_of_its_own() -> None:
    rng = np.random.default_rng(1)

    def columns(shift: float = 0.0) -> tuple[Any, Any]:
        p = np.full(250, 0.5)
        outputs = np.column_stack([1 - p, p])
        sketched = {"stuck": sketch_column([7.0 + shift] * 250, "number"), "kind": sketch_column(["a"] * 250, "category"),
                    **prediction_sketches(LABELS, outputs)}  # fmt: skip
        return sketched, outputs

    reference, _ = columns()
    features = [columns()[0] for _ in range(40)]
    stats = [block_stats("binary", LABELS, columns()[1], rng.integers(0, 2, 250), np.full(250, i * DAY), start=i * DAY, end=(i + 1) * DAY)
             for i in range(40)]  # fmt: skip
    thresholds = calibrate_watch(stats, project_watch(), features=features, reference=reference)
    for level in (*thresholds.block_levels.values(), *thresholds.week_levels.values(), *thresholds.jump_levels.values()):
        assert math.isfinite(level)
    state, found = WatchState(), []
    for i in range(40):
        recent = Recent(features[:i][-28:], [250] * min(i, 28), starts=[j * DAY for j in range(max(0, i - 28), i)])
        state, new = judge_block(state, stats[i], features[i], reference, thresholds, window=rolling(features[: i + 1]), recent=recent)
        found += new
    assert [f for f in found if f.kind not in ("quality", "calibration")] == []
    _, told = judge_block(state, stats[0], columns(3.0)[0], reference, thresholds, recent=Recent(features[-28:], [250] * 28))
    assert {name for f in told for name, _ in f.features} == {"stuck"}


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_metric_that_cannot_be_computed_is_left_out_and_the_others_are_judged(task: Any) -> None:
    labels = LABELS if task == "binary" else []
    width = 2 if labels else 1
    outputs = np.full((300, width), 0.5)
    truth = np.zeros(300)  # one class, one number: no order of rows, no correlation
    block = block_stats(task, labels, outputs, truth, np.arange(300), start=0, end=DAY)
    assert block.deficit is None
    assert math.isfinite(block.loss or 0.0)
    thresholds = calibrate_watch([block] * 12, project_watch())
    assert thresholds.ranking is None or math.isfinite(thresholds.ranking.threshold)
    state, _ = judge_block(WatchState(), block, {}, {}, thresholds)
    assert json.loads(json.dumps(state.to_json()))
    nothing = block_stats(task, labels, outputs, None, np.arange(300), start=0, end=DAY)
    assert judge_block(WatchState(), nothing, {}, {}, thresholds)[1] == []


def test_a_block_of_one_row_and_of_extreme_numbers_is_judged() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    rows: list[list[Any]] = [[1e308, 7.0, "a"], [None, None, None], [-1e308, 7.0, "ü" * 500]]
    log.write([Prediction(f"p{i}", "m", ZERO + i * DAY, 0, 1, "champion", (0.0, 1.0), 0, (), b"{}", json.dumps(r).encode(), 5)
               for i, r in enumerate(rows)], [Outcome("p0", False, ZERO + 1)])  # fmt: skip
    judged(log, ledger, "2024-01-10")
    assert [b["rows"] for b in blocks(ledger)] == [1, 1, 1]
    assert isinstance(parse_time("2024-01-10"), datetime)
