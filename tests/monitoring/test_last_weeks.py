"""What the last weeks say: runs of alike days, jumps, units, volume, the order of rows, slices and figures."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.assemble import Workspace
from treadle.monitoring import bootstrap, charts, ranking
from treadle.monitoring.blocks import BlockStats
from treadle.monitoring.detectors import adwin, attribution, duplicates, fairness, jump, outliers, page_hinkley, service, units, volume
from treadle.monitoring.detectors.cusum import FAST, peaks
from treadle.monitoring.explain import explaining, sums_of
from treadle.monitoring.figures import figures
from treadle.monitoring.recent import Recent
from treadle.monitoring.sketches import NumberSketch, sketch_column
from treadle.monitoring.sudden import sudden, volume_of
from treadle.monitoring.thresholds import Thresholds
from treadle.training.losses import auc

DAY = 86_400_000_000


def autoregression(rng: np.random.Generator, n: int, r: float) -> np.ndarray:
    noise = rng.normal(size=n + 50) * np.sqrt(1 - r * r)
    series = np.zeros(n + 50)
    for i in range(1, n + 50):
        series[i] = r * series[i - 1] + noise[i]
    return series[50:]


@pytest.mark.parametrize(("r", "one_by_one"), [(0.0, False), (0.5, False), (0.7, False), (0.7, True)])
def test_alarms_on_days_that_resemble_each_other_come_at_about_the_stated_rate(monkeypatch: pytest.MonkeyPatch, r: float, one_by_one: bool) -> None:
    """At 0.7 they come at 1.7 times the rate, and at 6.4 times when days are drawn one by one."""
    monkeypatch.setattr("treadle.monitoring.charts.PATHS", 400)
    if one_by_one:
        monkeypatch.setattr("treadle.monitoring.bootstrap.run_length", lambda values: 1)
    rng, silent, series, days = np.random.default_rng(11), 0, 150, 91
    for i in range(series):
        values, future = autoregression(rng, 90, r), autoregression(rng, days, r)
        limits = charts.chart_limits(values, 1 / 91, watched=1, two_sided=True, seed=i)
        z = ((future - values.mean()) / values.std(ddof=1))[None]
        silent += bool(peaks(z)[0] <= limits.threshold and peaks(z, FAST)[0] <= limits.fast and np.abs(z).max() <= limits.single)
    rate = -np.log(max(silent, 0.5) / series)
    assert (rate > 3.5) if one_by_one else (0.6 < rate < 2.5)


@given(st.lists(st.floats(-10, 10), min_size=12, max_size=80), st.integers(1, 9), st.integers(1, 60))
def test_a_drawn_path_is_made_of_recorded_runs(values: list[float], run: int, length: int) -> None:
    recorded = np.array(values)
    path = bootstrap.draw(recorded, 1, length, np.random.default_rng(0), run)[0]
    assert len(path) == length
    circle = np.concatenate([recorded, recorded])
    for start in range(0, length, run):
        piece = path[start : start + run]
        assert any(np.array_equal(circle[i : i + len(piece)], piece) for i in range(len(recorded)))


def fortnight(rng: np.random.Generator, mean: float = 60.0) -> list[dict[str, Any]]:
    return [{"temp": sketch_column(mean + 6 * rng.normal() + 5 * rng.normal(size=400), "number")} for _ in range(14)]


def looked(change: Any, opened: tuple[str, ...] = ()) -> tuple[set[str], list[Any]]:
    rng = np.random.default_rng(3)
    before = fortnight(rng)
    reference = {"temp": sketch_column(45 + 18 * rng.normal(size=5_000), "number")}
    today = {"temp": sketch_column(change(60 + 5 * rng.normal(size=400)), "number")}
    block = BlockStats(0, DAY, 400, 0, ())
    return sudden(opened, set(), block, today, reference, Thresholds(jump_levels={"temp": 8.0}), Recent(before, [400] * 14))


def test_an_unchanged_block_is_silent_and_a_change_of_unit_or_a_jump_is_told_once() -> None:
    assert looked(lambda v: v) == (set(), [])
    now, [found] = looked(lambda v: (v - 32) * 5 / 9)
    assert (now, found.metric, found.severity) == ({"unit:temp"}, "unit", "high")
    assert "Fahrenheit to Celsius" in found.sentence
    assert looked(lambda v: (v - 32) * 5 / 9, ("unit:temp",)) == ({"unit:temp"}, [])
    now, [found] = looked(lambda v: v - 200)
    assert (now, found.metric) == ({"jump:temp"}, "jump")


def test_a_cold_snap_is_no_change_of_unit() -> None:
    for drop in (5, 10, 15, 20, 25):
        rng = np.random.default_rng(drop)
        days = [d["temp"] for d in fortnight(rng)]
        assert units.restored(days, sketch_column(60 - drop + 5 * rng.normal(size=400), "number")) is None  # type: ignore[arg-type]


def test_a_jump_needs_a_week_of_blocks() -> None:
    reference = sketch_column(np.arange(100.0), "number")
    assert isinstance(reference, NumberSketch)
    assert jump.score(reference, [reference] * 6, reference) is None
    assert jump.score(reference, [reference] * 7, reference) == 0.0


def test_few_rows_for_the_weekday_are_told_once_and_a_sunday_is_not_a_monday() -> None:
    starts = tuple(i * DAY for i in range(28))
    rows = [1_000 if i % 7 else 100 for i in range(28)]
    recent = Recent([{}] * 28, rows, starts=starts)

    def block(n: int, day: int = 28) -> BlockStats:
        return BlockStats(day * DAY, (day + 1) * DAY, n, 0, ())

    assert volume_of((), block(110), recent) == (set(), [])
    assert volume_of((), block(1_000, 29), recent) == (set(), [])
    now, [found] = volume_of((), block(100, 29), recent)
    assert (now, found.kind, found.severity) == ({"volume:rows"}, "volume", "high")
    assert volume_of(("volume:rows",), block(100, 29), recent) == ({"volume:rows"}, [])
    assert volume.score([], 5) is None


def test_the_order_of_rows_is_judged_against_what_probabilities_promise() -> None:
    rng = np.random.default_rng(4)
    p = rng.beta(1, 3, 20_000)
    y = (rng.random(20_000) < p).astype(int)
    outputs = np.column_stack([1 - p, p])
    found = ranking.deficit("binary", y, outputs)
    assert found is not None
    assert abs(found[0]) < 4 * np.sqrt(found[1] / 20_000)
    mixed = ranking.deficit("binary", y[rng.permutation(20_000)], outputs)
    assert mixed is not None
    assert mixed[0] == pytest.approx(auc(y, p) - 0.5, abs=0.03)
    assert ranking.deficit("binary", np.zeros(50, int), outputs[:50]) is None
    line = ranking.deficit("regression", np.arange(50.0), np.arange(50.0)[:, None])
    assert line is not None
    assert line[0] == pytest.approx(0.0)


def test_slices_that_carry_more_of_the_fault_than_of_the_rows_are_named() -> None:
    rng = np.random.default_rng(5)
    carrier = rng.choice(["UA", "AA", "DL"], 3_000)
    p = rng.beta(2, 6, 3_000)
    y = (rng.random(3_000) < np.where(carrier == "UA", 1 - p, p)).astype(int)
    sums = sums_of("binary", [False, True], {"carrier": carrier.tolist()}, np.column_stack([1 - p, p]), y)
    [(name, share)] = explaining([sums, sums], "excess")
    assert name == "carrier = UA"
    assert share > 0.8
    assert explaining([], "excess") == ()


def test_detectors_on_block_values_are_silent_on_noise_and_speak_on_a_change() -> None:
    rng = np.random.default_rng(6)
    calm, changed = rng.normal(size=120), np.concatenate([rng.normal(size=60), rng.normal(3, 1, size=60)])
    window, found = adwin.AdwinState(), []
    for value in calm:
        window, change = adwin.step(window, value)
        assert change is None
    window = adwin.AdwinState()
    for i, value in enumerate(changed):
        window, change = adwin.step(window, value)
        found += [i] if change else []
    assert 60 <= found[0] <= 85
    quiet, moved = page_hinkley.PageHinkleyState(), page_hinkley.PageHinkleyState()
    for a, b in zip(calm, changed, strict=True):
        quiet, moved = page_hinkley.step(quiet, a), page_hinkley.step(moved, b)
    assert quiet.rise < 8 < moved.rise


def test_outliers_name_the_feature_they_come_from() -> None:
    rng = np.random.default_rng(7)
    scorer = outliers.Outliers({"x": sketch_column(rng.normal(size=9_000), "number"), "c": sketch_column(["a"] * 5_000 + ["b"] * 4_000, "category")})
    scores, cause = scorer.score({"x": [0.0, 40.0, None, 0.1], "c": ["a", "a", "z", "b"]})
    assert cause[1:3] == ["x", "c"]
    assert scores[1] > 8 < scores[2]
    assert max(scores[0], scores[3]) < 2
    usual, _ = scorer.score({"x": rng.normal(size=5_000).tolist(), "c": ["a"] * 5_000})
    assert (usual > 7).mean() < 0.01


def test_a_group_that_is_treated_worse_is_found_and_a_bad_day_for_all_is_not() -> None:
    rng = np.random.default_rng(8)

    def day(extra: float = 0.0, weather: float = 0.0) -> dict[str, float]:
        return fairness.gaps({g: [200, 200, 200 * (weather + extra * (g == "b") + 0.05 * rng.normal()), 0.0] for g in "abc"})

    known = fairness.usual([day(weather=rng.normal()) for _ in range(40)])
    states: dict[str, Any] = {}
    for _ in range(20):
        states = fairness.advance(states, day(weather=5 * rng.normal()), known)
    assert max(s.high for s in states.values()) < 8
    for _ in range(10):
        states = fairness.advance(states, day(extra=0.2), known)
    assert states["b"].high > 10


def test_service_levels_count_slow_and_failed_requests() -> None:
    quick = service.Service(1_000, 0, 0, {0.005: 1_000, 0.25: 1_000})
    allowed = {"errors": 0.01, "p99": 0.01, "shed": 0.01}
    assert service.score([quick] * 24, allowed, 0.05) == {}
    slow = service.Service(1_000, 10, 0, {0.005: 792, 0.25: 1_000})
    found = service.score([slow], allowed, 0.005)
    assert set(found) == {"p99"}
    assert found["p99"].share == pytest.approx(0.208)
    assert found["p99"].burn > service.FAST
    assert service.score([quick] * 23 + [service.Service(1_000, 200)], allowed)["errors"].hours == 1
    mild = [service.Service(1_000, 40)] * 24
    assert service.score(mild, allowed)["errors"].hours == 24
    assert service.score([service.Service(3, 3)], allowed) == {}


def test_a_replayed_order_keeps_every_block_within_a_week_of_its_place() -> None:
    order = np.array([d for d in range(90) if d not in (10, 11, 40)])
    drawn = bootstrap.replay(order, 50, np.random.default_rng(0))
    assert drawn.shape == (50, 87)
    assert np.abs(order[drawn] - order[None, :]).max() <= 9  # a week, or the nearest where that day is missing
    assert (drawn != np.arange(87)).any()


@given(st.lists(st.lists(st.integers(0, 400), max_size=300), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_distinct_rows_are_counted_the_same_in_any_order_of_parts(parts: list[list[int]], order: Any) -> None:
    def sketch(rows: list[int]) -> duplicates.DistinctSketch:
        made = duplicates.DistinctSketch()
        made.update(str(r).encode() for r in rows)
        return made

    order.shuffle(parts)
    together = duplicates.DistinctSketch()
    for part in parts:
        together = together.merge(sketch(part))
    every = [r for part in parts for r in part]
    assert (together.rows, together.distinct) == (len(every), len(set(every)))


def test_many_distinct_rows_are_counted_within_a_tenth() -> None:
    sketch = duplicates.DistinctSketch()
    sketch.update(str(i % 50_000).encode() for i in range(100_000))
    assert sketch.repeated == pytest.approx(0.5, abs=0.05)


def test_attributions_that_change_places_are_told() -> None:
    before = {"a": 5.0, "b": 2.0, "c": 1.0}
    assert attribution.score(before, {"a": 4.0, "b": 3.0, "c": 0.5}) == 1.0
    assert attribution.score(before, {"a": 0.1, "b": 0.2, "c": 5.0}) < attribution.MOVED


def test_figures_are_what_prometheus_reads(tiny: Workspace) -> None:
    body = {"model": "m", "version": 1, "start": 0, "psi": {'odd "name"\n': 0.3}, "missing": {"x": 0.5}, "slices": {}, "open": [], "sketches": {}}
    tiny.ledger.put("block", "m-0", {**BlockStats(0, DAY, 10, 5, (), loss=0.4).to_json(), **body}, expect=0)
    text = figures(["m", "nothing"], tiny.ledger, tiny.clock)
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{([a-z]+=\"([^\"\\\n]|\\.)*\",?)+\})? -?[0-9.e+-]+", line), line
    assert 'treadle_block_loss{model="m",version="1"} 0.4' in text
    assert r'feature="odd \"name\"\n"' in text
    assert "treadle_block_excess_loss" not in text
