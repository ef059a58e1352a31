"""Declarations of a model: what it predicts from what, what is tried, how rows are split, and which evidence it must show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from treadle.core.canonical import plain
from treadle.core.declare.data import Dataset, View
from treadle.core.declare.features import Derived
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
class Gate:
    """One condition a version must meet before it may be promoted. `options` are its limits; `function` makes it the project's own."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[[Mapping[str, Any]], Any] | None = None


def enough_rows(at_least: int = 30) -> Gate:
    """The test set has at least this many rows (and, for classes, a tenth as many of the rarest class)."""
    return Gate("enough_rows", {"at_least": at_least})


def signal(alpha: float = 0.01) -> Gate:
    """With shuffled labels a model as good would come about with probability below `alpha` (permutation test on the test rows)."""
    return Gate("signal", {"alpha": alpha})


def beats_baseline(alpha: float = 0.05) -> Gate:
    """Better than the trivial baseline on the same test rows beyond chance (one-sided paired bootstrap over blocks)."""
    return Gate("beats_baseline", {"alpha": alpha})


def beats_champion(alpha: float = 0.05) -> Gate:
    """Better than the model in production on the same test rows beyond chance. Passes when there is none."""
    return Gate("beats_champion", {"alpha": alpha})


def no_worse_than_champion(margin: float = 0.005) -> Gate:
    """Not worse than the model in production by `margin` of the mean row loss or more, beyond chance.

    A one-sided test of non-inferiority on the same test rows, for retraining the same recipe on newer data: asking each time for an
    improvement beyond chance would keep an ageing model until it is clearly bad.
    """
    return Gate("no_worse_than_champion", {"margin": margin})


def certain(width: float = 0.25) -> Gate:
    """The 95 % intervals of the primary metric and the accuracy are no wider than `width` (for regression: plus or minus that part of the metric)."""
    return Gate("certain", {"width": width})


def calibrated(at_most: float = 0.05) -> Gate:
    """Expected calibration error on the test rows is at most this (binary models; others pass)."""
    return Gate("calibrated", {"at_most": at_most})


def every_slice(at_least: float, *, rows: int = 200) -> Gate:
    """On every declared slice of at least `rows` test rows, the better end of the metric's 95 % interval reaches `at_least`.

    For metrics where less is better (log loss of several classes, mean absolute error) it must not be above it.
    """
    return Gate("every_slice", {"at_least": at_least, "rows": rows})


def no_leakage(*, known: str | Iterable[str] = (), ignore: str | Iterable[str] = ()) -> Gate:
    """Nothing suggests that news of the answer reached the model: see `training/leakage.py` for what is looked at.

    Args:
        known: features that are known before the prediction although they look too good; you answer for that.
        ignore: kinds of suspicion that do not count here: 'target', 'not-yet-known', 'overlap', 'near-duplicates', 'group', 'time', 'preprocessing'.
    """
    return Gate("no_leakage", {"known": _list(known), "ignore": _list(ignore)})


def better_than_luck(alpha: float = 0.05) -> Gate:
    """The chosen setting beats the baseline also when the choice is repeated and judged on rows it was not made on (see `training/selection.py`)."""
    return Gate("better_than_luck", {"alpha": alpha})


def covered(within: float = 0.05) -> Gate:
    """The intervals or sets that are served with an answer hold the truth as often as they promise, less `within` (measured on the test rows)."""
    return Gate("covered", {"within": within})


def no_weak_slice(excess: float = 0.1, *, rows: int = 100) -> Gate:
    """No part of the test rows of at least `rows` rows, found automatically, is worse than the model says by more than `excess`, beyond chance.

    For classes `excess` is log loss above what the model's own probabilities expect; for numbers it is a part of the mean absolute error.
    """
    return Gate("no_weak_slice", {"excess": excess, "rows": rows})


def robust(noise: float = 0.25, missing: float | None = None) -> Gate:
    """Noise of a tenth of each number's spread raises the loss by at most this part of it; likewise a fifth of all values missing, if given."""
    return Gate("robust", {"noise": noise, "missing": missing})


def invariant(at_most: float = 0.01) -> Gate:
    """At most this share of the answers changes under what the model declares in `invariances=` must not matter."""
    return Gate("invariant", {"at_most": at_most})


def fair(*, ratio: float | None = 0.8, odds: float | None = None, gap: float | None = None, pairs: bool = True) -> Gate:
    """No group of the `protected=` attributes is beyond doubt treated worse than the limits allow (the better end of the 95 % interval decides).

    Args:
        ratio: binary models: the lowest selection rate over the highest is at least this (the four-fifths rule); None does not ask.
        odds: binary models: true and false positive rates differ between groups by at most this (equalised odds); None does not ask.
        gap: other models: accuracy differs by at most this between groups, or the mean absolute error by this part of it; None does not ask.
        pairs: ask it of pairs of attributes too.
    """
    return Gate("fair", {"ratio": ratio, "odds": odds, "gap": gap, "pairs": pairs})


def explained(stable: float = 0.5) -> Gate:
    """Every answer can be taken apart into contributions of the features that add up to it, and the order of importance is stable to at least
    this.
    """
    return Gate("explained", {"stable": stable})


def fast(milliseconds: float = 20, *, explanation: float = 100) -> Gate:
    """One row is answered, and its contributions computed, within so many milliseconds (99th percentile, measured when the package was made)."""
    return Gate("fast", {"milliseconds": milliseconds, "explanation": explanation})


def small(megabytes: float = 50) -> Gate:
    """The package is no larger."""
    return Gate("small", {"megabytes": megabytes})


def licensed(*, refuse: str | Iterable[str] = ("GPL", "AGPL", "SSPL", "unknown")) -> Gate:
    """No third-party package that the version was made or is served with has a licence of these names ('unknown': says none)."""
    return Gate("licensed", {"refuse": _list(refuse)})


def signature() -> Gate:
    """Every field a caller may send is declared in the data set's contract, with its type, so that a wrong request is refused and not answered."""
    return Gate("signature", {})


def carded() -> Gate:
    """The model card can be filled where it must be: owner, intended use, and metrics with intervals on declared slices."""
    return Gate("carded", {})


def approved(people: int = 1) -> Gate:
    """So many people, other than the one whose run made the version, have approved it before it answers: `treadle approve MODEL.vN`."""
    return Gate("approved", {"people": people})


def _list(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def gate(function: Callable[[Mapping[str, Any]], Any]) -> Gate:
    """Your own condition: gets the evaluation (a mapping), returns True, False or (bool, reason)."""
    return Gate(function.__name__, {}, function)


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
