"""A column's summary stays small, merges, and travels as bytes."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.core.errors import Corrupt
from treadle.monitoring.sketches import CAP, CategorySketch, NumberSketch, dump, from_bytes, load, rolling, sketch_column

numbers = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, width=32), st.just(math.nan)), max_size=300)
texts = st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "ö", "\ud800"])), max_size=50)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers)
def test_numbers_merged_are_numbers_seen_at_once(left: list[float | None], right: list[float | None]) -> None:
    merged, whole = sketch_column(left, "number").merge(sketch_column(right, "number")), sketch_column(left + right, "number")  # type: ignore[arg-type]
    assert isinstance(merged, NumberSketch)
    assert isinstance(whole, NumberSketch)
    assert (merged.count, merged.missing, merged.minimum, merged.maximum) == (whole.count, whole.missing, whole.minimum, whole.maximum)
    assert merged.mean == pytest.approx(whole.mean, rel=1e-9, abs=1e-6)
    assert merged.sd == pytest.approx(whole.sd, rel=1e-6, abs=1e-6, nan_ok=True)
    if whole.present:
        points = np.unique(whole.quantiles([0, 0.1, 0.5, 0.9, 1]))
        assert np.abs(merged.below(points) - whole.below(points)).max() <= 0.02


@settings(max_examples=60, deadline=None)
@given(texts, texts)
def test_categories_merged_are_categories_seen_at_once(left: list[str | None], right: list[str | None]) -> None:
    merged, whole = sketch_column(left, "category").merge(sketch_column(right, "category")), sketch_column(left + right, "category")  # type: ignore[arg-type]
    assert merged.to_bytes() == whole.to_bytes() or merged.counts == whole.counts  # type: ignore[union-attr]
    assert (merged.count, merged.missing) == (whole.count, whole.missing)


@settings(max_examples=40, deadline=None)
@given(numbers, texts)
def test_sketches_survive_a_round_trip_through_json(values: list[float | None], names: list[str | None]) -> None:
    sketches = {"x": sketch_column(values, "number"), "y": sketch_column(names, "category")}
    again = load(json.loads(json.dumps(dump(sketches))))
    assert {name: sketch.to_bytes() for name, sketch in again.items()} == {name: sketch.to_bytes() for name, sketch in sketches.items()}
    again["x"].update([1.0])
    assert again["x"].count == len(values) + 1


def test_many_small_merges_stay_within_the_error_of_one_large_sketch() -> None:
    values = np.random.default_rng(1).lognormal(size=100_000)
    merged = NumberSketch()
    for part in np.array_split(values, 50):
        daily = NumberSketch()
        daily.update(part)
        merged = merged.merge(daily)
    points = np.quantile(values, np.linspace(0.01, 0.99, 50))
    exact = np.searchsorted(np.sort(values), points, side="right") / len(values)
    assert np.abs(merged.below(points) - exact).max() < 0.015
    assert (merged.mean, merged.sd) == (pytest.approx(values.mean()), pytest.approx(values.std(ddof=1)))


def test_a_hundred_times_the_rows_take_no_more_memory() -> None:
    rng = np.random.default_rng(2)
    size = {}
    for rows in (10_000, 1_000_000):
        sketch = NumberSketch()
        sketch.update(rng.normal(size=rows))
        size[rows] = len(sketch.to_bytes())
    assert size[1_000_000] < 1.2 * size[10_000] < 8_000
    ids = CategorySketch()
    for start in range(0, 100_000, 1_000):
        ids.update([f"id-{i}" for i in range(start, start + 1_000)])
    assert len(ids.counts) <= 2 * CAP
    assert ids.count == ids.other + ids.counts.total() == 100_000
    assert len(ids.to_bytes()) < 20_000


def test_rare_values_above_the_cap_are_counted_together_and_frequent_ones_exactly() -> None:
    sketch = sketch_column(["often"] * 500 + [f"rare-{i}" for i in range(5_000)], "text")
    assert isinstance(sketch, CategorySketch)
    assert sketch.counts["often"] == 500
    assert len(sketch.counts) + sketch.other - 1 + 1 == 5_001


def test_nothing_but_finite_numbers_is_present() -> None:
    sketch = sketch_column([1.0, None, math.nan, math.inf, 3], "number")
    assert (sketch.count, sketch.missing, sketch.minimum, sketch.maximum) == (5, 3, 1.0, 3.0)  # type: ignore[union-attr]
    flags = sketch_column(np.array([True, None, False, True], dtype=object), "boolean")
    assert flags.counts == {"true": 2, "false": 1}  # type: ignore[union-attr]


def test_moments_are_seconds_however_they_are_written() -> None:
    moment = datetime(2013, 1, 1, tzinfo=UTC)
    sketch = sketch_column([moment, "2013-01-01T00:00:00Z", np.datetime64("2013-01-01"), None], "timestamp")
    assert (sketch.minimum, sketch.maximum, sketch.missing) == (moment.timestamp(), moment.timestamp(), 1)  # type: ignore[union-attr]


def test_merging_changes_neither_part() -> None:
    left, right = sketch_column([1.0], "number"), sketch_column([2.0], "number")
    left.merge(right)  # type: ignore[arg-type]
    assert (left.count, right.count) == (1, 1)


def test_a_window_is_the_last_week_of_blocks() -> None:
    days = [{"x": sketch_column([float(day)] * 200, "number")} for day in range(30)]
    assert rolling(days)["x"].count == 1_400
    assert rolling(days)["x"].minimum == 23.0  # type: ignore[union-attr]
    assert rolling(days[:2])["x"].count == 400
    assert rolling([]) == {}


@pytest.mark.parametrize("data", [b"", b"TN9abc", b"TN1abc", b"TC1{", b"TN1" + b"\0" * 60])
def test_bytes_that_are_no_sketch_are_refused(data: bytes) -> None:
    with pytest.raises(Corrupt):
        from_bytes(data)
    with pytest.raises(Corrupt):
        load({"x": "not base64!"})


KLL = {  # what earlier versions wrote, with the KLL of Apache DataSketches: 0, 1, 5 and 100 values 0, 1, 2, ...; the last with levels of 8
    0: "VE4xAAAAAAAAAAAAAAAAAAAAAAAAAAAAAPB/AAAAAAAA8P8AAAAAAAAAAAAAAAAAAAAAAgEPAZABCAA=",
    1: "VE4xAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIPBJABCAAAAAAA",
    5: "VE4xBQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEEAAAAAAAAAAQAAAAAAAACRABQEPAJABCAAFAAAAAAAAAJABAQCLAQAAAAAAAAAAgEAAAIBAAABAQAAAAEAAAIA/AAAAAA==",
    100: "VE4xZAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADAWEAAAAAAAMBIQAAAAADQV/RABQEPAAgACABkAAAAAAAAAAgABAAFAAAADwAAABAAAAAaAAAAAAAAAAAAxkIAAMZCAADEQgAAwkIAAMBCAAC+QgAAvEIAALpCAAC4QgAAtkIAALRCAABAQgAASEIAAFhCAABoQgAAeEIAAIRCAACMQgAAlEIAAJxCAACkQgAArEIAAAAAAAAQQQAAiEEAAMhBAAAEQgAAJEI=",
}


@pytest.mark.parametrize("rows", KLL)
def test_sketches_of_earlier_versions_stay_readable(rows: int) -> None:
    old = load({"x": KLL[rows]})["x"]
    assert isinstance(old, NumberSketch)
    assert old.count == rows
    assert old.below([rows // 4, rows // 2]).tolist() == {0: [0.0, 0.0], 1: [1.0, 1.0], 5: [0.4, 0.6], 100: [0.32, 0.54]}[rows]
    both = old.merge(sketch_column([1e6], "number"))  # type: ignore[arg-type]
    assert (both.count, both.maximum) == (rows + 1, 1e6)
    assert from_bytes(both.to_bytes()).to_bytes() == both.to_bytes()


@pytest.mark.parametrize("parts", [1, 7, 400])
def test_the_same_values_give_the_same_bytes(parts: int) -> None:
    values = np.random.default_rng(8).normal(size=100_000)
    sketches = [NumberSketch(), NumberSketch()]
    for part in np.array_split(values, parts):
        for sketch in sketches:
            sketch.update(part)
    assert sketches[0].to_bytes() == sketches[1].to_bytes()
    merged = [sketches[0].merge(sketches[1]), sketches[0].merge(sketches[1])]
    assert merged[0].to_bytes() == merged[1].to_bytes()


@pytest.mark.parametrize("parts", [1, 50, 1_000])
@pytest.mark.parametrize("shape", ["normal", "lognormal", "mostly zero", "counts", "rising"])
def test_ranks_and_distances_are_close_to_exact(shape: str, parts: int) -> None:
    """0.0015 and 0.0035 are measured; an earlier version, with KLL's coins, was off by up to 0.0046 on the same values."""
    from scipy import stats

    from treadle.monitoring.detectors import ks

    rng, n = np.random.default_rng(9), 100_000

    def draw(shift: float) -> np.ndarray:
        values = {
            "normal": lambda: rng.normal(shift, size=n), "lognormal": lambda: rng.lognormal(shift, size=n),
            "mostly zero": lambda: np.where(rng.random(n) < 0.7 - shift / 10, 0, rng.gamma(2, size=n)),
            "counts": lambda: rng.poisson(6 + shift, n).astype(float), "rising": lambda: np.arange(n) + 1000 * shift,
        }[shape]()
        return values.astype(np.float32)

    columns = [draw(0.0), draw(0.3)]
    sketches = []
    for values in columns:
        whole = NumberSketch()
        for part in np.array_split(values, parts):
            piece = NumberSketch()
            piece.update(part)
            whole = whole.merge(piece)
        sketches.append(whole)
    points = np.unique(np.quantile(columns[0], np.linspace(0.001, 0.999, 999)).astype(np.float32))
    exact = np.searchsorted(np.sort(columns[0]), points, side="right") / n
    worst = 0.0015 if parts == 1 else 0.0035
    assert np.abs(sketches[0].below(points) - exact).max() < worst
    assert abs(ks.score(*sketches) - stats.ks_2samp(*columns).statistic) < 2 * worst


def test_merging_a_thousand_days_one_by_one_does_not_drift() -> None:
    """Always the first of two, or always the second, would push the median a little with every merge."""
    rng = np.random.default_rng(10)
    values = rng.normal(size=(2_000, 40))
    whole = NumberSketch()
    for day in values:
        whole.update(day)
    assert abs(float(whole.below([0.0])[0]) - float((values <= 0).mean())) < 0.004
    assert abs(float(whole.quantiles([0.5])[0])) < 0.02
