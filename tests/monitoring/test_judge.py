"""A quiet stream stays quiet; what breaks is named within days."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from treadle.core.declare.operations import Rate
from treadle.monitoring.blocks import BlockStats, block_stats, prediction_sketches
from treadle.monitoring.calibrate import calibrate_watch
from treadle.monitoring.judge import Finding, WatchState, judge_block
from treadle.monitoring.sketches import Sketch, rolling, sketch_column
from treadle.monitoring.thresholds import Thresholds

DAY = 86_400_000_000
KINDS = {"temp": "number", "rain": "number", "hour": "integer", "weekday": "integer", "carrier": "category"}


@dataclass(frozen=True)
class Nightly:
    every: timedelta = timedelta(days=1)
    false_alarms: Rate = field(default=Rate(1, timedelta(days=91)))


@dataclass
class Day:
    features: dict[str, Any]
    outputs: np.ndarray
    truth: np.ndarray
    number: int

    def stats(self) -> BlockStats:
        moments = self.number * DAY + np.arange(len(self.truth))
        return block_stats("binary", [False, True], self.outputs, self.truth, moments, start=self.number * DAY, end=(self.number + 1) * DAY)

    def sketches(self) -> dict[str, Sketch]:
        columns = {name: sketch_column(values, KINDS[name]) for name, values in self.features.items()}  # type: ignore[arg-type]
        return {**columns, **prediction_sketches([False, True], self.outputs)}


def day(rng: np.random.Generator, number: int, rows: int = 400) -> Day:
    """Flights of one day share their weather and their luck: the model knows the first, not the second."""
    weather, luck = rng.normal(0, 3), rng.normal(0, 0.25)
    temp, hour = 12 + weather + rng.normal(0, 6, rows), rng.integers(5, 24, rows)
    rain, carrier = np.where(weather > 2, rng.exponential(1, rows), 0.0), rng.choice(["UA", "AA", "DL", "B6"], rows, p=[0.4, 0.3, 0.2, 0.1])
    logit = -1.5 + 0.08 * (hour - 14) + 0.05 * (temp - 12) + 0.8 * rain + 0.4 * (carrier == "UA")
    p = 1 / (1 + np.exp(-logit))
    truth = (rng.random(rows) < 1 / (1 + np.exp(-(logit + luck)))).astype(int)
    features = {"temp": temp, "rain": rain, "hour": hour, "weekday": np.full(rows, number % 7), "carrier": carrier}
    return Day(features, np.column_stack([1 - p, p]), truth, number)


@dataclass(frozen=True)
class World:
    reference: dict[str, Sketch]
    thresholds: Thresholds


def world(seed: int = 0, rows: int = 400) -> World:
    rng = np.random.default_rng([seed, 1])
    history, test = [day(rng, i, rows) for i in range(200)], [day(rng, i, rows) for i in range(200, 260)]
    reference = rolling([d.sketches() for d in history], longest=200)
    return World(reference, calibrate_watch([d.stats() for d in test], Nightly(), features=[d.sketches() for d in test], reference=reference))


@pytest.fixture(scope="module")
def trained() -> World:
    return world()


def live(w: World, days: list[Day]) -> list[tuple[int, Finding]]:
    state, seen, found = WatchState(), [], []
    for i, d in enumerate(days):
        seen.append(d.sketches())
        state, new = judge_block(state, d.stats(), seen[-1], w.reference, w.thresholds, window=rolling(seen[-7:]))
        state = WatchState.from_json(json.loads(json.dumps(state.to_json())))
        found += [(i, finding) for finding in new]
    return found


def stream(count: int, seed: int = 5, rows: int = 400) -> list[Day]:
    rng = np.random.default_rng([seed, 2])
    return [day(rng, 300 + i, rows) for i in range(count)]


def faulty(fault: Any, after: int = 10, count: int = 14) -> list[Day]:
    days = stream(count)
    rng = np.random.default_rng(9)
    for d in days[after:]:
        fault(d, rng)
    return days


def first(found: list[tuple[int, Finding]], after: int = 10) -> tuple[int, Finding]:
    assert all(i >= after for i, _ in found), found
    assert found, "nothing was found"
    return found[0][0] - after + 1, found[0][1]


def fahrenheit(d: Day, rng: np.random.Generator) -> None:
    d.features["temp"] = d.features["temp"] * 1.8 + 32


def nulls(d: Day, rng: np.random.Generator) -> None:
    d.features["temp"] = np.where(rng.random(len(d.truth)) < 0.4, np.nan, d.features["temp"])


def stuck(d: Day, rng: np.random.Generator) -> None:
    d.features["temp"] = np.full(len(d.truth), 12.0)


def renamed(d: Day, rng: np.random.Generator) -> None:
    d.features["carrier"] = np.where(d.features["carrier"] == "UA", "United", d.features["carrier"])


def noisy(d: Day, rng: np.random.Generator) -> None:
    d.truth = np.where(rng.random(len(d.truth)) < 0.3, 1 - d.truth, d.truth)


def test_an_unchanged_stream_of_a_hundred_and_twenty_days_hardly_ever_alarms(trained: World) -> None:
    found = live(trained, stream(120))
    assert len({finding.kind for _, finding in found}) <= 1, found
    assert len(found) <= 2, found


def test_over_many_models_alarms_come_at_about_the_tolerated_rate() -> None:
    quarters = 6 * 120 / 91
    found = [finding for seed in range(6) for _, finding in live(world(seed), stream(120, seed=100 + seed))]
    assert len(found) <= 2 * quarters, [f.sentence for f in found]


@pytest.mark.parametrize(
    ("fault", "metric", "feature", "days"),
    [
        (fahrenheit, "out_of_range", "temp", 1),
        (nulls, "missing_jump", "temp", 1),
        (stuck, "constant", "temp", 1),
        (renamed, "new_share", "carrier", 1),
    ],
)
def test_a_broken_feature_is_named_on_the_day_it_breaks(trained: World, fault: Any, metric: str, feature: str, days: int) -> None:
    delay, finding = first(live(trained, faulty(fault)))
    assert (delay, finding.kind, finding.metric) == (days, "data_quality", metric)
    assert finding.features[0][0] == feature
    assert feature in finding.sentence


def test_labels_of_which_a_third_are_wrong_are_found_within_three_days(trained: World) -> None:
    delay, finding = first(live(trained, faulty(noisy)))
    assert delay <= 3
    assert finding.kind in ("quality", "calibration")


def test_small_blocks_are_gathered_over_a_week_and_faults_still_found_in_days() -> None:
    w = world(rows=80)
    days = stream(20, rows=80)
    for d in days[10:]:
        fahrenheit(d, np.random.default_rng(0))
    delay, finding = first(live(w, days))
    assert delay <= 3
    assert finding.metric == "out_of_range"


def test_an_input_that_moves_inside_its_range_is_reported_once_and_again_only_after_it_came_back(trained: World) -> None:
    days = stream(30)
    for d in days[5:12] + days[20:]:
        d.features["hour"] = np.minimum(d.features["hour"], 9)
    found = [(i, f) for i, f in live(trained, days) if f.kind == "input"]
    assert [i for i, _ in found] == [5, 20]
    assert found[0][1].features[0][0] == "hour"


def test_all_drifting_features_are_one_finding_worst_first(trained: World) -> None:
    days = stream(3)
    for d in days[1:]:
        d.features["hour"] = np.minimum(d.features["hour"], 9)
        d.features["carrier"] = np.where(np.arange(len(d.truth)) % 20, "B6", d.features["carrier"])
    found = [f for _, f in live(trained, days) if f.kind == "input"]
    assert len(found) == 1
    assert {name for name, _ in found[0].features} == {"hour", "carrier"}


def test_a_day_the_model_itself_foresees_to_be_hard_is_not_an_alarm(trained: World) -> None:
    rng = np.random.default_rng(21)
    days = stream(20)
    for d in days:
        p = rng.uniform(0.4, 0.6, len(d.truth))
        d.outputs, d.truth = np.column_stack([1 - p, p]), (rng.random(len(p)) < p).astype(int)
    found = live(trained, days)
    assert {f.kind for _, f in found} == {"prediction"}


def test_what_the_model_answers_is_watched(trained: World) -> None:
    days = stream(7)
    for d in days[2:]:
        d.outputs = np.column_stack([1 - d.outputs[:, 1] / 3, d.outputs[:, 1] / 3])
    kinds = {f.kind: i for i, f in live(trained, days)}
    assert 2 <= kinds["prediction"] <= 4
    assert "calibration" in kinds


def test_blocks_without_outcomes_leave_quality_undecided(trained: World) -> None:
    blind = replace_truth(stream(1)[0], -1)
    assert blind.stats().loss is None
    state, found = judge_block(WatchState(), blind.stats(), blind.sketches(), trained.reference, trained.thresholds)
    assert (state.quality.n, found) == (0, [])


def test_a_regression_that_grows_worse_or_biased_is_found() -> None:
    rng = np.random.default_rng(31)

    def block(i: int, spread: float = 10.0, bias: float = 0.0) -> BlockStats:
        p = rng.uniform(0, 100, 200)
        y = p + bias + rng.normal(0, 1) + rng.normal(0, spread, 200)
        return block_stats("regression", [], p[:, None], np.where(np.arange(200) % 10, y, np.nan), i * DAY + np.arange(200))

    thresholds = calibrate_watch([block(i) for i in range(60)], Nightly())

    def kinds(blocks: list[BlockStats]) -> dict[str, int]:
        state, found = WatchState(), {}
        for i, b in enumerate(blocks):
            state, new = judge_block(state, b, {}, {}, thresholds)
            for f in new:
                found.setdefault(f.kind, i)
        return found

    assert kinds([block(i) for i in range(30)]) == {}
    assert kinds([block(i, spread=15.0) for i in range(4)])["quality"] <= 2
    assert kinds([block(i, bias=5.0) for i in range(4)])["calibration"] <= 2


def test_a_regression_without_reference_blocks_is_not_judged_by_its_errors() -> None:
    b = block_stats("regression", [], np.zeros((50, 1)), np.full(50, 1e6), np.arange(50))
    state, found = judge_block(WatchState(), b, {}, {}, calibrate_watch([], Nightly()))
    assert (state.quality.n, state.calibration.n, found) == (0, 0, [])


def test_several_classes_are_calibrated_by_their_top_class() -> None:
    rng = np.random.default_rng(41)
    p = rng.dirichlet([2, 1, 1], 20_000)
    truth = (p.cumsum(axis=1) < rng.random(20_000)[:, None]).sum(axis=1)
    honest = block_stats("multiclass", ["a", "b", "c"], p, truth, np.arange(20_000))
    assert honest.excess == pytest.approx(0, abs=0.02)
    assert abs(honest.calibration_z or 0) < 4
    assert set(prediction_sketches(["a", "b", "c"], p)) == {"@prediction:a", "@prediction:b", "@prediction:c"}
    sure = block_stats("multiclass", ["a", "b", "c"], p**3 / (p**3).sum(axis=1, keepdims=True), truth, np.arange(20_000))
    assert (sure.calibration_z or 0) < -10


def test_calibration_z_is_its_formula_and_shrinks_with_dispersion() -> None:
    d = stream(1)[0]
    p = d.outputs[:, 1]
    z = (d.truth.sum() - p.sum()) / np.sqrt((p * (1 - p)).sum())
    assert d.stats().calibration_z == pytest.approx(z)
    wide = block_stats("binary", [False, True], d.outputs, d.truth, np.arange(len(p)), dispersion=4.0)
    assert wide.calibration_z == pytest.approx(z / 2)


def test_blocks_and_thresholds_survive_json(trained: World) -> None:
    b = stream(1)[0].stats()
    assert BlockStats.from_json(json.loads(json.dumps(b.to_json()))) == b
    assert Thresholds.from_json(json.loads(json.dumps(trained.thresholds.to_json()))) == trained.thresholds


def test_a_finding_says_since_when_in_a_sentence(trained: World) -> None:
    _, finding = first(live(trained, faulty(noisy)))
    assert finding.window_start <= 310 * DAY < finding.window_end
    assert finding.sentence.startswith("Since 1970-")


def replace_truth(d: Day, value: int) -> Day:
    return replace(d, truth=np.full(len(d.truth), value))
