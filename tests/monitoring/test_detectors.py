"""Detectors agree with their formulas, written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from treadle.monitoring.detectors import cusum, ks, psi, quality
from treadle.monitoring.sketches import NumberSketch, sketch_column


def numbers(values: np.ndarray) -> NumberSketch:
    sketch = NumberSketch()
    sketch.update(values)
    return sketch


def psi_directly(reference: np.ndarray, now: np.ndarray) -> float:
    inner = np.quantile(reference, np.linspace(0.1, 0.9, 9))
    q, p = (np.bincount(np.searchsorted(inner, v), minlength=10) / len(v) for v in (reference, now))
    return float(((p - q) * np.log(p / q)).sum())


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_psi_of_numbers_is_the_formula_on_deciles_of_the_reference(shift: float) -> None:
    rng = np.random.default_rng(3)
    reference, now = rng.normal(size=50_000), rng.normal(shift, size=20_000)
    assert psi.score(numbers(reference), numbers(now)).raw == pytest.approx(psi_directly(reference, now), abs=0.01, rel=0.05)


def test_psi_of_categories_is_the_formula_on_their_shares() -> None:
    reference, now = ["a"] * 5_000 + ["b"] * 3_000 + ["c"] * 2_000, ["a"] * 2_000 + ["b"] * 3_000 + ["c"] * 5_000
    q, p = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    found = psi.score(sketch_column(reference, "category"), sketch_column(now, "category"))
    assert found.raw == pytest.approx(((p - q) * np.log(p / q)).sum(), abs=0.002)
    assert [b.name for b in found.bins] == ["a", "b", "c", "other", "missing"]
    assert sum(b.part for b in found.bins) == pytest.approx(found.raw)


def test_psi_of_small_samples_from_one_population_is_zero_on_average() -> None:
    rng = np.random.default_rng(4)
    values = [psi.score(numbers(rng.normal(size=500)), numbers(rng.normal(size=300))) for _ in range(150)]
    assert np.mean([v.raw for v in values]) > 0.04
    assert abs(np.mean([v.value for v in values])) < 0.01


def test_psi_sees_missing_values_new_categories_and_a_value_that_holds_many_rows() -> None:
    plenty = np.random.default_rng(5).normal(size=2_000)
    holed = np.where(np.arange(2_000) % 2, plenty, np.nan)
    assert psi.score(numbers(plenty), numbers(holed)).value > 1
    assert psi.score(sketch_column(["a", "b"] * 500, "category"), sketch_column(["a", "B"] * 500, "category")).value > 1
    rain = np.where(np.arange(2_000) % 10 < 7, 0.0, np.abs(plenty))
    assert psi.score(numbers(rain), numbers(np.where(rain == 0, -1.0, rain))).value > 1
    assert psi.score(numbers(rain), numbers(rain.copy())).value < 0.01
    assert psi.score(numbers(np.ones(500)), numbers(np.zeros(500))).value > 1
    assert psi.score(numbers(plenty), numbers(np.array([]))).value == 0.0


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.25, 1.0), (0.0, 2.0), (3.0, 1.0)])
def test_ks_agrees_with_scipy(shift: float, scale: float) -> None:
    rng = np.random.default_rng(6)
    left, right = rng.normal(size=30_000), rng.normal(shift, scale, size=20_000)
    assert ks.score(numbers(left), numbers(right)) == pytest.approx(stats.ks_2samp(left, right).statistic, abs=0.02)


def test_ks_of_few_distinct_values_agrees_with_scipy() -> None:
    left, right = np.repeat([0.0, 1.0, 2.0], [700, 200, 100]), np.repeat([0.0, 1.0, 2.0], [300, 200, 500])
    assert ks.score(numbers(left), numbers(right)) == pytest.approx(stats.ks_2samp(left, right).statistic, abs=0.02)
    assert ks.score(numbers(left), numbers(np.array([]))) == 0.0


def test_quality_measures_effects() -> None:
    reference = numbers(np.linspace(0, 10, 1_000))
    assert quality.score(reference, numbers(np.array([5.0, np.nan] * 50))).missing_jump == 0.5
    assert quality.score(reference, numbers(np.full(100, 5.0))).constant
    assert not quality.score(reference, numbers(np.full(20, 5.0))).constant
    assert quality.score(reference, numbers(np.array([-1.0, 5.0, 6.0, 11.0]))).out_of_range == pytest.approx(0.5)
    assert quality.score(reference, numbers(np.array([0.0, 10.0]))).out_of_range == 0.0


def test_a_value_that_is_usual_is_no_stuck_sensor() -> None:
    dry = numbers(np.repeat([0.0, 1.0], [900, 100]))
    assert not quality.score(dry, numbers(np.zeros(100))).constant
    assert quality.score(dry, numbers(np.ones(100))).constant
    carrier = sketch_column(["UA"] * 100 + ["AA"] * 900, "category")
    assert quality.score(carrier, sketch_column(["UA"] * 50, "category")).constant
    assert quality.score(carrier, sketch_column(["UA", "United"] * 50, "category")).new_share == 0.5


def test_rare_categories_beyond_the_cap_are_not_called_new() -> None:
    reference = sketch_column([f"id-{i}" for i in range(5_000)], "text")
    assert quality.score(reference, sketch_column([f"id-{i}" for i in range(0, 5_000, 10)], "text")).new_share < 0.05


def test_cusum_is_its_recursion() -> None:
    values = np.random.default_rng(7).normal(0.5, size=200)
    high = low = peak = 0.0
    for z in values:
        high, low = max(0.0, high + z - 0.5), max(0.0, low - z - 0.5)
        peak = max(peak, high, low)
    state = cusum.score(values)
    assert (state.high, state.low, state.n) == (pytest.approx(high), pytest.approx(low), 200)
    assert cusum.peaks(values[None, :])[0] == pytest.approx(peak)
    assert cusum.step(state, float("nan")) == state
