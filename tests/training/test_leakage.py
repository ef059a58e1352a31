"""Leakage is found where it was planted, and not cried where there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import datasets
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from treadle.features.rows import KEY, KNOWN, MOMENT, TARGET
from treadle.training.leakage import Looked, suspects

TIME = pl.Datetime("us", "UTC")


def looked(columns: dict[str, Any], target: np.ndarray, task: str, **more: Any) -> Looked:
    """A random split of some rows, a quarter of them test rows."""
    n = len(target)
    order = np.random.default_rng(0).permutation(n)
    nothing = pl.Series([None] * n, dtype=TIME)
    rows = pl.DataFrame({KEY: [str(i) for i in range(n)], MOMENT: nothing, KNOWN: nothing, TARGET: target, **columns})
    types = rows.schema  # made anew at each asking
    numbers = [c for c in columns if types[c] == pl.Float64]
    categories = [c for c in columns if types[c] != pl.Float64]
    return Looked(
        task, rows, np.sort(order[: 3 * n // 4]), np.sort(order[3 * n // 4 :]), target, numbers, categories, "random", **more,
    )  # type: ignore[arg-type]  # fmt: skip


def timed(columns: dict[str, Any], target: np.ndarray, task: str = "binary", wait: float = 3.0, **more: Any) -> Looked:
    """A split by time: rows come hourly, their truth `wait` hours later; those whose truth is not known are neither searched nor tested."""
    n = len(target)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [start + timedelta(hours=i) for i in range(n)]
    rows = pl.DataFrame({
        KEY: [str(i) for i in range(n)], MOMENT: pl.Series(moments, dtype=TIME), KNOWN: pl.Series([m + timedelta(hours=wait) for m in moments], dtype=TIME),
        TARGET: target, **columns,
    })  # fmt: skip
    there = np.flatnonzero(np.isfinite(target.astype(float)))
    cut = 3 * n // 4
    numbers = [c for c in columns if rows.schema[c] == pl.Float64]
    return Looked(task, rows, there[there < cut - 10], there[there >= cut], np.nan_to_num(target.astype(float)).astype(int), numbers, [], "time", **more)  # type: ignore[arg-type]


def kinds(found: dict[str, Any]) -> set[tuple[str, str]]:
    return {(f["kind"], f["what"]) for f in found["found"]}


def sklearn_set(name: str) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    data = getattr(datasets, f"load_{name}")()
    task = {"diabetes": "regression", "breast_cancer": "binary"}.get(name, "multiclass")
    return {f"f{i}": data.data[:, i].astype(float) for i in range(data.data.shape[1])}, data.target.astype(float if task == "regression" else int), task


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes", "iris", "digits"])
def test_no_alarm_on_honest_data(name: str) -> None:
    assert suspects(looked(*sklearn_set(name)))["found"] == []


@pytest.mark.parametrize("seed", range(10))
def test_no_alarm_on_noise_or_on_a_plain_signal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = {"a": rng.normal(size=400), "b": rng.integers(1, 99, 400).astype(float), "c": rng.choice(list("xyz"), 400)}
    noise, signal = rng.integers(0, 2, 400), (columns["a"] + rng.normal(size=400) > 0).astype(int)
    assert suspects(looked(columns, noise, "binary"))["found"] == []
    assert suspects(looked(columns, signal, "binary"))["found"] == []


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes", "iris"])
def test_the_answer_written_into_a_column_is_found(name: str) -> None:
    columns, target, task = sklearn_set(name)
    hint = target + np.random.default_rng(1).normal(0, 0.05 * target.std(), len(target))
    assert kinds(suspects(looked({**columns, "hint": hint}, target, task))) == {("target", "hint")}


def test_a_tell_tale_gap_is_found() -> None:
    rng = np.random.default_rng(2)
    target = rng.integers(0, 2, 600)
    columns = {"a": rng.normal(size=600), "refund": np.where(target == 1, rng.normal(size=600), np.nan)}
    (found,) = suspects(looked(columns, target, "binary"))["found"]
    assert (found["kind"], found["what"]) == ("target", "refund")
    assert found["evidence"]["skill"] > 0.95 > 0.3 > found["evidence"]["rest"]


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_the_one_feature_that_tells_something_is_noted_and_not_suspected(task: str) -> None:
    rng = np.random.default_rng(5)
    x, hint = rng.normal(size=2000), rng.normal(size=2000)
    truth = 3 * x + rng.normal(size=2000) if task == "regression" else (x + 0.6 * rng.normal(size=2000) > 0).astype(int)
    for beside in ({}, {"noise": rng.normal(size=2000)}, *([{"hint": x + 2 * hint}] if task == "regression" else [])):
        found = suspects(looked({"x": x, **beside}, truth, task))
        assert found["found"] == []
        assert [n["what"] for n in found["noted"]] == ["x"]
    (only,) = suspects(looked({"x": x}, truth, task))["noted"]
    assert "there is no other feature" in only["sentence"]


def test_the_shadow_of_an_answer_is_suspected_where_honest_features_are_far_behind_it() -> None:
    """What the delay at departure is to a late landing: ROC-AUC 0.9, everything else together 0.58."""
    rng = np.random.default_rng(5)
    late = rng.normal(size=4000)
    target = (late > 0.8).astype(int)
    columns = {"departed_late_by": late + 0.5 * rng.normal(size=4000), "hour": late + 4 * rng.normal(size=4000), "noise": rng.normal(size=4000)}
    (found,) = suspects(looked(columns, target, "binary"))["found"]
    assert (found["kind"], found["what"]) == ("target", "departed_late_by")
    assert 0.75 < found["evidence"]["skill"] < 0.95
    assert 0.05 < found["evidence"]["rest"] < 0.3


def test_an_answer_with_noise_on_it_is_found_among_features_that_tell_nothing() -> None:
    rng = np.random.default_rng(5)
    target = rng.integers(0, 2, 1000)
    columns = {"hint": target + 0.3 * rng.normal(size=1000), "a": rng.normal(size=1000), "b": rng.choice(list("xyz"), 1000)}
    assert kinds(suspects(looked(columns, target, "binary"))) == {("target", "hint")}


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_the_answer_as_the_only_feature_is_found_unless_it_is_expected(name: str) -> None:
    _, target, task = sklearn_set(name)
    hint = target + np.random.default_rng(1).normal(0, 0.05 * target.std(), len(target))
    case = looked({"hint": hint}, target, task)
    assert kinds(suspects(case)) == {("target", "hint")}
    assert suspects(replace(case, expected=("hint",)))["found"] == []


def test_a_feature_from_a_view_is_not_suspected_of_knowing_the_future() -> None:
    rng = np.random.default_rng(3)
    y = np.cumsum(rng.normal(size=800))
    case = looked({"a": rng.normal(size=800), "last": np.roll(y, 1)}, y, "regression")
    assert kinds(suspects(case)) == {("target", "last")}
    assert suspects(replace(case, looked_up=("last",)))["found"] == []


def test_copied_rows_are_found_and_named() -> None:
    columns, target, task = sklearn_set("breast_cancer")
    case = looked(columns, target, task)
    index = np.arange(len(target))
    index[case.test[:20]] = case.search[:20]
    (found,) = suspects(replace(case, rows=case.rows[index], truth=target[index]))["found"]
    assert (found["kind"], found["evidence"]["copies"]) == ("overlap", 20)
    assert len(found["evidence"]["examples"]) == 5


def test_rows_copied_with_a_trifle_of_noise_are_found() -> None:
    columns, target, task = sklearn_set("breast_cancer")
    case = looked(columns, target, task)
    index = np.arange(len(target))
    index[case.test[:20]] = case.search[:20]
    rng = np.random.default_rng(4)
    noisy = case.rows[index].with_columns(pl.Series(n, case.rows[index][n].to_numpy() * (1 + 1e-5 * rng.normal(size=len(target)))) for n in case.numbers)
    (found,) = suspects(replace(case, rows=noisy, truth=target[index]))["found"]
    assert (found["kind"], found["evidence"]["near"]) == ("near-duplicates", 20)


def test_rows_that_look_alike_but_have_targets_of_their_own_are_no_copies() -> None:
    rng = np.random.default_rng(5)
    columns = {"day": rng.integers(1, 8, 2000).astype(float), "carrier": rng.choice(["UA", "AA"], 2000)}
    assert suspects(looked(columns, rng.integers(0, 2, 2000), "binary"))["found"] == []


def test_one_person_on_both_sides_of_a_random_split_is_found() -> None:
    rng = np.random.default_rng(6)
    who = [f"p{i}" for i in rng.integers(0, 150, 600)]
    case = looked({"a": rng.normal(size=600)}, rng.integers(0, 2, 600), "binary")
    assert kinds(suspects(replace(case, entity=("patient", who)))) == {("group", "patient")}
    assert suspects(replace(case, entity=("patient", [str(i) for i in range(600)])))["found"] == []
    assert suspects(replace(case, entity=("patient", who), method="time"))["found"] == []


def test_a_name_used_as_a_feature_is_found_out_as_recognition() -> None:
    rng = np.random.default_rng(7)
    person = rng.integers(0, 120, 800)
    habit = rng.integers(0, 2, 120)
    target = np.where(rng.uniform(size=800) < 0.9, habit[person], 1 - habit[person])
    assert ("group", "patient") in kinds(suspects(looked({"a": rng.normal(size=800), "patient": [f"p{i}" for i in person]}, target, "binary")))


def test_training_on_what_was_known_only_later_is_found() -> None:
    rng = np.random.default_rng(8)
    case = timed({"a": rng.normal(size=600)}, rng.integers(0, 2, 600))
    assert suspects(case)["found"] == []
    order = rng.permutation(600)
    (found,) = suspects(replace(case, search=order[:450], test=order[450:], method="random"))["found"]
    assert (found["kind"], 0.4 < found["evidence"]["later"] < 0.6) == ("time", True)


def test_a_feature_filled_in_with_the_answer_is_found_on_the_rows_without_one() -> None:
    rng = np.random.default_rng(9)
    target = rng.integers(0, 2, 600).astype(float)
    target[550:] = np.nan
    columns = {"a": rng.normal(size=600), "air_time": np.where(np.isnan(target), np.nan, rng.normal(size=600))}
    case = timed(columns, target)
    case = replace(case, rows=case.rows.with_columns(pl.when(pl.col(TARGET).is_nan()).then(None).otherwise(pl.col(TARGET)).alias(TARGET)))
    assert kinds(suspects(case)) == {("not-yet-known", "air_time")}


def test_the_time_until_the_answer_as_a_feature_is_found() -> None:
    rng = np.random.default_rng(10)
    case = timed({"a": rng.normal(size=600), "b": rng.normal(size=600)}, rng.integers(0, 2, 600))
    waits = rng.uniform(1, 9, 600)
    known = pl.Series([m + timedelta(hours=w) for m, w in zip(case.rows[MOMENT], waits)], dtype=TIME)
    case = replace(case, rows=case.rows.with_columns(known.alias(KNOWN), pl.Series("b", waits * 60)), search=case.search[:430])
    assert kinds(suspects(case)) == {("not-yet-known", "b")}
    assert ("not-yet-known", "landed_at") in kinds(suspects(replace(case, known_column="landed_at")))


def test_a_scaler_fitted_before_the_training_is_found_in_the_projects_estimator() -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(400, 1))
    case = looked({"a": x[:, 0]}, rng.integers(0, 2, 400), "binary")
    ready = make_pipeline(StandardScaler().fit(x), DecisionTreeClassifier())
    (found,) = suspects(replace(case, make=ready))["found"]
    assert (found["kind"], found["evidence"]) == ("preprocessing", {"rows_seen": 400, "training_rows": 300})
    assert suspects(replace(case, make=make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=3))))["found"] == []


def test_columns_scaled_over_all_rows_are_found() -> None:
    """The published recipe: the scaler is fitted on all rows, and then they are split."""
    rng = np.random.default_rng(12)
    raw = rng.integers(1, 99, (100, 2)).astype(float)
    scaled = StandardScaler().fit_transform(raw)
    found = suspects(looked({"a": scaled[:, 0], "b": scaled[:, 1]}, rng.integers(0, 2, 100), "binary"))
    assert kinds(found) == {("preprocessing", "a"), ("preprocessing", "b")}
    assert "it was scaled before the split" in found["found"][0]["sentence"]


@pytest.mark.parametrize("rows", [3, 12])
def test_a_handful_of_rows_raises_nothing_and_accuses_nobody(rows: int) -> None:
    rng = np.random.default_rng(13)
    assert suspects(looked({"a": rng.normal(size=rows), "b": np.full(rows, np.nan)}, np.arange(rows) % 2, "binary"))["found"] == []


def test_constant_empty_and_infinite_columns_raise_nothing() -> None:
    rng = np.random.default_rng(14)
    columns = {"one": np.ones(300), "none": np.full(300, np.nan), "far": np.where(rng.uniform(size=300) < 0.1, np.inf, rng.normal(size=300)), "text": [""] * 300}
    assert suspects(looked(columns, rng.integers(0, 2, 300), "binary"))["found"] == []


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_an_answer_among_thousands_of_columns_is_found(count: int) -> None:
    rng = np.random.default_rng(15)
    target = rng.integers(0, 2, 200)
    columns = {f"f{i}": rng.normal(size=200) for i in range(count)} | {"hint": target + rng.normal(0, 0.05, 200)}
    assert kinds(suspects(looked(columns, target, "binary"))) == {("target", "hint")}
