"""Alarms come as rarely as was asked for, and faults are found soon."""

from __future__ import annotations

import numpy as np
import pytest

from treadle.monitoring.charts import chart_limits, level_threshold
from treadle.monitoring.detectors.cusum import FAST, CusumState, peaks, step
from treadle.monitoring.thresholds import Limits

QUARTER = 1 / 91


def limits_of(values: np.ndarray, rate: float, *, watched: int = 1, two_sided: bool = True, seed: int = 0) -> Limits:
    return chart_limits(values, rate, watched=watched, two_sided=two_sided, seed=seed)


def alarms(values: np.ndarray, limits: Limits) -> list[int]:
    """The blocks that alarm, by either CUSUM or by themselves; the sums start again after each."""
    slow, fast, found = CusumState(), CusumState(), []
    for i, z in enumerate(map(float, values)):
        slow, fast = step(slow, z), step(fast, z, FAST)
        if max(slow.high, slow.low) > limits.threshold or max(fast.high, fast.low) > limits.fast or abs(z) > limits.single:
            found.append(i)
            slow, fast = CusumState(), CusumState()
    return found


DRAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.gamma(2.0, size=n),
    "heavy": lambda rng, n: rng.standard_t(4, size=n),
}


def first_alarms(draw: str, reference: int, watched: int, *, days: int = 91, series: int = 200) -> float:
    """False alarms a day over many models, each with reference blocks and a quarter of its own: from the share that stays silent."""
    rng = np.random.default_rng(11)
    silent = 0
    for i in range(series):
        values, future = DRAWS[draw](rng, reference), DRAWS[draw](rng, days)
        limits = limits_of(values, QUARTER, watched=watched, seed=i)
        silent += not alarms((future - values.mean()) / values.std(ddof=1), limits)
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
        calibrated = limits_of(values, QUARTER, watched=watched)
        assert calibrated.rate == pytest.approx(QUARTER / watched)
        assert calibrated.rate / 1.6 < calibrated.achieved < calibrated.rate * 1.6


def test_a_shift_of_one_standard_deviation_is_found_within_fifteen_blocks() -> None:
    rng = np.random.default_rng(13)
    delays = []
    for seed in range(40):
        values, future = rng.normal(size=60), rng.normal(1.0, size=120)
        limits = limits_of(values, QUARTER, seed=seed)
        delays.append((alarms((future - values.mean()) / values.std(ddof=1), limits) or [120])[0] + 1)
    assert np.median(delays) <= 15


def test_a_lower_rate_more_things_watched_and_fewer_blocks_raise_the_threshold() -> None:
    values = np.random.default_rng(14).normal(size=50)
    usual = limits_of(values, QUARTER).threshold
    assert limits_of(values, QUARTER / 4).threshold > usual
    assert limits_of(values, QUARTER, watched=8).threshold > usual
    assert limits_of(values[:6], QUARTER).threshold > usual
    assert limits_of(values, QUARTER, two_sided=False).threshold < usual
    assert limits_of(values, QUARTER) == limits_of(values, QUARTER)


def test_the_threshold_of_standard_normal_blocks_is_that_of_the_textbook() -> None:
    # Two-sided CUSUM, slack 0.5, h = 4: average run length 168 (Montgomery, table 9.3)
    highest = peaks(np.random.default_rng(0).standard_normal((2_000, 120)), two_sided=True)
    assert np.quantile(highest, np.exp(-120 / 168)) == pytest.approx(4.0, abs=0.4)
    assert limits_of(np.array([]), 1 / 168).threshold > 4.0  # which shares the rate with other statistics


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
