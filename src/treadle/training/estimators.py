"""The model families that are tried, cheapest first, and the settings searched in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from treadle.core.declare.model import Candidate, Model, Task
from treadle.core.errors import ProjectError
from treadle.training.encoding import make_pipeline

BASELINE = "baseline"
SMALL = 20_000  # rows; beyond this forests cost more than they bring


@dataclass(frozen=True)
class Family:
    """A family of models: its first setting to try, and the space around it. A space is a list of values or (low, high[, 'log'])."""

    name: str
    linear: bool
    first: Mapping[str, Any]
    space: Mapping[str, Any]


FAMILIES = {
    "logistic": Family("logistic", True, {"C": 1.0}, {"C": (0.001, 100.0, "log")}),
    "ridge": Family("ridge", True, {"alpha": 1.0}, {"alpha": (0.001, 1000.0, "log")}),
    "forest": Family(
        "forest", False, {"n_estimators": 100, "min_samples_leaf": 5, "max_features": "sqrt"},
        {"n_estimators": [100, 200], "min_samples_leaf": [1, 2, 5, 10, 20], "max_features": ["sqrt", 0.5, 1.0]},
    ),
    "boosting": Family(
        "boosting", False, {"max_iter": 100, "learning_rate": 0.06, "max_leaf_nodes": 15, "min_samples_leaf": 20, "l2_regularization": 1.0},
        {"max_iter": [60, 100, 150, 200], "learning_rate": (0.03, 0.2, "log"), "max_leaf_nodes": [7, 15, 31, 63],
         "min_samples_leaf": [10, 20, 50, 100],
         "l2_regularization": [0.0, 1.0, 10.0]},
    ),
    "lightgbm": Family(
        "lightgbm", False, {"n_estimators": 100, "learning_rate": 0.06, "num_leaves": 15, "min_child_samples": 20, "reg_lambda": 1.0},
        {"n_estimators": [60, 100, 150, 200], "learning_rate": (0.03, 0.2, "log"), "num_leaves": [7, 15, 31, 63],
         "min_child_samples": [10, 20, 50, 100],
         "reg_lambda": [0.0, 1.0, 10.0]},
    ),
}  # fmt: skip


def candidates(model: Model, task: Task, rows: int) -> tuple[Candidate, ...]:
    """What to try: the declared families, or for 'auto' those that suit the task and the number of rows, cheapest first."""
    if model.candidates:
        for declared in model.candidates:
            if declared.make is None and declared.family not in FAMILIES:
                raise ProjectError(
                    f"There is no family {declared.family!r}.", where=f"model {model.name!r} ({model.place})",
                    hint=f"Use one of {', '.join(FAMILIES)}, or pass make=, a function that returns an estimator.",
                )  # fmt: skip
        return model.candidates
    linear = "ridge" if task == "regression" else "logistic"
    names = [linear, "boosting", "lightgbm"] if rows > SMALL else [linear, "forest", "boosting", "lightgbm"]
    return tuple(Candidate(n) for n in names)


def pipeline(candidate: Candidate, params: Mapping[str, Any], task: Task, numbers: list[str], categories: list[str], seed: int, threads: int) -> Any:
    """An unfitted pipeline for one setting of one family; the same arguments fit the same model."""
    family = FAMILIES.get(candidate.family)
    if candidate.make is not None:
        estimator = candidate.make(**params)
        if "random_state" in getattr(estimator, "get_params", dict)():
            estimator.set_params(random_state=seed)
        return make_pipeline(
            estimator, numbers, categories, linear=not hasattr(estimator, "feature_importances_") and not _tree(estimator), task=task
        )
    assert family is not None
    return make_pipeline(_estimator(candidate.family, dict(params), task, seed, threads), numbers, categories, linear=family.linear, task=task)


def baseline(task: Task, numbers: list[str], categories: list[str]) -> Any:
    """The trivial model every other must beat: the share of each class, or the mean."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    estimator = DummyRegressor() if task == "regression" else DummyClassifier(strategy="prior")
    return make_pipeline(estimator, numbers, categories, linear=False, task=task)


def _tree(estimator: Any) -> bool:
    return any(word in type(estimator).__name__ for word in ("Tree", "Forest", "Boost", "LGBM", "XGB"))


def _estimator(family: str, params: dict[str, Any], task: Task, seed: int, threads: int) -> Any:
    regression = task == "regression"
    if family == "logistic":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=500, random_state=seed, **params)
    if family == "ridge":
        from sklearn.linear_model import Ridge

        return Ridge(random_state=seed, **params)
    if family == "forest":
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        return (RandomForestRegressor if regression else RandomForestClassifier)(random_state=seed, n_jobs=threads, **params)
    if family == "boosting":
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        return (HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier)(random_state=seed, early_stopping=False, **params)
    from lightgbm import LGBMClassifier, LGBMRegressor

    # deterministic + force_row_wise: without them the same seed gives another model when the number of threads changes.
    return (LGBMRegressor if regression else LGBMClassifier)(
        random_state=seed, n_jobs=threads, verbosity=-1, deterministic=True, force_row_wise=True, **params
    )
