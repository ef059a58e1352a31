"""The levels a service and its ages must keep: declared limits that need no calibration, since a person stated them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from treadle.core.clock import span
from treadle.core.declare.place import here
from treadle.core.errors import ProjectError, UsageError


@dataclass(frozen=True)
class Levels:
    """Limits; None where none is stated. See `levels`."""

    p99: timedelta | None = None
    errors: float | None = None
    shed: float | None = None
    model_age: timedelta | None = None
    quiet: timedelta | None = None
    truth_age: timedelta | None = None


def levels(
    *, p99: str | timedelta | None = None, errors: str | float | None = None, shed: str | float | None = None,
    model_age: str | timedelta | None = None, quiet: str | timedelta | None = None, truth_age: str | timedelta | None = None,
) -> Levels:  # fmt: skip
    """Declare what the endpoint must keep, and how old things may grow: `project.watch(model, levels=tr.levels(p99="50ms", errors="1%"))`.

    Args:
        p99: the time within which 99 of 100 requests are answered.
        errors: the share of requests that may fail (HTTP 5xx).
        shed: the share of requests that may be told to come back later, because too many came: saturation.
        model_age: how old the newest row that the champion learned from may be.
        quiet: how long no prediction may be asked for.
        truth_age: how old the newest prediction whose outcome is known may be.
    """
    return Levels(
        _span("p99", p99), _share("errors", errors), _share("shed", shed), _span("model_age", model_age), _span("quiet", quiet),
        _span("truth_age", truth_age),
    )  # fmt: skip


def _span(name: str, value: str | timedelta | None) -> timedelta | None:
    if value is None:
        return None
    try:
        length = span(value)
    except UsageError:
        length = timedelta(0)
    if length <= timedelta(0):
        example = "'50ms'" if name == "p99" else "'30d'"
        raise ProjectError(f"{name}={value!r} is not a length of time above zero.", where=here(), hint=f"Write for example {example}.")
    return length


def _share(name: str, value: str | float | None) -> float | None:
    if value is None:
        return None
    try:
        number = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value)
    except ValueError:
        number = -1.0
    if not 0 < number < 1:
        raise ProjectError(f"{name}={value!r} is not a share above zero.", where=here(), hint="Write for example '1%' or 0.01.")
    return number
