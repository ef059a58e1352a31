"""Worst slices, promised intervals, the price of choosing, robustness, ageing: each is right where the truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.core.errors import DataError
from treadle.training.conformal import conformal, threshold
from treadle.training.evaluate import block_weights
from treadle.training.robustness import robustness
from treadle.training.selection import adjusted
from treadle.training.slices import rows_in, words, worst_slices
from treadle.training.staleness import staleness

# Worst slices


def answered(rng: np.random.Generator, n: int = 3000) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """(features, truth, output) of a model that is right about its probabilities."""
    frame = pl.DataFrame({"carrier": rng.choice(["UA", "AA", "HA"], n, p=[0.5, 0.4, 0.1]), "hour": rng.integers(0, 24, n).astype(float), "rain": rng.exponential(size=n)})
    p = 1 / (1 + np.exp(-(frame["rain"].to_numpy() - 1 + (frame["carrier"] == "UA").to_numpy())))
    return frame, (rng.uniform(size=n) < p).astype(int), np.column_stack([1 - p, p])


def test_a_model_that_knows_what_it_does_not_know_has_no_weak_slice() -> None:
    alarms = 0
    for seed in range(40):
        frame, truth, output = answered(np.random.default_rng(seed), 1500)
        alarms += any(w["p"] <= 0.05 for w in worst_slices("binary", truth, output, frame, np.arange(1500), seed)["worst"])
    assert alarms <= 6  # one in twenty, and room for the bootstrap


def test_the_slice_where_labels_were_flipped_is_found_first() -> None:
    frame, truth, output = answered(np.random.default_rng(1))
    wrong = rows_in(frame, {"carrier": "= HA"}) & (frame["hour"].to_numpy() >= 12)
    found = worst_slices("binary", np.where(wrong, 1 - truth, truth), output, frame, np.arange(3000))
    assert found["worst"][0]["p"] < 0.001
    assert "carrier = HA" in words(found["worst"][0]["where"])
    assert found["worst"][0]["low"] > 0


def test_a_slice_of_a_number_is_found_by_its_error() -> None:
    rng = np.random.default_rng(2)
    frame = pl.DataFrame({"size": rng.uniform(0, 100, 2000), "kind": rng.choice(["a", "b"], 2000)})
    truth = np.where(frame["size"].to_numpy() > 75, 5, 1) * rng.normal(size=2000)
    found = worst_slices("regression", truth, np.zeros((2000, 1)), frame, np.arange(2000))
    assert "size >=" in words(found["worst"][0]["where"])


def test_days_that_share_their_luck_do_not_make_a_weak_slice() -> None:
    """One bad day of six is no evidence; the same rows, were they independent, would be."""
    rng = np.random.default_rng(1)
    blocks = np.repeat(np.arange(24), 50)
    zone = pl.DataFrame({"zone": np.where(blocks < 6, "north", "south")})
    p = rng.uniform(0.1, 0.9, 1200)
    truth = (rng.uniform(size=1200) < np.where(blocks == 4, 1 - p, p)).astype(int)
    output = np.column_stack([1 - p, p])
    by_day, by_row = (worst_slices("binary", truth, output, zone, b)["worst"][0] for b in (blocks, np.arange(1200)))
    assert by_day["where"] == by_row["where"] == [["zone", "= north"]]
    assert by_row["p"] < 0.05 < by_day["p"]


# Promised intervals


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_what_is_promised_is_kept_on_exchangeable_rows(task: str) -> None:
    kept = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth, output = _said(rng, task, 400)
        found = conformal(task, [(np.arange(200), output[:200])], truth[:200], truth[200:], output[200:], block_weights(np.arange(200), seed, 50))  # type: ignore[arg-type]
        kept.append(found[0]["coverage"])
    assert 0.88 <= np.mean(kept) <= 0.93


def _said(rng: np.random.Generator, task: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    if task == "regression":
        x = rng.normal(size=n)
        return x + rng.standard_t(4, size=n), x[:, None]
    k = 2 if task == "binary" else 4
    p = rng.dirichlet(np.ones(k), n)
    return np.array([rng.choice(k, p=row) for row in p]), p


def test_too_few_rows_promise_nothing() -> None:
    assert threshold(np.arange(19.0), 0.9) is None
    assert threshold(np.arange(20.0), 0.9) == 18.0
    assert conformal("regression", [], np.zeros(0), np.zeros(5), np.zeros((5, 1)), np.ones((20, 5))) == []


# The price of choosing


def trials(rng: np.random.Generator, count: int, n: int = 120, signal: float = 0.0) -> tuple[dict[int, Any], list[np.ndarray]]:
    """Row losses of settings that are all worthless (or all as good), each in its own way."""
    truth = rng.integers(0, 2, n)
    folds = np.array_split(rng.permutation(n), 5)
    losses: dict[int, Any] = {}
    for k in range(count):
        p = np.clip(0.5 + 0.15 * rng.normal(size=n) + signal * (truth - 0.5), 0.02, 0.98)
        row = -np.log(np.where(truth == 1, p, 1 - p))
        losses[k] = [(f, row[f].astype(np.float32)) for f in folds]
    share = [np.bincount(np.delete(truth, f), minlength=2) / (n - len(f)) for f in folds]
    return losses, [-np.log(p[truth[f]]) for p, f in zip(share, folds)]


def test_on_noise_the_best_of_many_looks_better_than_it_is_and_the_corrected_figure_does_not() -> None:
    """Known truth: on new rows every setting has the same expected loss, which is that of any one of them."""
    seen, expected, honest = [], [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        losses, trivial = trials(rng, 40)
        found = adjusted(losses, trivial, np.arange(120), 40, seed)
        assert found is not None
        seen.append(found["seen"])
        expected.append(found["expected"])
        honest.append(float(np.concatenate([loss for _, loss in losses[0]]).mean()))
    flattery = np.mean(honest) - np.mean(seen)
    assert flattery > 0.02
    assert abs(np.mean(expected) - np.mean(honest)) < 0.35 * flattery


def test_noise_is_seldom_better_than_luck_and_a_signal_is() -> None:
    passed = [adjusted(*trials(np.random.default_rng(s), 30), np.arange(120), 30, s) for s in range(60)]
    assert sum(f["p"] <= 0.05 and f["better_by"] > 0 for f in passed if f) <= 3
    strong = adjusted(*trials(np.random.default_rng(1), 30, 400, 0.3), np.arange(400), 30, 1)
    assert strong is not None
    assert strong["p"] <= 0.05 < strong["better_by"] + 0.05


def test_without_trials_there_is_nothing_to_correct() -> None:
    assert adjusted({}, [], np.zeros(0), 0) is None


# Robustness and invariance


def _linear(frame: pl.DataFrame) -> np.ndarray:
    p = 1 / (1 + np.exp(-np.nan_to_num(frame["a"].to_numpy())))
    return np.column_stack([1 - p, p])


def test_noise_and_gaps_cost_what_they_cost_and_what_does_not_matter_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    frame = pl.DataFrame({"a": 3 * rng.normal(size=1000), "b": rng.normal(size=1000), "name": rng.choice(["x", "y"], 1000)})
    truth = (rng.uniform(size=1000) < _linear(frame)[:, 1]).astype(int)

    def renamed(given: pl.DataFrame) -> pl.DataFrame:
        return given.with_columns(pl.lit("z").alias("name"))

    found = robustness("binary", frame, truth, _linear, {"a": 3.0, "b": 1.0}, ["b", "name", "a", renamed])
    costs = {(c["change"], c["amount"]): c["relative"] for c in found["changes"]}
    assert 0 < costs["missing", 0.05] < costs["missing", 0.2]
    assert abs(costs["noise", 0.05]) < 0.05
    told = {i["name"]: (i["moved"], i["flipped"]) for i in found["invariances"]}
    assert told["b"] == told["name"] == told["renamed"] == (0.0, 0.0)
    assert told["a"][0] > 0.9


def test_an_invariance_of_no_feature_is_told_with_those_there_are() -> None:
    frame = pl.DataFrame({"a": [1.0, 2.0, 3.0]})
    with pytest.raises(DataError, match="'colour' is no feature"):
        robustness("binary", frame, np.array([0, 1, 0]), _linear, {"a": 1.0}, ["colour"])
    with pytest.raises(DataError, match="returned no frame of the same rows"):
        robustness("binary", frame, np.array([0, 1, 0]), _linear, {"a": 1.0}, [lambda given: given.head(1)])


# Ageing


def test_a_recipe_ages_where_the_world_changes_and_not_where_it_does_not() -> None:
    day = 86_400e6
    for drift, ages in ((0.0, False), (4.0, True)):
        rng = np.random.default_rng(5)
        moments = np.sort(rng.uniform(0, 100 * day, 4000))
        truth = drift * moments / (100 * day) + rng.normal(size=4000)
        test = drift * 1.05 + rng.normal(size=500)

        def losses(positions: np.ndarray, truth: np.ndarray = truth, test: np.ndarray = test) -> np.ndarray:
            return np.abs(test - truth[positions][-200:].mean())

        weights = block_weights(np.arange(500), 0, 100)
        found = staleness(moments, moments, truth, weights, losses, classes=False, loss="absolute error")
        assert found is not None
        assert [p["age_days"] for p in found["points"]] == pytest.approx([0, 25, 50], abs=0.5)
        assert len({p["rows"] for p in found["points"]}) == 1  # only the age differs
        assert (found["points"][-1]["low"] > 0.1) == ages
