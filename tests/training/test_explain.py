"""Contributions are exact: they add up to the answer, and are the Shapley values that the definition gives."""

from __future__ import annotations

from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier

from treadle.assemble import tree_table
from treadle.backends.encoder_table import describe
from treadle.core.errors import Corrupt, NotFound
from treadle.serving.contributions import Contributions, explain
from treadle.serving.counterfactuals import counterfactuals
from treadle.training import explain as terms_of
from treadle.training.encoding import make_pipeline

NUMBERS = ["a", "b", "c", "d"]


def rows(seed: int = 0, n: int = 600, classes: int = 2) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32).astype(float)
    x[rng.uniform(size=x.shape) < 0.1] = np.nan
    word = rng.choice(["p", "q", "r"], n)
    signal = np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1] * x[:, 2]) + (word == "p") + 0.5 * rng.normal(size=n)
    target = np.digitize(signal, np.quantile(signal, np.linspace(0, 1, classes + 1)[1:-1]))
    return pl.DataFrame({**dict(zip(NUMBERS, x.T)), "word": word}), target


def packed(estimator: Any, folder: Path, *, linear: bool = False, task: str = "binary", words: bool = True) -> tuple[Any, Contributions, np.ndarray]:
    frame, target = rows(classes=3 if task == "multiclass" else 2)
    truth = np.nan_to_num(frame["a"].to_numpy()) * 2 + target if task == "regression" else target
    fitted = make_pipeline(estimator, NUMBERS, ["word"] if words else [], linear=linear, task=task).fit(frame, truth)
    matrix = np.asarray(fitted[:-1].transform(frame), dtype=np.float32)
    found = terms_of.linear_terms(fitted[-1], matrix)
    terms_of.write(folder, found if found is not None else terms_of.tree_terms(tree_table(fitted[-1]), matrix))
    return fitted, Contributions(folder, describe(fitted)["encoder"]), matrix


ESTIMATORS: list[tuple[Any, dict[str, Any]]] = [
    (LGBMClassifier(n_estimators=30, verbosity=-1, n_jobs=1), {}), (LGBMClassifier(n_estimators=10, verbosity=-1, n_jobs=1), {"task": "multiclass"}),
    (LGBMRegressor(n_estimators=30, verbosity=-1, n_jobs=1), {"task": "regression"}), (HistGradientBoostingClassifier(max_iter=20), {}),
    (RandomForestClassifier(20, min_samples_leaf=5, random_state=0), {}), (ExtraTreesClassifier(10, min_samples_leaf=5, random_state=0), {"task": "multiclass"}),
    (GradientBoostingRegressor(n_estimators=20, random_state=0), {"task": "regression"}), (LogisticRegression(), {"linear": True}),
    (LogisticRegression(), {"linear": True, "task": "multiclass"}), (Ridge(), {"linear": True, "task": "regression"}),
]  # fmt: skip


@pytest.mark.parametrize(("estimator", "options"), ESTIMATORS, ids=lambda e: type(e).__name__ if hasattr(e, "fit") else e.get("task", ""))
def test_contributions_add_up_to_the_answer(estimator: Any, options: dict[str, Any], tmp_path: Path) -> None:
    fitted, contributions, matrix = packed(estimator, tmp_path, **options)
    frame, _ = rows(classes=3 if options.get("task") == "multiclass" else 2)
    said = fitted.predict(frame[:40]).reshape(-1, 1) if options.get("task") == "regression" else fitted.predict_proba(frame[:40])
    for row, answer in zip(matrix, said):
        assert np.abs(contributions.answer(row, said.shape[1]) - answer).max() < 1e-5
        assert contributions.of(row).shape == (5, len(contributions.base))


def test_they_are_the_shapley_values_of_the_definition(tmp_path: Path) -> None:
    """The sum over all coalitions, with each tree followed down both ways, in the shares of the training rows, where a feature is not known."""
    _, contributions, matrix = packed(LGBMRegressor(n_estimators=5, num_leaves=8, verbosity=-1, n_jobs=1), tmp_path, task="regression", words=False)
    t = {name: contributions._terms[name] for name in ("feature", "low", "high", "missing", "share", "value")}

    def value(row: np.ndarray, known: tuple[int, ...]) -> float:
        total = 0.0
        for leaf in range(len(t["value"])):
            weight = 1.0
            for j, feature in enumerate(t["feature"][leaf]):
                if feature < 0:
                    continue
                x = row[feature]
                meets = bool(t["missing"][leaf, j]) if np.isnan(x) else bool(t["low"][leaf, j] < x <= t["high"][leaf, j])
                weight *= float(meets) if feature in known else float(t["share"][leaf, j])
            total += weight * float(t["value"][leaf, 0])
        return total

    for row in matrix[:5]:
        found = contributions.of(row)[:, 0]
        for i in range(4):
            others = [j for j in range(4) if j != i]
            exact = sum(
                factorial(size) * factorial(3 - size) / factorial(4) * (value(row, (*s, i)) - value(row, s)) for size in range(4) for s in combinations(others, size)
            )
            assert found[i] == pytest.approx(exact, abs=1e-9)


