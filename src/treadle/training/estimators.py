"""The model families that are tried, cheapest first, and the settings searched in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from treadle.core.declare.model import Candidate, Kind, Model, Task
from treadle.core.errors import ProjectError
from treadle.training.encoding import make_pipeline

BASELINE = "baseline"
SMALL = 20_000  # rows; beyond this forests cost more than they bring
MANY = 100  # columns; beyond this a forest whose splits look at half of them takes minutes


@dataclass(frozen=True)
class Family:
    """A family of models: its first setting to try, and the space around it. A space is a list of values or (low, high[, 'log']).

    Args:
        grows: the parameter that says how many trees there are at most, of families that find out themselves when more trees stop to help;
            the search then puts the number found in its place.
    """

    name: str
    linear: bool
    first: Mapping[str, Any]
    space: Mapping[str, Any]
    grows: str = ""


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
    "extra": Family(
        "extra", False, {"n_estimators": 100, "min_samples_leaf": 2, "max_features": 0.5},
        {"n_estimators": [100, 200], "min_samples_leaf": [1, 2, 5, 10, 20], "max_features": ["sqrt", 0.5, 1.0]},
    ),
    "xgboost": Family(
        "xgboost", False, {"n_estimators": 100, "learning_rate": 0.06, "max_leaves": 15, "min_child_weight": 5.0, "reg_lambda": 1.0},
        {"n_estimators": [60, 100, 150, 200], "learning_rate": (0.03, 0.2, "log"), "max_leaves": [7, 15, 31, 63],
         "min_child_weight": [1.0, 5.0, 20.0],
         "reg_lambda": [0.0, 1.0, 10.0]},
    ),
    "lambdarank": Family(
        "lambdarank", False, {"n_estimators": 100, "learning_rate": 0.06, "num_leaves": 15, "min_child_samples": 20},
        {"n_estimators": [60, 100, 150, 200], "learning_rate": (0.03, 0.2, "log"), "num_leaves": [7, 15, 31, 63],
         "min_child_samples": [10, 20, 50, 100]},
    ),
    "isolation": Family(
        "isolation", False, {"n_estimators": 100, "max_samples": 256, "max_features": 1.0},
        {"n_estimators": [100, 200], "max_samples": [64, 256, 1024], "max_features": [0.5, 0.75, 1.0]},
    ),
    "neighbours": Family("neighbours", True, {"n_neighbors": 20}, {"n_neighbors": [5, 10, 20, 35, 50]}),
    "distance": Family("distance", True, {"shrinkage": 0.1}, {"shrinkage": [0.01, 0.1, 0.3, 0.6]}),
    "online": Family(
        "online", True, {"rate": 0.01, "l2": 0.0, "intercept_rate": 0.01},
        {"rate": (0.0005, 0.05, "log"), "l2": [0.0, 1e-5, 1e-4], "intercept_rate": (0.001, 0.1, "log")},
    ),
}  # fmt: skip
DETECTORS = ("isolation", "neighbours", "distance")

# What a search with a budget looks through: wider, and boosted trees find out themselves how many there should be.
_LGBM = {
    "n_estimators": 1500, "learning_rate": (0.02, 0.3, "log"), "num_leaves": (4, 255, "log"), "min_child_samples": (2, 200, "log"),
    "colsample_bytree": (0.4, 1.0), "subsample": (0.5, 1.0), "subsample_freq": 1, "reg_lambda": (0.001, 30.0, "log"),
}  # fmt: skip
WIDE = {
    "logistic": Family("logistic", True, {"C": 1.0}, {"C": (0.0001, 100.0, "log")}),
    "ridge": Family("ridge", True, {"alpha": 1.0}, {"alpha": (0.001, 10000.0, "log")}),
    "lightgbm": Family(
        "lightgbm", False,
        {"n_estimators": 1500, "learning_rate": 0.08, "num_leaves": 31, "min_child_samples": 20, "colsample_bytree": 0.8, "subsample": 0.9,
         "subsample_freq": 1, "reg_lambda": 1.0},
        _LGBM, grows="n_estimators",
    ),
    "xgboost": Family(
        "xgboost", False,
        {"n_estimators": 1500, "learning_rate": 0.08, "max_leaves": 31, "min_child_weight": 5.0, "colsample_bytree": 0.8, "subsample": 0.9,
         "reg_lambda": 1.0},
        {"n_estimators": 1500, "learning_rate": (0.02, 0.3, "log"), "max_leaves": (4, 255, "log"), "min_child_weight": (0.1, 100.0, "log"),
         "colsample_bytree": (0.4, 1.0), "subsample": (0.5, 1.0), "reg_lambda": (0.001, 30.0, "log")},
        grows="n_estimators",
    ),
    "extra": Family(
        "extra", False, {"n_estimators": 150, "min_samples_leaf": 2, "max_features": 0.5},
        {"n_estimators": 150, "min_samples_leaf": (1, 30, "log"), "max_features": (0.1, 1.0)},
    ),
    "forest": Family(
        "forest", False, {"n_estimators": 150, "min_samples_leaf": 2, "max_features": 0.3},
        {"n_estimators": 150, "min_samples_leaf": (1, 30, "log"), "max_features": (0.1, 1.0)},
    ),
    "lambdarank": Family(
        "lambdarank", False, FAMILIES["lambdarank"].first, {**{k: v for k, v in _LGBM.items() if k != "subsample_freq"}, "n_estimators": (50, 400)},
    ),
}  # fmt: skip


def candidates(model: Model, task: Task, rows: int, columns: int = 0) -> tuple[Candidate, ...]:
    """What to try: the declared families, or for 'auto' those that suit the task and the numbers of rows and columns, cheapest first.

    With a budget the families' wide spaces are searched.
    """
    where = f"model {model.name!r} ({model.place})"
    if model.candidates:
        for declared in model.candidates:
            if declared.make is None and declared.family not in FAMILIES:
                raise ProjectError(
                    f"There is no family {declared.family!r}.", where=where,
                    hint=f"Use one of {', '.join(FAMILIES)}, or pass make=, a function that returns an estimator.",
                )  # fmt: skip
            _needs(declared.family if declared.make is None else "", where)
        return model.candidates
    kind = model.kind.name if model.kind else ""
    names = auto(task, rows, kind, wide=model.budget is not None)
    if model.budget is None:
        many = {"max_features": ["sqrt"]} if columns > MANY else {}
        return tuple(Candidate(n, {**FAMILIES[n].space, **many} if many and n == "forest" else {}) for n in names)
    return tuple(Candidate(n, dict(WIDE[n].space) if n in WIDE else {}) for n in names)


def auto(task: Task, rows: int, kind: str = "", *, wide: bool = False) -> list[str]:
    """The families that suit a task and a number of rows, cheapest first."""
    linear = "ridge" if task == "regression" else "logistic"
    if kind == "anomaly":
        return list(DETECTORS)
    if kind == "ranking":
        return ["ridge", "lightgbm", "lambdarank"]
    if not wide:
        return [linear, "boosting", "lightgbm"] if rows > SMALL else [linear, "forest", "boosting", "lightgbm"]
    return [linear, "lightgbm", *(["xgboost"] if _there("xgboost") else []), "extra", *(["forest"] if rows <= SMALL else [])]


def _there(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _needs(family: str, where: str) -> None:
    if family == "xgboost" and not _there("xgboost"):
        raise ProjectError("The family 'xgboost' needs the package xgboost-cpu.", where=where, hint="Install it: pip install 'treadle[xgboost]'")
    if family == "online" and not _there("river"):
        raise ProjectError("The family 'online' needs the package river.", where=where, hint="Install it: pip install 'treadle[online]'")


def pipeline(
    candidate: Candidate, params: Mapping[str, Any], task: Task, numbers: list[str], categories: list[str], seed: int, threads: int,
    kind: Kind | None = None,
) -> Any:  # fmt: skip
    """An unfitted pipeline for one setting of one family; the same arguments fit the same model."""
    family = FAMILIES.get(candidate.family)
    if candidate.make is not None:
        estimator = candidate.make(**params)
        _seed(estimator, seed)
        linear = not hasattr(estimator, "feature_importances_") and not _tree(estimator)
        if kind is not None and kind.name == "anomaly" and hasattr(estimator, "score_samples"):
            estimator = _detector(estimator, kind)
        return make_pipeline(estimator, numbers, categories, linear=linear, task=task)
    assert family is not None
    estimator = _estimator(candidate.family, dict(params), task, seed, threads, kind)
    return make_pipeline(estimator, numbers, categories, linear=family.linear, task=task)


def baseline(task: Task, numbers: list[str], categories: list[str], kind: Kind | None = None) -> Any:
    """The trivial model every other must beat: the share of each class, the mean, the same for every row of a ranking, or the seasonal naive."""
    from sklearn.dummy import DummyClassifier, DummyRegressor

    if kind is not None and kind.name == "forecast":
        from treadle.training.forecasts import Naive

        return make_pipeline(Naive(), [kind.naive], [], linear=False, task=task)
    estimator = DummyRegressor() if task == "regression" else DummyClassifier(strategy="prior")
    # It looks at no column. One is enough to count the rows; encoding all of them took longer than fitting the model that is compared with it.
    return make_pipeline(estimator, numbers[:1], [] if numbers else categories[:1], linear=False, task=task)


def _seed(estimator: Any, seed: int) -> None:
    """The seed to an estimator and to each that it holds, as a pipeline does, where none is set."""
    params: dict[str, Any] = getattr(estimator, "get_params", dict)()
    names = [n for n, value in params.items() if n.split("__")[-1] in ("random_state", "random_seed") and (value is None or "__" not in n)]
    if names:
        estimator.set_params(**dict.fromkeys(names, seed))


def _detector(estimator: Any, kind: Kind) -> Any:
    from treadle.training.detectors import Detector

    return Detector(estimator, kind.contamination)


def _tree(estimator: Any) -> bool:
    return any(word in type(estimator).__name__ for word in ("Tree", "Forest", "Boost", "LGBM", "XGB"))


def _estimator(family: str, params: dict[str, Any], task: Task, seed: int, threads: int, kind: Kind | None) -> Any:
    regression = task == "regression"
    quantile = kind.quantile if kind is not None else 0.0
    if family in DETECTORS:
        from treadle.training.detectors import made

        return _detector(made(family, params, seed), kind or Kind("anomaly", "binary"))
    if family == "logistic":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=500, random_state=seed, **params)
    if family == "online":
        from treadle.training.online import OnlineLogisticRegression, OnlineRidge

        return (OnlineRidge if regression else OnlineLogisticRegression)(random_state=seed, **params)
    if family == "ridge":
        from sklearn.linear_model import Ridge

        return Ridge(random_state=seed, **params)
    if family == "forest":
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        return (RandomForestRegressor if regression else RandomForestClassifier)(random_state=seed, n_jobs=threads, **params)
    if family == "extra":
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        return (ExtraTreesRegressor if regression else ExtraTreesClassifier)(random_state=seed, n_jobs=threads, **params)
    if family == "boosting":
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        if quantile:
            params = {"loss": "quantile", "quantile": quantile, **params}
        return (HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier)(random_state=seed, early_stopping=False, **params)
    if family == "xgboost":
        from xgboost import XGBClassifier, XGBRegressor

        usual = {"tree_method": "hist", "grow_policy": "lossguide", "max_depth": 0, "verbosity": 0}
        if quantile:
            usual |= {"objective": "reg:quantileerror", "quantile_alpha": quantile}
        return (XGBRegressor if regression else XGBClassifier)(random_state=seed, n_jobs=threads, **{**usual, **params})
    # deterministic + force_row_wise: without them the same seed gives another model when the number of threads changes.
    usual = {"random_state": seed, "n_jobs": threads, "verbosity": -1, "deterministic": True, "force_row_wise": True}
    if family == "lambdarank":
        from lightgbm import LGBMRanker

        return LGBMRanker(**{**usual, **params})
    from lightgbm import LGBMClassifier, LGBMRegressor

    if quantile:
        usual |= {"objective": "quantile", "alpha": quantile}
    return (LGBMRegressor if regression else LGBMClassifier)(**{**usual, **params})
