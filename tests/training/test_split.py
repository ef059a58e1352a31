"""Rows are set aside before anything is fitted, and no news from the test reaches the search."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle as tr
from treadle.core.declare.model import Model
from treadle.core.errors import DataError
from treadle.features.rows import KEY, KNOWN, MOMENT, TARGET
from treadle.training.split import split
from treadle.training.split import test_set_name as name_of
from treadle.training.target import target_of

START = datetime(2013, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")


def model_of(**says: Any) -> Model:
    project = tr.Project("p")
    rows = project.dataset("rows", source=tr.rows(list), key="id", event_time="at" if says.pop("timed", True) else None)
    return project.model("m", rows=rows, target="y", inputs=["a"], **says)


def frame(hours: list[float | None], delays: list[float | None], target: list[Any]) -> pl.DataFrame:
    at = [None if h is None else START + timedelta(hours=h) for h in hours]
    known = [None if t is None or d is None else t + timedelta(hours=d) for t, d in zip(at, delays, strict=True)]
    keys = [f"k{i}" for i in range(len(at))]
    return pl.DataFrame({KEY: keys, MOMENT: pl.Series(at, dtype=TIME), KNOWN: pl.Series(known, dtype=TIME), TARGET: target})


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(["1d", "3d", "36h"]), st.integers(1, 5))
def test_by_time_nothing_known_after_the_test_begins_is_searched_and_folds_go_forward(seed: int, test: str, folds: int) -> None:
    rng = np.random.default_rng(seed)
    n = 200
    rows = frame(list(rng.uniform(0, 240, n)), list(rng.exponential(20, n)), list(rng.integers(0, 2, n)))
    model = model_of(split=tr.by_time(test, folds=folds))
    parts = split(model, rows, target_of(model, rows))
    moments, known = rows[MOMENT].to_numpy(), rows[KNOWN].to_numpy()
    begin = moments.max() - np.timedelta64(model.split.test)
    assert set(parts.test) == set(np.flatnonzero(moments > begin))
    assert set(parts.search) == set(np.flatnonzero((moments <= begin) & (known <= begin)))
    assert 1 <= len(parts.folds) <= folds
    for train, valid in parts.folds:
        first = moments[parts.search[valid]].min()
        assert moments[parts.search[train]].max() <= first
        assert known[parts.search[train]].max() <= first
    ends = [valid[-1] for _, valid in parts.folds]
    assert ends == sorted(set(ends))
    assert ends[-1] == len(parts.search) - 1
    days = (moments[parts.test] - np.datetime64("2013-01-01")) // np.timedelta64(1, "D")
    assert len(np.unique(parts.blocks)) == len(np.unique(days))


def test_as_of_hides_what_was_not_known_by_then() -> None:
    n = 400
    rows = frame([float(i) for i in range(n)], [30.0] * n, [i % 2 for i in range(n)])
    model = model_of(split=tr.by_time("3d"))
    then = START + timedelta(hours=200)
    parts = split(model, rows, target_of(model, rows), as_of=then)
    used = np.concatenate([parts.search, parts.test])
    assert rows[KNOWN].gather(used).max() == then
    assert parts.how["test_to"] == "2013-01-08T02:00:00.000000Z"


def test_rows_without_a_truth_a_moment_or_a_time_of_knowing_are_not_learned_from() -> None:
    n = 100
    hours: list[float | None] = [float(i) for i in range(n)]
    delays: list[float | None] = [0.0] * n
    target: list[int | None] = [i % 2 for i in range(n)]
    hours[3], target[5], delays[7] = None, None, None
    rows = frame(hours, delays, target)
    model = model_of(split=tr.by_time("1d"))
    parts = split(model, rows, target_of(model, rows))
    assert (len(parts.test), len(parts.search)) == (24, 73)
    assert not {3, 5, 7} & {*parts.search, *parts.test}


@pytest.mark.parametrize("target", [[0, 0, 0, 0, 1], ["a", "b", "b", "c", "c"]])
def test_at_random_each_part_has_the_same_share_of_each_class_and_a_seed_decides(target: list[Any]) -> None:
    n = 500
    rows = frame([None] * n, [None] * n, target * (n // 5))
    model = model_of(split=tr.at_random(0.2), timed=False)
    kind = target_of(model, rows)
    parts = split(model, rows, kind)
    codes = kind.codes(rows[TARGET])
    shares = np.bincount(codes) / n
    assert len(parts.test) == 100
    assert sorted([*parts.search, *parts.test]) == list(range(n))
    assert np.bincount(codes[parts.test]) / 100 == pytest.approx(shares)
    for train, valid in parts.folds:
        assert np.bincount(codes[parts.search[valid]]) / len(valid) == pytest.approx(shares, abs=0.02)
        assert not set(train) & set(valid)
    assert sorted(np.concatenate([valid for _, valid in parts.folds])) == list(range(400))
    assert len(set(parts.blocks)) == 100
    again = split(model, rows, kind)
    assert np.array_equal(parts.test, again.test)
    other = split(model_of(split=tr.at_random(0.2), timed=False, seed=1), rows, kind)
    assert not np.array_equal(parts.test, other.test)
    assert name_of(rows, parts) == name_of(rows, again) != name_of(rows, other)


def test_a_class_that_appears_once_does_not_stop_the_split() -> None:
    rows = frame([None] * 100, [None] * 100, ["a"] * 50 + ["b"] * 49 + ["c"])
    model = model_of(split=tr.at_random(0.25), timed=False)
    assert len(split(model, rows, target_of(model, rows)).test) == 25


def test_too_few_rows_are_refused_with_their_number() -> None:
    rows = frame([float(i) for i in range(19)], [0.0] * 19, [i % 2 for i in range(19)])
    with pytest.raises(DataError, match="Only 19 rows have a known 'y'"):
        split(model_of(), rows, target_of(model_of(), rows))


def test_a_test_span_that_leaves_too_little_is_refused_with_what_is_left() -> None:
    rows = frame([float(i) for i in range(100)], [0.0] * 100, [i % 2 for i in range(100)])
    for span, left in (("5h", "95 rows to search and 5 to test"), ("95h", "5 rows to search and 95 to test")):
        with pytest.raises(DataError, match=f"The split leaves {left}"):
            split(model_of(split=tr.by_time(span)), rows, target_of(model_of(), rows))


def test_search_rows_of_one_class_are_refused() -> None:
    rows = frame([float(i) for i in range(100)], [0.0] * 100, [0] * 80 + [1] * 20)
    with pytest.raises(DataError, match="All rows to search have the same 'y'"):
        split(model_of(split=tr.by_time("20h")), rows, target_of(model_of(), rows))
