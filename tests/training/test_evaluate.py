"""On simulated data, where the truth is known: intervals cover it, and equal models are called equal."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from treadle.training.evaluate import block_weights, compare, evaluate, shuffled_labels, summary
from treadle.training.losses import auc


def simulate(rng: np.random.Generator, n: int = 400, slope: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """(truth, probabilities (n, 2)) of a calibrated model."""
    p = 1 / (1 + np.exp(-slope * rng.normal(size=n)))
    truth = (rng.uniform(size=n) < p).astype(int)
    return truth, np.column_stack([1 - p, p])


def test_the_95_percent_interval_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    truth, output = simulate(rng, 400_000)
    real = auc(truth, output[:, 1])
    covered = 0
    for i in range(120):
        truth, output = simulate(rng)
        found = summary("binary", truth, output, block_weights(np.arange(400), i, 200))["roc_auc"]
        low, high = found["low"], found["high"]
        assert low is not None
        assert high is not None
        covered += low <= real <= high
    assert 0.88 <= covered / 120 <= 1.0


def test_days_that_share_their_luck_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    days = np.repeat(np.arange(20), 50)
    error = rng.normal(size=20)[days] + 0.1 * rng.normal(size=1000)
    truth, output = error, np.zeros((1000, 1))
    by_day = summary("regression", truth, output, block_weights(days, 0))["mae"]
    by_row = summary("regression", truth, output, block_weights(np.arange(1000), 0))["mae"]
    assert (by_day["high"] or 0) - (by_day["low"] or 0) > 3 * ((by_row["high"] or 0) - (by_row["low"] or 0))


def test_whole_blocks_are_drawn_as_many_as_there_are() -> None:
    weights = block_weights(np.array([7, 7, 9, 9, 9, 11]), 0, 50)
    assert weights.shape == (50, 6)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 2] == weights[:, 4]).all()
    assert (weights[:, [0, 2, 5]].sum(axis=1) == 3).all()


def test_the_p_value_of_two_equal_models_is_about_uniform() -> None:
    rng = np.random.default_rng(2)
    found = []
    for i in range(300):
        truth, output = simulate(rng, 200)
        left, right = (np.clip(output[:, 1] + 0.1 * rng.normal(size=200), 0.01, 0.99) for _ in range(2))
        weights = block_weights(np.arange(200), i, 150)
        found.append(compare("binary", truth, np.column_stack([1 - left, left]), np.column_stack([1 - right, right]), weights)["p"])
    assert stats.kstest(found, "uniform").pvalue > 0.001
    assert np.mean(np.array(found) <= 0.05) <= 0.09


def test_a_model_that_is_better_is_found_so_and_one_that_is_the_same_is_not() -> None:
    truth, output = simulate(np.random.default_rng(3), 600)
    flat = np.full_like(output, 0.5)
    weights = block_weights(np.arange(600), 0)
    against = compare("binary", truth, output, flat, weights)
    assert against["better_by"] > 0
    assert against["p"] < 0.01
    assert against["low"] <= against["better_by"] <= against["high"]
    assert compare("binary", truth, flat, output, weights)["p"] > 0.9
    assert compare("binary", truth, output, output, weights)["p"] == 1.0


def test_shuffled_labels_fit_a_real_signal_worse_and_noise_as_well() -> None:
    rng = np.random.default_rng(4)
    truth, output = simulate(rng)
    assert shuffled_labels("binary", truth, output, 0, 199)["p"] == 1 / 200
    assert np.mean([shuffled_labels("binary", rng.permutation(truth), output, i, 99)["p"] <= 0.05 for i in range(60)]) <= 0.15
    assert shuffled_labels("binary", truth, np.full_like(output, 0.5), 0, 99)["p"] == 1.0


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_an_evaluation_has_all_that_the_gates_look_at(task: str) -> None:
    rng = np.random.default_rng(5)
    n, classes = 300, {"binary": 2, "multiclass": 3, "regression": 1}[task]
    truth = rng.normal(size=n) if task == "regression" else rng.integers(0, classes, n)
    output = rng.dirichlet(np.ones(classes), n) if classes > 1 else rng.normal(size=(n, 1))
    slices: dict[str, list[str | None]] = {"origin": ["a" if i % 3 else None for i in range(n)], "rare": ["x" if i < 10 else "y" for i in range(n)]}
    found = evaluate(task, truth, {"model": output, "baseline": output[::-1], "champion": output}, np.arange(n) // 10, slices)  # type: ignore[arg-type]
    assert (found["rows"], found["blocks"], set(found["against"])) == (n, 30, {"baseline", "champion"})
    assert found["primary"] == {"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"}[task]
    assert found["against"]["champion"]["p"] == 1.0
    assert ("classes" in found, "calibration" in found) == (task != "regression", task == "binary")
    assert [(s["column"], s["value"], s["rows"], "high" in s) for s in found["slices"]] == [
        ("origin", "", 100, True), ("origin", "a", 200, True), ("rare", "x", 10, False), ("rare", "y", 290, True),
    ]  # fmt: skip
    again = evaluate(task, truth, {"model": output, "baseline": output[::-1], "champion": output}, np.arange(n) // 10, slices)  # type: ignore[arg-type]
    assert again == found


def test_a_test_set_of_one_class_has_no_auc_and_says_so() -> None:
    found = evaluate("binary", np.zeros(50, int), {"model": np.tile([0.9, 0.1], (50, 1))}, np.arange(50), {})
    assert found["metrics"]["model"]["roc_auc"] == {"value": None, "low": None, "high": None}
    assert found["classes"] == [50, 0]
