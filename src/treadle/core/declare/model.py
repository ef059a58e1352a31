"""Declarations of a model: what it predicts from what, what is tried, and how rows are split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from treadle.core.canonical import plain
from treadle.core.declare.data import Dataset, View
from treadle.core.declare.features import Derived
from treadle.core.declare.gates import Gate
from treadle.core.declare.place import here, length
from treadle.core.errors import ProjectError

Task = Literal["binary", "multiclass", "regression", "ranking", "forecast", "quantile"]
METRICS = ("roc_auc", "brier", "accuracy", "log_loss", "mae", "rmse")
"""What a search can go by, beside the mean loss of a row."""


@dataclass(frozen=True)
class Kind:
    """A task that is more than its target: 'ranking', 'forecast' or 'anomaly', with what it needs to be judged. `base` is what is served."""

    name: Literal["ranking", "forecast", "anomaly"]
    base: Task
    group: str = ""
    at: int = 10
    naive: str = ""
    quantile: float = 0.0
    contamination: float = 0.1


def ranking(group: str, *, at: int = 10) -> Kind:
    """A task for `project.model(task=...)`: order the rows of each `group` (a query, a user) by the target, their relevance (0 and up).

    Judged by NDCG of the first `at`; a group is never in two parts of a split.
    """
    if not isinstance(at, int) or at < 1:
        raise ProjectError(f"at={at!r} is no place in a ranking.", where=here(), hint="Use a whole number from 1 on.")
    return Kind("ranking", "regression", group=group, at=at)


def forecast(naive: str, *, quantile: float = 0.0) -> Kind:
    """A task for `project.model(task=...)`: a number in a later time.

    Args:
        naive: the input that holds the seasonal naive forecast, the target one season ago; it is the baseline, and errors are scaled by its own.
        quantile: forecast this quantile by the pinball loss, instead of the middle by the absolute error.
    """
    if not 0 <= quantile < 1:
        raise ProjectError(f"quantile={quantile!r} is not between 0 and 1.", where=here(), hint="For example 0.9.")
    return Kind("forecast", "regression", naive=naive, quantile=quantile)


def anomaly(contamination: float = 0.01) -> Kind:
    """A task for `project.model(task=...)`: find the rows that are unlike the others. The target, where it is known, only judges and calibrates.

    Args:
        contamination: the share of rows that is thought to be anomalous.
    """
    if not 0 < contamination <= 0.5:
        raise ProjectError(f"contamination={contamination!r} is not a share above 0 and up to 0.5.", where=here(), hint="For example 0.01.")
    return Kind("anomaly", "binary", contamination=contamination)


@dataclass(frozen=True)
class Split:
    """How rows no search may see are set aside.

    `method` 'time' keeps the last `test` span, 'random' a share of the rows (stratified for classes), 'group' a share of the groups of column `by`.
    `gap` is left out between what is learned from and what is judged. `nested`: how many times the whole search is repeated on parts of the search
    rows, to see what such a search is worth.
    """

    method: Literal["time", "random", "group"]
    test: timedelta | float
    folds: int = 3
    gap: timedelta = timedelta(0)
    by: str = ""
    nested: int = 0


def by_time(test: str | timedelta, *, folds: int = 3, gap: str | timedelta = timedelta(0), nested: int = 0) -> Split:
    """The last `test` of time is the test set; rows whose truth was not known before it starts are not trained on. Folds go forward in time.

    Args:
        gap: time between the last row that is learned from and the first that is judged, in each fold and before the test.
        nested: repeat the whole search on this many stretches of time and judge each winner on what follows.
    """
    if folds < 1:
        raise ProjectError(f"folds={folds} leaves nothing to choose by.", where=here(), hint="Use at least 1.")
    return Split("time", length(test), folds, length(gap), nested=_nested(nested))


def at_random(test: float = 0.25, *, folds: int = 5, nested: int = 0) -> Split:
    """A random share `test` of the rows (seeded; the same share of each class). `nested`: repeat the whole search in so many outer folds."""
    return Split("random", _share(test, folds), folds, nested=_nested(nested))


def by_group(column: str, test: float = 0.25, *, folds: int = 5, nested: int = 0) -> Split:
    """A random share of the values of a column, each with all its rows: a customer or a machine is learned from or judged on, never both."""
    return Split("group", _share(test, folds), folds, by=column, nested=_nested(nested))


def _share(test: float, folds: int) -> float:
    if not 0 < test < 1:
        raise ProjectError(f"test={test!r} is not a share of the rows above 0 and below 1.", where=here(), hint="Write for example 0.25.")
    if folds < 2:
        raise ProjectError(f"folds={folds} leaves nothing to choose by.", where=here(), hint="Use at least 2.")
    return test


def _nested(count: int) -> int:
    if not isinstance(count, int) or count < 0 or count == 1:
        raise ProjectError(f"nested={count!r} is no number of outer folds.", where=here(), hint="Use at least 2, or 0 for none.")
    return count


@dataclass(frozen=True)
class Candidate:
    """One family of models to try.

    `space` maps a parameter to a list of values, a (low, high[, 'log']) range or a frozen distribution of SciPy; `make` builds an unfitted estimator.
    """

    family: str
    space: Mapping[str, Any] = field(default_factory=dict)
    make: Callable[..., Any] | None = None

    def said(self) -> list[Any]:
        """Family and space as JSON values, and the estimator it is like."""
        return [self.family, {k: _said(v) for k, v in self.space.items()}, *([repr(self.make)] if isinstance(self.make, Like) else [])]


def _said(space: Any) -> Any:
    if hasattr(space, "ppf") and hasattr(space, "dist"):  # a frozen distribution of SciPy
        return [getattr(space.dist, "name", type(space.dist).__name__), plain(list(space.args)), plain(dict(space.kwds))]
    if isinstance(space, list | tuple):
        return [_said(v) for v in space]
    try:
        return plain(space)
    except TypeError:
        return repr(space)  # an estimator inside a pipeline, for example


class Like:
    """Makes estimators like a given one, with other parameters: as `sklearn.base.clone` and `set_params` do, names with '__' reach inside."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def __call__(self, **params: Any) -> Any:
        return deepcopy(self.estimator).set_params(**params)

    def __repr__(self) -> str:
        return repr(self.estimator)


