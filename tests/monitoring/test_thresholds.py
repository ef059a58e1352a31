"""Alarms come as rarely as was asked for, and faults are found soon."""

from __future__ import annotations

import numpy as np
import pytest

from treadle.monitoring.charts import cusum_threshold, level_threshold
from treadle.monitoring.detectors.cusum import CusumState, step

QUARTER = 1 / 91


def alarms(values: np.ndarray, h: float, *, two_sided: bool = True) -> list[int]:
    """The blocks that alarm; the sums start again after each."""
    state, found = CusumState(), []
    for i, z in enumerate(values):
        state = step(state, float(z))
        if state.high > h or (two_sided and state.low > h):
            found.append(i)
            state = CusumState()
    return found


DRAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.gamma(2.0, size=n),
    "heavy": lambda rng, n: rng.standard_t(4, size=n),
}


def first_alarms(draw: str, reference: int, watched: int, *, days: int = 91, series: int = 300) -> float:
    """False alarms a day over many models, each with reference blocks and a quarter of its own: from the share that stays silent."""
    rng = np.random.default_rng(11)
    silent = 0
    for i in range(series):
        values, future = DRAWS[draw](rng, reference), DRAWS[draw](rng, days)
        h = cusum_threshold(values, QUARTER, watched=watched, seed=i).threshold
        silent += not alarms((future - values.mean()) / values.std(ddof=1), h)
    return -np.log(silent / series) / days


@pytest.mark.parametrize(
    ("draw", "reference", "watched"), [("normal", 30, 1), ("normal", 6, 1), ("skewed", 60, 1), ("heavy", 60, 1), ("normal", 60, 4)]
)
def test_false_alarms_come_at_about_the_tolerated_rate(monkeypatch: pytest.MonkeyPatch, draw: str, reference: int, watched: int) -> None:
    monkeypatch.setattr("treadle.monitoring.charts.PATHS", 400)
    tolerated = QUARTER / watched
    assert tolerated / 2 <= first_alarms(draw, reference, watched) <= tolerated * 2


def test_the_achieved_rate_is_reported_and_near() -> None:
    values = np.random.default_rng(12).normal(size=40)
    for watched in (1, 4, 20):
        calibrated = cusum_threshold(values, QUARTER, watched=watched)
        assert calibrated.rate == pytest.approx(QUARTER / watched)
        assert calibrated.rate / 1.6 < calibrated.achieved < calibrated.rate * 1.6


def test_a_shift_of_one_standard_deviation_is_found_within_fifteen_blocks() -> None:
    rng = np.random.default_rng(13)
    delays = []
    for seed in range(40):
        values, future = rng.normal(size=60), rng.normal(1.0, size=120)
        h = cusum_threshold(values, QUARTER, seed=seed).threshold
        delays.append((alarms((future - values.mean()) / values.std(ddof=1), h) or [120])[0] + 1)
    assert np.median(delays) <= 15


def test_a_lower_rate_more_things_watched_and_fewer_blocks_raise_the_threshold() -> None:
    values = np.random.default_rng(14).normal(size=50)
    usual = cusum_threshold(values, QUARTER).threshold
    assert cusum_threshold(values, QUARTER / 4).threshold > usual
    assert cusum_threshold(values, QUARTER, watched=8).threshold > usual
    assert cusum_threshold(values[:6], QUARTER).threshold > usual
    assert cusum_threshold(values, QUARTER, two_sided=False).threshold < usual
    assert cusum_threshold(values, QUARTER) == cusum_threshold(values, QUARTER)


def test_without_reference_blocks_the_standard_normal_threshold_of_the_textbook_is_used() -> None:
    # Two-sided CUSUM, slack 0.5, h = 4: average run length 168 (Montgomery, table 9.3)
    assert cusum_threshold(np.array([]), 1 / 168).threshold == pytest.approx(4.0, abs=0.4)


@pytest.mark.parametrize("power", [1, 2])
def test_a_level_is_passed_by_new_blocks_at_about_the_tolerated_rate(power: int) -> None:
    rng = np.random.default_rng(15)
    passed = 0
    for _ in range(400):
        values, future = np.abs(rng.normal(size=40)) ** power, np.abs(rng.normal(size=400)) ** power
        passed += int((future > level_threshold(values, 0.01)).sum())
    assert 0.005 <= passed / (400 * 400) <= 0.02


def test_windows_that_overlap_count_as_fewer() -> None:
    values = np.abs(np.random.default_rng(16).normal(size=60))
    assert level_threshold(values, 0.01 / 7, overlap=7) > level_threshold(values, 0.01)
    assert level_threshold(values[:1], 0.01) == 0.0
