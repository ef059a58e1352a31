"""The search sees the search rows only, repeats itself to the letter, and always has something trivial to beat."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.core.declare.model import Candidate, candidate
from treadle.core.errors import DataError, ProjectError
from treadle.training import estimators
from treadle.training.search import Found, Trial, outputs, search

LOGISTIC = (candidate("logistic"),)


def data(n: int = 300, seed: int = 0, signal: float = 2.0) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    truth = (rng.uniform(size=n) < 1 / (1 + np.exp(-signal * a))).astype(np.int64)
    return pl.DataFrame({"a": a, "b": b, "c": rng.choice(["x", "y", ""], n)}), truth


def folds(n: int, count: int = 3) -> list[tuple[np.ndarray, np.ndarray]]:
    parts = np.array_split(np.arange(n), count)
    return [(np.setdiff1d(np.arange(n), part), part) for part in parts]


def find(frame: pl.DataFrame, truth: np.ndarray, candidates: tuple[Candidate, ...] = LOGISTIC, **changes: Any) -> Found:
    task = changes.pop("task", "binary")
    return search(task, frame, truth, changes.pop("folds", folds(len(truth))), ["a", "b"], ["c"], candidates, **{"trials": 5, "seed": 0, "threads": 1, **changes})


def settings_of(found: Found) -> list[Any]:
    return [(t.number, t.family, t.params, t.status, t.loss, t.fold_losses) for t in found.trials]


@pytest.mark.parametrize("families", [("logistic",), ("logistic", "forest"), ("lightgbm",)])
def test_the_same_seed_finds_the_same_model(families: tuple[str, ...]) -> None:
    frame, truth = data(120)
    candidates = tuple(
        candidate("forest", n_estimators=[5], max_features=[0.5, 1.0]) if f == "forest"
        else candidate("lightgbm", n_estimators=[5, 6], num_leaves=[4, 7]) if f == "lightgbm" else candidate(f)
        for f in families
    )  # fmt: skip
    one, two = (find(frame, truth, candidates, trials=4) for _ in range(2))
    assert settings_of(one) == settings_of(two)
    assert (one.family, one.params) == (two.family, two.params)
    assert np.array_equal(outputs("binary", one.pipeline, frame, 2), outputs("binary", two.pipeline, frame, 2))


def test_rows_that_are_not_searched_change_nothing() -> None:
    """The test rows are no part of what is passed; rows of the frame that no fold names do not change a trial either."""
    frame, truth = data(300)
    part = np.arange(200)
    one = find(frame[part], truth[part], folds=folds(200))
    poisoned = frame.with_columns(a=pl.when(pl.int_range(pl.len()) < 200).then(pl.col("a")).otherwise(float("inf")))
    two = find(poisoned[part], truth[part], folds=folds(200))
    assert settings_of(one) == settings_of(two)
    with pytest.raises(DataError, match="infinity"):  # had a fold touched them, it would have failed
        find(poisoned, truth, folds=folds(300))


def test_a_trivial_baseline_is_always_there() -> None:
    frame, truth = data()
    found = find(frame, truth)
    said = outputs("binary", found.baseline, frame, 2)
    assert np.ptp(said[:, 1]) == 0
    assert said[0, 1] == pytest.approx(truth.mean())
    number = find(frame, frame["a"].to_numpy(), (candidate("ridge"),), task="regression", trials=2)
    assert outputs("regression", number.baseline, frame, 0)[0, 0] == pytest.approx(frame["a"].mean())


def test_the_first_setting_of_a_family_is_the_usual_one_and_none_is_tried_twice() -> None:
    frame, truth = data(100)
    told: list[Trial] = []
    found = find(frame, truth, (candidate("logistic"), candidate("forest", n_estimators=[3, 4], max_features=[0.5, 1.0])), trials=12, on_trial=told.append)
    assert found.trials == sorted(told, key=lambda t: t.number)
    assert found.trials[0].params == {"C": 1.0}
    tried = [(t.family, tuple(sorted(t.params.items()))) for t in found.trials]
    assert len(set(tried)) == len(tried) >= 8
    assert sorted(t.number for t in told) == list(range(len(told)))


def test_a_space_that_is_exhausted_ends_the_search() -> None:
    frame, truth = data(100)
    found = find(frame, truth, (candidate("logistic", C=[0.1, 1.0, 10.0]),), trials=50)
    assert sorted(t.params["C"] for t in found.trials) == [0.1, 1.0, 10.0]


def test_the_winner_has_the_least_loss_of_those_that_were_tried_to_the_end() -> None:
    frame, truth = data()
    found = find(frame, truth, (candidate("logistic", C=(0.0001, 10.0, "log")),), trials=10)
    done = [t for t in found.trials if t.status == "done"]
    best = min(done, key=lambda t: t.loss or 0.0)
    assert (found.family, found.params) == (best.family, best.params)
    positions, said = found.validation[0]
    assert np.array_equal(positions, folds(300)[0][1])
    assert said.shape == (100, 2)


class Breaks:
    """An estimator that cannot be fitted."""

    def fit(self, X: Any, y: Any) -> Breaks:
        raise RuntimeError("no licence")

    def predict_proba(self, X: Any) -> Any:
        raise AssertionError


def broken() -> Any:
    from sklearn.linear_model import LogisticRegression

    class Breaking(LogisticRegression):
        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
            raise RuntimeError("no licence")

    return Breaking()


def test_an_estimator_that_fails_is_a_failed_trial_and_not_a_failed_search() -> None:
    frame, truth = data()
    found = find(frame, truth, (candidate("mine", broken), candidate("logistic")))
    failed = [t for t in found.trials if t.status == "failed"]
    assert [(t.family, t.loss, t.error) for t in failed] == [("mine", None, "RuntimeError: no licence")]
    assert found.family == "logistic"


def test_when_all_fail_the_reasons_are_told() -> None:
    frame, truth = data()
    with pytest.raises(DataError, match="None of the 1 settings could be fitted: mine: RuntimeError: no licence"):
        find(frame, truth, (candidate("mine", broken),))


def test_ones_own_estimator_is_seeded_and_searched() -> None:
    from sklearn.tree import DecisionTreeClassifier

    frame, truth = data()
    found = find(frame, truth, (candidate("tree", DecisionTreeClassifier, max_depth=[1, 2, 3], min_samples_leaf=[5, 20]),), trials=4)
    assert len(found.trials) == 4
    assert found.pipeline.named_steps["model"].random_state == 0
    assert pickle.dumps(found.pipeline)


def test_three_numbers_are_three_values_and_no_range() -> None:
    frame, truth = data(100)
    found = find(frame, truth, (candidate("logistic", C=(0.1, 1.0, 10.0)),), trials=20)
    assert {t.params["C"] for t in found.trials} == {0.1, 1.0, 10.0}


def test_a_hopeless_setting_is_given_up_early() -> None:
    frame, truth = data(400, signal=6.0)
    found = find(frame, truth, (candidate("logistic", C=[1.0, 1e-6]),), trials=2)
    states = {t.params["C"]: t.status for t in found.trials}
    assert states[1.0] == "done"
    if found.trials[0].params["C"] == 1.0:
        assert states[1e-6] == "pruned"
        assert len(found.trials[1].fold_losses) < 3


def test_a_class_that_one_fold_never_saw_gets_probability_zero_there() -> None:
    frame, _ = data(90)
    truth = np.repeat([0, 1, 2], 30)
    cut = [(np.arange(60), np.arange(60, 90)), (np.arange(90), np.arange(90))]
    found = find(frame, truth, LOGISTIC, task="multiclass", folds=cut, trials=1)
    assert (found.validation[0][1][:, 2] == 0).all()
    assert outputs("multiclass", found.pipeline, frame, 3).shape == (90, 3)


def test_a_family_nobody_knows_is_refused_with_those_there_are() -> None:
    import treadle as tr

    project = tr.Project("p")
    rows = project.dataset("rows", source=tr.rows(list), key="id")
    model = project.model("m", rows=rows, target="y", inputs=["a"], candidates=[tr.candidate("magic")])
    with pytest.raises(ProjectError, match="There is no family 'magic'") as caught:
        estimators.candidates(model, "binary", 100)
    assert "logistic, ridge, forest" in (caught.value.hint or "")
    auto = project.model("n", rows=rows, target="y", inputs=["a"])
    assert [c.family for c in estimators.candidates(auto, "binary", 100)] == ["logistic", "forest", "boosting", "lightgbm"]
    assert [c.family for c in estimators.candidates(auto, "regression", 10**6)] == ["ridge", "boosting", "lightgbm"]
