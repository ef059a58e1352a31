"""Evidence that may be looked at all the time: seldom strong where there is nothing, strong soon where there is something."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.serving import sequential
from treadle.serving.sequential import above_zero, differs, more_often, of

ALPHA = 0.05


def ever(values: list[float]) -> bool:
    return max(values) >= 1 / ALPHA


def test_a_share_at_its_limit_is_seldom_found_above_it_however_often_one_looks() -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(300):
        happened = np.flatnonzero(rng.random(3_000) < 0.02)  # evidence grows only when it happens
        alarms += ever([1.0] + [more_often(k + 1, int(i) + 1, 0.02) for k, i in enumerate(happened)])
    assert alarms <= 22  # 5 % of 300, with 95 % certainty


@pytest.mark.parametrize(("share", "within"), [(0.05, 600), (0.2, 60), (1.0, 4)])
def test_a_share_above_its_limit_is_found_soon(share: float, within: int) -> None:
    rng = np.random.default_rng(2)
    late = 0
    for _ in range(100):
        happened = np.cumsum(rng.random(within) < share)
        late += not ever([more_often(int(k), n + 1, 0.01) for n, k in enumerate(happened)])
    assert late <= 10


def test_days_of_equal_versions_seldom_speak_against_one_though_each_day_is_looked_at() -> None:
    rng = np.random.default_rng(3)
    alarms = sum(ever([above_zero(x[:n]) for n in range(2, 25)]) for x in rng.normal(size=(150, 24)))
    assert alarms <= 12


def test_days_that_are_all_worse_speak_within_a_week() -> None:
    rng = np.random.default_rng(4)
    assert sum(ever([above_zero(x[:n]) for n in range(2, 8)]) for x in rng.normal(2.5, 1.0, size=(50, 7))) >= 47


def test_two_sides_without_a_difference_are_seldom_told_apart_though_looked_at_after_each_hundred() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(200):
        a, b = np.cumsum(rng.random((2, 40, 100)) < 0.3, axis=2)[:, :, -1].cumsum(axis=1)
        sides = [[sequential.Sample((n + 1) * 100, float(s[n]), float(s[n])) for n in range(40)] for s in (a, b)]
        alarms += ever([differs(x, y, 0.05)[2] for x, y in zip(*sides)])
    assert alarms <= 16


def test_two_sides_that_differ_by_the_effect_are_told_apart() -> None:
    rng = np.random.default_rng(6)
    found = sum(differs(of(rng.random(8_000) < 0.30), of(rng.random(8_000) < 0.35), 0.05)[2] >= 20 for _ in range(50))
    assert found >= 47


@given(st.floats(0.001, 0.999), st.integers(0, 400), st.integers(0, 400))
def test_evidence_of_a_share_is_finite_and_grows_with_each_time_it_happens(limit: float, times: int, others: int) -> None:
    of_all = times + others
    assert 0 <= more_often(times, of_all, limit) < np.inf
    assert more_often(times + 1, of_all + 1, limit) >= more_often(times, of_all + 1, limit)


@given(st.lists(st.floats(-1e6, 1e6), max_size=40), st.floats(1e-6, 1e6))
def test_evidence_of_a_mean_does_not_depend_on_the_unit(values: list[float], unit: float) -> None:
    found = above_zero(values)
    assert 0 <= found < np.inf
    if max(map(abs, values), default=0) > 1e-3:
        assert above_zero([v * unit for v in values]) == pytest.approx(found, rel=1e-6)


def test_little_or_nothing_is_no_evidence() -> None:
    assert above_zero([]) == above_zero([5.0]) == above_zero([0.0, 0.0]) == 1.0
    assert above_zero([-1.0, -1.1, -0.9]) < 1 < above_zero([1.0, 1.1, 0.9])
    assert more_often(0, 0, 0.01) == 1.0
    assert differs(of([1.0] * 99), of([0.0] * 500), 0.1)[2] == 1.0
    assert differs(of([1.0] * 100), of([1.0] * 100), 0.1)[2] == 1.0
    with pytest.raises(ValueError, match="not between 0 and 1"):
        more_often(1, 2, 0.0)