def candidate(family: str, make: Any = None, **space: Any) -> Candidate:
    """A family: 'logistic', 'forest', 'extra', 'boosting', 'lightgbm', 'xgboost', 'ridge' and so on, or your own name with `make`.

    Args:
        make: an unfitted estimator or pipeline that follows scikit-learn's API, its class, or a function of the parameters of `space` that makes one.
        space: parameter to a list of values, a (low, high) or (low, high, 'log') range, or a frozen distribution of scipy.stats.
    """
    if make is not None and not callable(make):
        if not hasattr(make, "set_params"):
            raise ProjectError(f"Candidate {family!r} has make={make!r}.", where=here(), hint="Give an estimator, its class, or a function.")
        make = Like(make)
    for name, values in space.items():
        if isinstance(values, list | tuple) and not values:
            raise ProjectError(f"Candidate {family!r} has no value for {name!r}.", where=here(), hint="List at least one.")
        a_range = isinstance(values, tuple) and (len(values) == 2 or (len(values) == 3 and values[2] == "log"))
        if a_range and all(isinstance(v, int | float) for v in values[:2]) and values[0] > values[1]:
            raise ProjectError(f"Candidate {family!r} has the range {name}={values!r}, which ends before it begins.", where=here())
    return Candidate(family, space, make)


@dataclass(frozen=True)
class Protected:
    """An attribute over which a model must be fair. `cuts` part a number into bands. It need not be a feature."""

    column: str
    cuts: tuple[float, ...] = ()


def bands(column: str, *cuts: float) -> Protected:
    """A protected attribute that is a number, in bands: `tr.bands("age", 25, 40, 65)`."""
    if not cuts or list(cuts) != sorted(set(cuts)):
        raise ProjectError(f"The bands of {column!r} are cut at {cuts!r}.", where=here(), hint="Give the cuts in order, for example 25, 40, 65.")
    return Protected(column, tuple(float(c) for c in cuts))


@dataclass(frozen=True)
class Model:
    """What is predicted, from what, and on which evidence it may go to production. See `Project.model`."""

    name: str
    rows: Dataset
    target: str
    inputs: tuple[str | Derived, ...]
    views: tuple[View, ...] = ()
    task: Task | None = None
    positive: Any = None
    candidates: tuple[Candidate, ...] = ()
    split: Split = field(default_factory=at_random)
    slices: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    trials: int = 12
    seed: int = 0
    parallel_trials: int = 1
    description: str = ""
    place: str = field(default="", compare=False)
    kind: Kind | None = None
    metric: str = ""
    budget: timedelta | None = None
    trial_limit: timedelta | None = None
    protected: tuple[Protected, ...] = ()
    invariances: tuple[Any, ...] = ()
    intended_use: str = ""
    excluded_use: str = ""
    allow: Mapping[str, str] = field(default_factory=dict)
    trial_resources: Mapping[str, Any] = field(default_factory=dict)

    @property
    def beside(self) -> tuple[str, ...]:
        """Columns that rows carry beside their features: the slices, and what rows are grouped by."""
        groups = (self.split.by, self.kind.group if self.kind else "")
        people = (*(p.column for p in self.protected), self.rows.subject)
        return tuple(dict.fromkeys([*self.slices, *(g for g in (*groups, *people) if g)]))
