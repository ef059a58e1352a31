"""What a family's settings are taken from: lists, ranges and SciPy's frozen distributions, as Optuna's suggestions.

A distribution is searched by its quantiles: Optuna proposes a number between 0 and 1, and the setting is the value below which that share of the
distribution lies. So any frozen distribution works, and a wide one is searched where it has its weight.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from treadle.core.canonical import plain
from treadle.core.declare.model import Candidate
from treadle.training import estimators

_EDGE = 1e-6  # quantiles 0 and 1 of many distributions are infinite


def space_of(candidate: Candidate) -> Mapping[str, Any]:
    """The declared space, or the family's own."""
    if candidate.space or candidate.make is not None:
        return candidate.space
    return estimators.FAMILIES[candidate.family].space


def first_of(candidate: Candidate) -> dict[str, Any]:
    """The setting to begin with; empty where none is known to be usual."""
    if candidate.space or candidate.make is not None:
        return {}
    return dict(estimators.FAMILIES[candidate.family].first)


def suggest(trial: Any, candidate: Candidate) -> dict[str, Any]:
    """A setting of the candidate, proposed by an Optuna trial."""
    params = {}
    for name, space in space_of(candidate).items():
        key = f"{candidate.family}.{name}"
        if is_range(space):
            low, high, log = space[0], space[1], len(space) == 3 and space[2] == "log"
            integer = isinstance(low, int) and isinstance(high, int)
            params[name] = trial.suggest_int(key, low, high, log=log) if integer else trial.suggest_float(key, low, high, log=log)
        elif is_distribution(space):
            params[name] = plain(space.ppf(trial.suggest_float(key, _EDGE, 1 - _EDGE)))
            if _whole(space):
                params[name] = int(params[name])
        elif isinstance(space, list | tuple):
            values = list(space)
            simple = all(isinstance(v, str | int | float | bool | None) for v in values)
            chosen = trial.suggest_categorical(key, values if simple else list(range(len(values))))
            params[name] = chosen if simple else values[chosen]
        else:
            params[name] = space
    return params


def is_range(space: Any) -> bool:
    """(low, high) or (low, high, 'log'); any other tuple is a list of values."""
    return (
        isinstance(space, tuple) and (len(space) == 2 or (len(space) == 3 and space[2] == "log"))
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in space[:2])
    )  # fmt: skip


def is_distribution(space: Any) -> bool:
    """Whether it is a frozen distribution of SciPy, or something that has quantiles as one has."""
    return hasattr(space, "ppf") and hasattr(space, "rvs")


def _whole(space: Any) -> bool:
    return hasattr(getattr(space, "dist", None), "pmf")


def count(candidates: tuple[Candidate, ...]) -> int | None:
    """How many settings there are in all, if they can be counted."""
    total = 0
    for candidate in candidates:
        size = 1
        for space in space_of(candidate).values():
            if is_range(space) or is_distribution(space):
                return None
            size *= len(space) if isinstance(space, list | tuple) else 1
        total += size
    return total


def every(candidate: Candidate) -> Iterator[dict[str, Any]]:
    """All settings of a candidate that has lists only, the first parameter changing slowest."""
    space = space_of(candidate)
    lists = [list(v) if isinstance(v, list | tuple) else [v] for v in space.values()]
    for values in itertools.product(*lists):
        yield dict(zip(space, values))
