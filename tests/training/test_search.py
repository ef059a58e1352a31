"""The search sees the search rows only, repeats itself to the letter, and always has something trivial to beat."""

from __future__ import annotations

import pickle
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, TransformerMixin

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


def test_row_weights_reach_the_last_step_and_are_left_out_where_none_are_taken() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler

    from treadle.training.trials import weights_of

    def named(model: object) -> list[str] | None:
        found = weights_of(Pipeline([("columns", StandardScaler()), ("model", model)]), np.ones(3))
        return None if found is None else list(found)

    assert named(LogisticRegression()) == ["model__sample_weight"]
    assert named(make_pipeline(StandardScaler(), LogisticRegression())) == ["model__logisticregression__sample_weight"]
    assert named(KNeighborsClassifier()) is None


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


def test_ten_thousand_columns_are_searched() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(120, 10_000))
    frame = pl.DataFrame({f"c{i}": values[:, i] for i in range(10_000)})
    truth = (values[:, 0] > 0).astype(np.int64)
    found = search("binary", frame, truth, folds(120), frame.columns, [], (candidate("logistic", C=[0.01, 1.0]),), trials=2, seed=0, threads=1)
    assert found.family == "logistic"


class Recorder(TransformerMixin, BaseEstimator):
    """Passes rows on, and remembers which it was fitted on."""

    seen: ClassVar[list[set[float]]] = []

    def fit(self, X: Any, y: Any = None) -> Recorder:
        Recorder.seen.append(set(np.asarray(X)[:, 0].tolist()))
        self.fitted_ = True
        return self

    def transform(self, X: Any) -> Any:
        return X


@pytest.mark.parametrize("trials", [1, 3])
def test_a_transformer_never_sees_the_rows_it_is_judged_on(trials: int) -> None:
    """In the trials, each fit is on the training rows of one fold; only the winner, at last, is fitted on all search rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    frame = pl.DataFrame({"a": np.arange(90, dtype=float), "b": np.random.default_rng(0).normal(size=90), "c": ["x"] * 90})
    truth = (np.arange(90) % 2).astype(np.int64)
    Recorder.seen.clear()
    recorded = candidate("recorded", make_pipeline(Recorder(), LogisticRegression()), logisticregression__C=[0.1, 1.0, 10.0][:trials])
    spaced = (frame["a"].to_numpy() - frame["a"].mean()) / frame["a"].std()
    assert len(set(np.float32(spaced))) == 90
    find(frame, truth, (recorded,), trials=trials)
    *during, last = Recorder.seen
    assert len(during) >= 3
    assert {len(rows) for rows in during} == {60}  # of 90 rows, those of one of three folds are never among them
    assert len(last) == 90


def test_the_columns_encoder_of_a_fold_is_fitted_on_its_training_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from treadle.training import encoding

    fitted: list[set[float]] = []

    class Watched(encoding.StandardScaler):  # type: ignore[misc, name-defined]
        def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
            fitted.append(set(np.asarray(X)[:, 0].tolist()))
            return super().fit(X, y, sample_weight)

    monkeypatch.setattr(encoding, "StandardScaler", Watched)
    frame = pl.DataFrame({"a": np.arange(90, dtype=float), "b": np.zeros(90), "c": ["x"] * 90})
    truth = (np.arange(90) % 2).astype(np.int64)
    cut = folds(90)
    find(frame, truth, (candidate("logistic", C=[0.1, 1.0]),), trials=2, folds=cut)
    of_folds = [set(train.astype(float).tolist()) for train, _ in cut]
    whole = [set(range(90))]  # the winner is fitted on all search rows; the baseline looks at no column
    assert fitted == of_folds + whole  # once a fold for both settings


@pytest.mark.parametrize("family", ["forest", "extra", "boosting", "lightgbm", "xgboost", "ada", "gradient"])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_trees_grown_once_for_all_lengths_say_what_trees_grown_for_each_say(family: str, task: Any) -> None:
    from sklearn import ensemble

    frame, truth = data(200)
    truth = truth if task == "binary" else frame["a"].to_numpy() + truth
    kind = "Classifier" if task == "binary" else "Regressor"
    make = {"ada": getattr(ensemble, f"AdaBoost{kind}"), "gradient": getattr(ensemble, f"GradientBoosting{kind}")}.get(family)
    name = "max_iter" if family == "boosting" else "n_estimators"
    alone = {n: find(frame, truth, (candidate(family, make, **{name: [n]}),), task=task, trials=1).trials[0].fold_losses for n in (3, 6, 9)}
    together = find(frame, truth, (candidate(family, make, **{name: [3, 6, 9]}),), task=task, trials=3)
    for trial in together.trials:
        assert trial.fold_losses == pytest.approx(alone[trial.params[name]][: len(trial.fold_losses)], abs=1e-9)


def test_a_distribution_of_scipy_is_searched_by_its_quantiles() -> None:
    from scipy import stats

    frame, truth = data(100)
    found = find(frame, truth, (candidate("logistic", C=stats.loguniform(0.01, 10)), candidate("forest", n_estimators=stats.randint(2, 6))), trials=10)
    assert all(0.01 <= t.params["C"] <= 10 for t in found.trials if t.family == "logistic")
    assert {type(t.params["n_estimators"]) for t in found.trials if t.family == "forest"} == {int}
    assert len({t.params["C"] for t in found.trials if t.family == "logistic"}) > 1


def test_a_search_by_the_auc_finds_the_setting_with_the_largest() -> None:
    from sklearn.metrics import roc_auc_score

    frame, truth = data()
    found = find(frame, truth, (candidate("logistic", C=[1e-6, 1.0]), candidate("forest", n_estimators=[5])), trials=3, metric="roc_auc")
    assert found.best is not None
    said = [roc_auc_score(truth[rows], output[:, 1]) for rows, output in found.validation]
    assert found.best.loss == pytest.approx(1 - np.mean(said))
    with pytest.raises(DataError, match="cannot go by 'roc_auc'"):
        find(frame, frame["a"].to_numpy(), (candidate("ridge"),), task="regression", trials=1, metric="roc_auc")


def test_halving_looks_at_few_rows_first_and_the_same_number_of_trials_finds_the_same_model() -> None:
    frame, truth = data(6_000)
    wide = tuple(Candidate(f, dict(estimators.WIDE[f].space)) for f in ("logistic", "lightgbm"))
    one, two = (find(frame, truth, wide, trials=8, halve=True) for _ in range(2))
    assert settings_of(one) == settings_of(two)
    assert (one.family, one.params) == (two.family, two.params)
    sizes = [t.rows for t in one.trials]
    assert sizes[0] == sizes[1] == 1333
    assert 0 in sizes
    assert one.best is not None
    assert one.best.rows == 0
    grown = [t for t in one.trials if t.family == "lightgbm"]
    assert all(t.params["n_estimators"] < 1500 for t in grown)


def test_a_budget_that_is_spent_leaves_a_model() -> None:
    frame, truth = data(2_000)
    found = find(frame, truth, (Candidate("logistic", dict(estimators.WIDE["logistic"].space)),), trials=0, budget=1e-6)
    assert found.spent
    assert len(found.trials) >= 1