def test_they_are_what_lightgbm_itself_gives(tmp_path: Path) -> None:
    fitted, contributions, matrix = packed(LGBMRegressor(n_estimators=40, verbosity=-1, n_jobs=1), tmp_path, task="regression", words=False)
    own = fitted[-1].booster_.predict(matrix[:50], pred_contrib=True)
    assert np.abs(np.array([contributions.of(r)[:, 0] for r in matrix[:50]]) - own[:, :-1]).max() < 1e-4
    assert contributions.base[0] == pytest.approx(own[0, -1], abs=1e-4)


def test_the_same_model_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        packed(LGBMClassifier(n_estimators=5, verbosity=-1, n_jobs=1), tmp_path / name)
    assert (tmp_path / "one" / terms_of.TERMS).read_bytes() == (tmp_path / "two" / terms_of.TERMS).read_bytes()


def test_a_model_without_exact_contributions_says_so(tmp_path: Path) -> None:
    assert tree_table(KNeighborsClassifier()) is None
    with pytest.raises(NotFound, match="holds no terms"):
        Contributions(tmp_path, [])
    (tmp_path / terms_of.TERMS).write_bytes(b"PK no zip at all")
    with pytest.raises(Corrupt, match="cannot be read"):
        Contributions(tmp_path, [])


def test_one_answer_is_told_by_what_moved_it_most(tmp_path: Path) -> None:
    fitted, contributions, matrix = packed(LogisticRegression(), tmp_path, linear=True)
    told = explain(contributions, matrix[0], {"a": 1.5, "word": "p"}, most=2)
    assert told["unit"] == "log-odds"
    assert len(told["features"]) == 2
    assert told["sum"] == pytest.approx(told["base"] + sum(f["contribution"] for f in told["features"]) + told["others"])
    assert abs(told["features"][0]["contribution"]) >= abs(told["features"][1]["contribution"])
    p = fitted.predict_proba(rows()[0][:1])[0, 1]
    assert 1 / (1 + np.exp(-told["sum"])) == pytest.approx(p, abs=1e-5)


def test_importance_orders_what_matters_and_says_how_stable_the_order_is() -> None:
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({"much": rng.normal(size=800), "some": rng.normal(size=800), "none": rng.normal(size=800)})
    truth = 3 * frame["much"].to_numpy() + frame["some"].to_numpy()
    found = terms_of.importance("regression", frame, truth, lambda f: (3 * f["much"] + f["some"]).to_numpy()[:, None])
    assert [f["name"] for f in found["features"]] == ["much", "some", "none"]
    assert found["features"][2]["importance"] == 0
    assert found["stability"] == pytest.approx(1.0)
    assert all(f["low"] <= f["importance"] <= f["high"] for f in found["features"])


def _answer(asked: Any) -> np.ndarray:
    p = np.array([1 / (1 + np.exp(-(2 * (a or 0.0) + (3 if word == "storm" else 0) - 2))) for a, word in asked])
    return np.column_stack([1 - p, p])


VALUES = {"a": [-2.0, -1.0, 0.0, 1.0, 2.0], "word": ["calm", "storm"]}


def test_a_counterfactual_changes_as_little_as_is_needed_to_values_that_were_seen() -> None:
    found = counterfactuals([0.0, "calm"], ["a", "word"], _answer, VALUES, wanted=lambda o: 0.5 - o[:, 1])
    assert [f["changes"] for f in found] == [{"a": [0.0, 1.0]}, {"word": ["calm", "storm"]}]
    assert all(f["output"][1] >= 0.5 for f in found)


def test_what_nobody_can_change_is_left_alone_and_two_changes_come_after_one() -> None:
    found = counterfactuals([0.0, "calm"], ["a", "word"], _answer, VALUES, wanted=lambda o: 0.5 - o[:, 1], fixed=["word"])
    assert [f["changes"] for f in found] == [{"a": [0.0, 1.0]}]
    both = counterfactuals([-1.0, "calm"], ["a", "word"], _answer, {"a": [-1.0, 0.5], "word": ["calm", "storm"]}, wanted=lambda o: 0.85 - o[:, 1])
    assert [set(f["changes"]) for f in both] == [{"a", "word"}]
    assert counterfactuals([0.0, "calm"], ["a", "word"], _answer, VALUES, wanted=lambda o: 2 - o[:, 1]) == []
