"""Declarations of gates: the evidence a version of a model must show. What each asks is in `governance/gates.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from treadle.core.clock import span


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


def approved(people: int = 1, lasts: str | timedelta | None = None) -> Gate:
    """So many people have approved the version before it answers: `treadle approve MODEL.vN`. Who made it, started its run or asked does not count.

    Args:
        lasts: how long a yes counts for a version that does not answer yet, such as '30d'; without an end if None.
    """
    return Gate("approved", {"people": people} | ({} if lasts is None else {"lasts": span(lasts).total_seconds()}))


def _list(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def gate(function: Callable[[Mapping[str, Any]], Any]) -> Gate:
    """Your own condition: gets the evaluation (a mapping), returns True, False or (bool, reason)."""
    return Gate(function.__name__, {}, function)
