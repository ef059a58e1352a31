"""What the evidence allows a challenger: out when it is worse beyond chance, on when it is not, and patience while too little is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from treadle.serving.traffic import Decision, Pair, compare, decide

START = datetime(2013, 1, 1, tzinfo=UTC)


def pairs_of(difference: np.ndarray, days: np.ndarray) -> list[Pair]:
    """Pairs whose champion loses 1 and whose challenger loses 1 - difference."""
    return [Pair(int(d), 1.0, 1.0 - float(x)) for x, d in zip(difference, days, strict=True)]


def simulate(rng: np.random.Generator, better_by: float, days: int = 10, a_day: int = 40, luck: float = 0.05) -> list[Pair]:
    """Days that share their luck: the difference of the losses has a part that is common to a day."""
    block = np.repeat(np.arange(days), a_day)
    return pairs_of(better_by + luck * rng.normal(size=days)[block] + 0.3 * rng.normal(size=len(block)), block)


def decided(pairs: list[Pair], *, stage: str = "shadow", days: float = 10, least: int = 200, failures: int = 0) -> Decision:
    return decide(stage, START, START + timedelta(days=days), timedelta(days=3), least, pairs, failures)


@pytest.mark.parametrize(("stage", "step"), [("shadow", "canary"), ("canary", "promote")])
def test_one_that_is_as_good_or_better_goes_on(stage: str, step: str) -> None:
    rng = np.random.default_rng(0)
    better = decided(simulate(rng, 0.3), stage=stage)
    assert (better.action, better.evidence["outcomes"], better.evidence["blocks"]) == (step, 400, 10)
    assert better.evidence["better_by"] > 0.2
    assert "on 400 outcomes" in better.reason
    assert decided([Pair(i // 40, 0.5, 0.5) for i in range(400)], stage=stage).action == step


def test_one_that_is_worse_beyond_chance_is_rejected_even_before_its_time() -> None:
    found = decided(simulate(np.random.default_rng(0), -0.3), days=0.5)
    assert found.action == "reject"
    assert "worse than the champion by 0.3" in found.reason
    assert "on 400 outcomes of 10 blocks (evidence" in found.reason


def test_too_few_outcomes_or_too_little_time_wait() -> None:
    rng = np.random.default_rng(0)
    few = decided(simulate(rng, 0.3, a_day=10))
    assert (few.action, few.reason) == ("wait", "100 of 200 outcomes, 10.0 days")
    assert decided(simulate(rng, 0.3), days=2.9).action == "wait"
    assert decided(simulate(rng, -0.3, a_day=10)).action == "wait"  # too few to throw it out, too
    assert decided([]).action == "wait"


def test_two_bad_days_are_not_enough_to_throw_it_out() -> None:
    pairs = [Pair(i % 2, 0.2, 0.9 + 0.001 * (i % 5)) for i in range(400)]
    assert decided(pairs, days=2).action == "wait"


def test_one_that_fails_to_answer_is_rejected_at_once() -> None:
    found = decided([], days=0, failures=3)
    assert (found.action, found.reason) == ("reject", "it failed to answer 3 times")


def test_of_equal_models_hardly_any_is_thrown_out() -> None:
    rng = np.random.default_rng(1)
    rejected = 0
    for _ in range(60):
        pairs = simulate(rng, 0.0, days=30)
        rejected += any(decided([p for p in pairs if p.block < day]).action == "reject" for day in range(5, 31))  # looked at every day
    assert rejected <= 6  # 5 % of 60, with 95 % certainty


def test_clearly_worse_models_are_nearly_all_thrown_out() -> None:
    rng = np.random.default_rng(2)
    actions = [decided(simulate(rng, -0.1)).action for _ in range(100)]
    assert actions.count("reject") >= 80
    assert actions.count("canary") <= 5  # what looks worse waits until it is sure


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(1, 6))
def test_with_days_of_equal_size_it_is_the_t_test_of_the_days_means(seed: int, days: int, a_day: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = simulate(rng, 0.02, days, a_day)
    means = [np.mean([p.champion_loss - p.challenger_loss for p in pairs if p.block == d]) for d in range(days)]
    expected = stats.ttest_1samp(means, 0, alternative="less")
    found = compare(pairs)
    assert found["better_by"] == pytest.approx(float(np.mean(means)))
    assert found["p_worse"] == pytest.approx(float(expected.pvalue), abs=1e-5)


def test_without_any_spread_the_sign_decides() -> None:
    assert compare([Pair(i, 0.5, 0.5) for i in range(5)])["p_worse"] == 1.0
    assert compare([Pair(i, 0.5, 0.75) for i in range(5)])["p_worse"] == 0.0
    assert compare([Pair(0, 0.5, 0.75)] * 5)["p_worse"] == 1.0  # one day says nothing
