"""Two weights over a batch model: they learn an outcome when it is known and not before, forget, stay finite, and are the same to the last bit again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.serving.recalibration import Recalibration, prequential
from treadle.training.losses import auc

HOUR = 3_600_000_000


def days(seed: int = 0, n: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A model that ranks rows well and does not know that days are good or bad: outputs, truth, moments."""
    rng = np.random.default_rng(seed)
    moments = np.sort(rng.integers(0, 200 * 24 * HOUR, n))
    level = rng.normal(0, 1.0, 201)[moments // (24 * HOUR)]
    z = rng.normal(0, 1, n)
    truth = (rng.random(n) < 1 / (1 + np.exp(-(z + level)))).astype(np.int64)
    p = 1 / (1 + np.exp(-z))
    return np.column_stack([1 - p, p]), truth, moments


def test_bad_days_are_learned_from_their_first_outcomes_and_the_sooner_they_come_the_better() -> None:
    outputs, truth, moments = days()
    one = np.ones(len(truth), np.int32)
    soon = prequential(outputs, one, truth, moments, moments + HOUR)[0]
    late = prequential(outputs, one, truth, moments, moments + 72 * HOUR)[0]
    raw = auc(truth, outputs[:, 1])
    assert auc(truth, soon[:, 1]) > raw + 0.01
    assert auc(truth, late[:, 1]) < auc(truth, soon[:, 1]) - 0.01  # what is known three days later says nothing of today


def test_no_outcome_is_learned_before_it_is_known() -> None:
    outputs, truth, moments = days(n=2_000)
    known = moments + 5 * HOUR
    one = np.ones(len(truth), np.int32)
    said = prequential(outputs, one, truth, moments, known)[0]
    cut = moments[1_000]
    other = np.where(known > cut, 1 - truth, truth)  # all that is not known by then is turned round
    again = prequential(outputs, one, other, moments, known)[0]
    assert np.array_equal(said[moments < cut], again[moments < cut])
    # And what is said to be known before its own prediction is not learned.
    assert prequential(outputs, one, truth, moments, moments - 1)[1] == {}


def test_each_version_has_its_own_state() -> None:
    outputs, truth, moments = days(n=1_000)
    versions = (np.arange(1_000) >= 500).astype(np.int32)
    states = prequential(outputs, versions, truth, moments, moments + HOUR)[1]
    assert {number: s.learned for number, s in states.items()} == {0: 500, 1: 500}


def test_the_same_rows_in_the_same_order_give_the_same_state_to_the_last_bit_also_through_a_checkpoint() -> None:
    outputs, truth, _ = days(n=3_000)
    whole = parts = Recalibration()
    for p, y in zip(outputs[:, 1], truth):
        whole = whole.learn(float(p), bool(y))
    for k, (p, y) in enumerate(zip(outputs[:, 1], truth)):
        parts = parts.learn(float(p), bool(y))
        if k % 700 == 0:
            parts = Recalibration.from_json(parts.to_json())
    assert whole.mark() == parts.mark()
    assert whole.learn(0.5, True).mark() != whole.mark()


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=200))
def test_whatever_comes_the_weights_stay_finite_and_answers_are_probabilities(rows: list[tuple[float, bool]]) -> None:
    state = Recalibration(rate_a=1.0, rate_b=5.0)
    for p, y in rows:
        state = state.learn(p, y)
        assert 0.0 <= state.answer(p) <= 1.0
        assert np.isfinite([state.a, state.b]).all()
    assert np.allclose(state.answers(np.array([[0.3, 0.7]]))[0, 1], state.answer(0.7))


def test_what_nothing_supports_is_forgotten() -> None:
    state = Recalibration()
    for _ in range(2_000):
        state = state.learn(0.5, True)
    assert state.b > 0.5
    rng = np.random.default_rng(0)
    for y in rng.random(5_000) < 0.5:
        state = state.learn(0.5, bool(y))
    assert state.b == pytest.approx(0.0, abs=0.3)
