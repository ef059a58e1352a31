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
