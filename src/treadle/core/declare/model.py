"""Declarations of a model: what it predicts from what, what is tried, how rows are split, and which evidence it must show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from treadle.core.declare.data import Dataset, View
from treadle.core.declare.features import Derived
from treadle.core.declare.place import here, length
from treadle.core.errors import ProjectError

Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class Split:
    """How rows no search may see are set aside. `method` 'time' keeps the last `test` span, 'random' a share of the rows (stratified for classes)."""

    method: Literal["time", "random"]
    test: timedelta | float
    folds: int = 3


def by_time(test: str | timedelta, *, folds: int = 3) -> Split:
    """The last `test` of time is the test set; rows whose truth was not known before it starts are not trained on. Folds go forward in time."""
    if folds < 1:
        raise ProjectError(f"folds={folds} leaves nothing to choose by.", where=here(), hint="Use at least 1.")
    return Split("time", length(test), folds)


def at_random(test: float = 0.25, *, folds: int = 5) -> Split:
    """A random share `test` of the rows (seeded; the same share of each class)."""
    if not 0 < test < 1:
        raise ProjectError(f"test={test!r} is not a share of the rows above 0 and below 1.", where=here(), hint="Write for example 0.25.")
    if folds < 2:
        raise ProjectError(f"folds={folds} leaves nothing to choose by.", where=here(), hint="Use at least 2.")
    return Split("random", test, folds)


@dataclass(frozen=True)
class Candidate:
    """One family of models to try.

    `space` maps a parameter to a list of values or a (low, high[, 'log']) range; `make` builds an unfitted estimator.
    """

    family: str
    space: Mapping[str, Any] = field(default_factory=dict)
    make: Callable[..., Any] | None = None


def candidate(family: str, make: Callable[..., Any] | None = None, **space: Any) -> Candidate:
    """A family: 'logistic', 'forest', 'boosting', 'lightgbm', 'ridge', or your own name with `make`.

    Args:
        make: takes the parameters of `space` and returns an unfitted estimator that follows scikit-learn's API.
        space: parameter to a list of values, or to a (low, high) or (low, high, 'log') range.
    """
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


def gate(function: Callable[[Mapping[str, Any]], Any]) -> Gate:
    """Your own condition: gets the evaluation (a mapping), returns True, False or (bool, reason)."""
    return Gate(function.__name__, {}, function)


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
    allow: Mapping[str, str] = field(default_factory=dict)
    trial_resources: Mapping[str, Any] = field(default_factory=dict)
