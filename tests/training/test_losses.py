"""The numbers that everything is judged by are those of the field's own definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as theirs

from treadle.core.declare.model import Task
from treadle.training.losses import auc, calibration, metrics, row_loss

rows = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1), st.integers(0, 4)), min_size=2, max_size=60
)


@given(rows)
def test_auc_is_that_of_scikit_learn_with_ties_and_weights(rows: list[tuple[int, float, int]]) -> None:
    truth, score, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if len({t for t, w in zip(truth, weights, strict=True) if w}) < 2:
        assert np.isnan(auc(truth, score, weights))
        return
    assert auc(truth, score, weights) == pytest.approx(theirs.roc_auc_score(truth, score, sample_weight=weights), abs=1e-12)
    repeated = np.repeat(np.arange(len(truth)), weights.astype(int))
    assert auc(truth, score, weights) == pytest.approx(auc(truth[repeated], score[repeated]), abs=1e-12)


def test_auc_of_nothing_or_of_one_class_is_not_a_number() -> None:
    assert np.isnan(auc(np.array([]), np.array([])))
    assert np.isnan(auc(np.array([1, 1]), np.array([0.1, 0.9])))
    assert auc(np.array([0, 1]), np.array([0.5, 0.5])) == 0.5


@given(rows)
def test_the_other_metrics_of_a_binary_task_are_those_of_scikit_learn(rows: list[tuple[int, float, int]]) -> None:
    truth, score, weights = (np.array(column) for column in zip(*rows, strict=True))
    if weights.sum() == 0:
        return
    output, weights = np.column_stack([1 - score, score]), weights.astype(float)
    ours = {name: float(metric(truth, output, weights[None, :])[0]) for name, metric in metrics("binary").items()}
    assert repr(ours["roc_auc"]) == repr(auc(truth, score, weights))
    clipped = np.clip(output, 1e-6, 1 - 1e-6)
    assert ours["log_loss"] == pytest.approx(theirs.log_loss(truth, clipped, sample_weight=weights, labels=[0, 1]), abs=1e-5)
    assert ours["brier"] == pytest.approx(theirs.brier_score_loss(truth, score, sample_weight=weights, pos_label=1), abs=1e-12)
    assert ours["accuracy"] == pytest.approx(theirs.accuracy_score(truth, output.argmax(1), sample_weight=weights), abs=1e-12)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.integers(0, 3)), min_size=3, max_size=40))
def test_the_metrics_of_a_number_are_those_of_scikit_learn(rows: list[tuple[float, float, int]]) -> None:
    truth, guess, weights = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if weights.sum() == 0:
        return
    ours = {name: float(metric(truth, guess[:, None], weights[None, :])[0]) for name, metric in metrics("regression").items()}
    assert ours["mae"] == pytest.approx(theirs.mean_absolute_error(truth, guess, sample_weight=weights), abs=1e-9)
    assert ours["rmse"] == pytest.approx(theirs.root_mean_squared_error(truth, guess, sample_weight=weights), abs=1e-9)
    seen = truth[weights > 0]
    if np.ptp(seen) > 1e-3:
        assert ours["r2"] == pytest.approx(theirs.r2_score(truth, guess, sample_weight=weights), rel=1e-6, abs=1e-6)
    assert np.isnan(metrics("regression")["r2"](np.full(3, 0.1), np.zeros((3, 1)), np.ones((1, 3)))[0])


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_many_weightings_at_once_give_what_each_gives_alone(task: Task) -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=50) if task == "regression" else rng.integers(0, 2, 50)
    output = rng.normal(size=(50, 1)) if task == "regression" else rng.dirichlet([1, 1], 50)
    weights = rng.integers(0, 3, (150, 50)).astype(float)
    weights[7] = 0
    for name, metric in metrics(task).items():
        together = metric(truth, output, weights)
        assert together.shape == (150,)
        assert np.isnan(together[7]), name
        assert np.allclose(together, [metric(truth, output, w[None, :])[0] for w in weights], equal_nan=True), name


def test_one_wrong_row_is_bad_but_not_infinitely_bad() -> None:
    assert row_loss("binary", np.array([1, 0]), np.array([[1.0, 0.0], [1.0, 0.0]])).tolist() == pytest.approx([-np.log(1e-6), 0.0])
    assert row_loss("multiclass", np.array([2]), np.array([[0.2, 0.3, 0.5]])).tolist() == pytest.approx([np.log(2)])
    assert row_loss("regression", np.array([1.0]), np.array([[3.0]])).tolist() == [2.0]


def test_a_forecast_that_keeps_its_word_is_calibrated_and_an_exaggerating_one_is_not() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(0.05, 0.95, 20_000)
    truth = (rng.uniform(size=p.size) < p).astype(int)
    honest, curve = calibration(truth, p)
    assert honest < 0.015
    assert len(curve) == 10
    assert sum(c["rows"] for c in curve) == p.size
    assert [c["predicted"] for c in curve] == sorted(c["predicted"] for c in curve)
    boastful, _ = calibration(truth, np.clip(0.5 + 2 * (p - 0.5), 0, 1))
    assert boastful > 0.12
    assert calibration(np.array([1, 0]), np.array([1.0, 0.0]))[0] == 0.0
