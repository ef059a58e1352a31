"""Groups are compared with intervals, alone and in pairs; evening them out says what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import treadle as tr
from treadle.core.errors import ProjectError
from treadle.training.fairness import banded, by_threshold, fairness, mitigation, reweighting


def hired(seed: int, n: int = 4000, bias: float = 0.0) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(truth, output, attributes): probabilities that are right, and lower for one group by `bias`."""
    rng = np.random.default_rng(seed)
    sex, race = rng.choice(["f", "m"], n), rng.choice(["x", "y", "z"], n, p=[0.6, 0.35, 0.05])
    score = rng.normal(size=n) - bias * (sex == "f")
    p = 1 / (1 + np.exp(-score))
    return (rng.uniform(size=n) < p).astype(int), np.column_stack([1 - p, p]), {"sex": sex.astype(object), "race": race.astype(object)}


def entry(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(a for a in found["attributes"] if a["attribute"] == name)


def test_equal_groups_are_called_equal_and_unequal_ones_unequal() -> None:
    for bias, fair in ((0.0, True), (0.8, False)):
        truth, output, attributes = hired(0, bias=bias)
        found = fairness("binary", truth, output, attributes, np.arange(4000))
        sex = entry(found, "sex")
        assert [a["attribute"] for a in found["attributes"]] == ["sex", "race", "sex x race"]
        assert (sex["ratio"]["high"] >= 0.8) == fair
        assert sex["ratio"]["low"] <= sex["ratio"]["value"] <= sex["ratio"]["high"]
        assert {g["value"] for g in sex["groups"]} == {"f", "m"}
    assert sex["between"] == ["f", "m"]  # the lowest, then the highest


def test_the_figures_are_those_of_their_definitions() -> None:
    truth, output, attributes = hired(1, bias=0.5)
    selected, f = output[:, 1] >= 0.5, attributes["sex"] == "f"
    sex = entry(fairness("binary", truth, output, attributes, np.arange(4000)), "sex")
    rates = [selected[f].mean(), selected[~f].mean()]
    assert sex["ratio"]["value"] == pytest.approx(min(rates) / max(rates), abs=1e-5)
    gaps = [abs(selected[f & (truth == k)].mean() - selected[~f & (truth == k)].mean()) for k in (0, 1)]
    assert sex["odds"]["value"] == pytest.approx(max(gaps), abs=1e-5)


def test_a_group_too_small_to_say_anything_is_counted_and_not_judged() -> None:
    truth, output, attributes = hired(2, 400)
    race = entry(fairness("binary", truth, output, attributes, np.arange(400)), "race")
    assert (race["judged"], race["small"]) == (2, 1)


def test_numbers_and_several_classes_have_their_own_measures() -> None:
    rng = np.random.default_rng(3)
    group = {"site": rng.choice(["a", "b"], 1000).astype(object)}
    truth = rng.normal(size=1000) * np.where(group["site"] == "a", 3, 1)
    number = entry(fairness("regression", truth, np.zeros((1000, 1)), group, np.arange(1000)), "site")
    assert number["gap"]["low"] > 0.5
    assert number["between"] == ["b", "a"]
    classes = rng.integers(0, 3, 1000)
    several = entry(fairness("multiclass", classes, rng.dirichlet(np.ones(3), 1000), group, np.arange(1000)), "site")
    assert several["gap"]["value"] < 0.1


def test_a_number_is_judged_in_bands() -> None:
    assert banded(["23", "25", "70.5", None, "?"], (25, 65)).tolist() == ["below 25", "25 to 65", "65 and more", "missing", "missing"]
    assert tr.bands("age", 25, 65).cuts == (25.0, 65.0)
    with pytest.raises(ProjectError, match="are cut at"):
        tr.bands("age", 65, 25)


def test_thresholds_for_each_group_reach_four_fifths_on_new_rows() -> None:
    truth, output, attributes = hired(4, 8000, bias=0.9)
    old, new = slice(0, 4000), slice(4000, 8000)
    chosen = by_threshold(truth[old], output[old, 1], attributes["sex"][old], ask_probability=output[new, 1], ask_groups=attributes["sex"][new])
    f = attributes["sex"][new] == "f"
    before = (output[new, 1] >= 0.5)[f].mean() / (output[new, 1] >= 0.5)[~f].mean()
    after = chosen["selected"][f].mean() / chosen["selected"][~f].mean()
    assert before < 0.7 < 0.8 <= after <= 1.05
    assert chosen["thresholds"]["f"] < 0.5 < chosen["thresholds"]["m"]


def test_every_way_of_evening_out_says_what_it_costs() -> None:
    truth, output, attributes = hired(5, 8000, bias=0.9)
    groups, p = attributes["sex"], output[:, 1]
    old, new = slice(0, 4000), slice(4000, 8000)
    ways = mitigation(truth[new], p[new], groups[new], (truth[old], p[old], groups[old]), refit=lambda w: p[new], weights=reweighting(truth[old], groups[old]))
    assert ways[0]["way"] == "as it is"
    assert ways[0]["costs"] == {"accuracy": 0.0, "log_loss": 0.0}
    assert ways[1]["ratio"] > 0.8 > ways[0]["ratio"]
    assert 0 < ways[1]["costs"]["accuracy"] < 0.1
    assert ways[2]["odds"] < ways[0]["odds"]


def test_weights_make_group_and_class_independent() -> None:
    truth, _, attributes = hired(6, bias=1.0)
    w, f = reweighting(truth, attributes["sex"]), attributes["sex"] == "f"
    assert np.average(truth[f], weights=w[f]) == pytest.approx(np.average(truth[~f], weights=w[~f]))
    assert w.sum() == pytest.approx(len(truth))
