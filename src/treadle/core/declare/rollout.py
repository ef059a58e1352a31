"""Declarations of how a version takes over, and what throws it out again: limits, an A/B test."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from treadle.core.clock import span
from treadle.core.declare.place import here
from treadle.core.errors import ProjectError, UsageError

ALARMS = ("quality", "calibration", "input", "prediction", "data_quality", "skew")
STAGES = 3
STRATEGIES = ("canary", "blue_green")


@dataclass(frozen=True)
class Rollback:
    """What throws a version out by itself: a challenger in any stage, or a champion, whose place the one before it takes.

    Args:
        errors: the share of calls of the model that may fail: it raises, or answers with values that are not finite or of the wrong shape.
        slow: (seconds, share): the share of calls that may take longer. None: not judged.
        slower: the model may take this many times the time of the other version on the same rows, in the median. None: not judged.
        worse: whether its answers may be worse than those of the other version, on the same rows, once the truth is known. True judges it.
        alarms: kinds of alarm about a champion on trial that throw it out.
        trial: how long the champion before goes on answering beside a new one, unheard.
        false_alarms: the probability that a version as good as its limits is ever thrown out, over all of these together.
    """

    errors: float = 0.01
    slow: tuple[float, float] | None = None
    slower: float | None = None
    worse: bool = True
    alarms: tuple[str, ...] = ("skew",)
    trial: timedelta = timedelta(days=1)
    false_alarms: float = 0.05

    @property
    def tests(self) -> int:
        """How many tests share `false_alarms`. Skew is no chance: a feature that differs does differ."""
        return 1 + (self.slow is not None) + (self.slower is not None) + self.worse + bool(set(self.alarms) - {"skew"})

    @property
    def alpha(self) -> float:
        """The probability of a false alarm of one test in one stage: a version passes the shadow, a split, and its life as champion."""
        return self.false_alarms / self.tests / STAGES


@dataclass(frozen=True)
class ABTest:
    """Two versions answer different callers, and what follows is compared.

    Args:
        metric: 'outcome': the mean outcome of each side, which is higher for the better one (or lower, if `less`); 'loss': how wrong each was.
        share: the challenger's share of the callers.
        effect: the difference one would act on; evidence gathers fastest for differences about this large.
        most: when the test ends without a winner; the champion stays.
        false_alarms: the probability that a difference is found where there is none, however often one looks.
        less: a lower outcome is the better one.
    """

    metric: Literal["outcome", "loss"] = "outcome"
    share: float = 0.5
    effect: float = 0.02
    most: timedelta = timedelta(days=28)
    false_alarms: float = 0.05
    less: bool = False


def rollback_when(
    *, errors: str | float = "1%", slow: str | timedelta | None = None, slow_share: str | float = "1%", slower: str | float | None = None,
    worse: bool = True, alarms: tuple[str, ...] = ("skew",), trial: str | timedelta = "1d", false_alarms: str | float = "5%",
) -> Rollback:  # fmt: skip
    """What throws a version out by itself. See `Rollback`.

    Args:
        slow: a length of time such as '200ms' or '1s', which at most `slow_share` of the calls may exceed.
        slower: for example '3x'.

    >>> rollback_when(slow="200ms", slower="3x").slow
    (0.2, 0.01)
    """
    from treadle.core.declare.operations import share

    unknown = set(alarms) - set(ALARMS)
    if unknown:
        raise ProjectError(f"There is no kind of alarm {sorted(unknown)[0]!r}.", where=here(), hint=f"Use one of: {', '.join(ALARMS)}.")
    times = None if slower is None else _times(slower)
    found = Rollback(
        _between(errors, "errors"), None if slow is None else (_seconds(slow), _between(slow_share, "slow_share")), times, bool(worse), tuple(alarms),
        _span(trial, "trial"), share(false_alarms),
    )  # fmt: skip
    if not 0 < found.false_alarms <= 0.5:
        raise ProjectError(f"false_alarms={false_alarms!r} is not between 0 and 50 %.", where=here(), hint="For example '5%'.")
    return found


def ab_test(
    metric: Literal["outcome", "loss"] = "outcome", *, share: str | float = "50%", effect: float = 0.02, most: str | timedelta = "28d",
    false_alarms: str | float = "5%", less: bool = False,
) -> ABTest:  # fmt: skip
    """Let two versions answer different callers and compare what follows, with a test that may be looked at all the time. See `ABTest`."""
    from treadle.core.declare import operations

    if metric not in ("outcome", "loss"):
        raise ProjectError(f"metric={metric!r} is not known.", where=here(), hint="Use 'outcome' or 'loss'.")
    if not effect > 0:
        raise ProjectError(f"effect={effect!r} is not above 0.", where=here(), hint="Say the difference you would act on, for example 0.02.")
    return ABTest(metric, _between(share, "share"), float(effect), _span(most, "most"), operations.share(false_alarms), less)


def checked_key(text: str) -> str:
    """The sticky key of a split itself: '' (each request on its own), 'field:NAME' or 'header:NAME', else ProjectError."""
    if text and not re.fullmatch(r"field:.{1,200}|header:[A-Za-z0-9-]{1,100}", text):
        raise ProjectError(f"key={text!r} says no field and no header.", where=here(), hint="Write key='field:customer' or key='header:x-user'.")
    return text.lower() if text.startswith("header:") else text


def as_json(rollback: Rollback | None) -> dict[str, Any] | None:
    """What the deployment record holds of the limits, for the endpoint."""
    if rollback is None:
        return None
    return {
        "errors": rollback.errors, "slow": list(rollback.slow) if rollback.slow else None, "slower": rollback.slower, "worse": rollback.worse,
        "alarms": list(rollback.alarms), "trial": rollback.trial.total_seconds(), "false_alarms": rollback.false_alarms,
    }  # fmt: skip


def from_json(stored: dict[str, Any] | None) -> Rollback | None:
    """The limits, from what the deployment record holds."""
    if not stored:
        return None
    slow = stored["slow"]
    return Rollback(
        stored["errors"], (slow[0], slow[1]) if slow else None, stored["slower"], stored["worse"], tuple(stored["alarms"]),
        timedelta(seconds=stored["trial"]), stored["false_alarms"],
    )  # fmt: skip


def _between(value: str | float, name: str) -> float:
    from treadle.core.declare.operations import share

    found = share(value)
    if not 0 < found < 1:
        raise ProjectError(f"{name}={value!r} is not between 0 and 100 %.", where=here(), hint="For example '1%'.")
    return found


def _span(value: str | timedelta, name: str) -> timedelta:
    try:
        found = span(value)
    except UsageError as error:
        raise ProjectError(f"{name}={value!r} is not a length of time.", where=here(), hint=error.hint) from None
    if found < timedelta(0):
        raise ProjectError(f"{name}={value!r} is below zero.", where=here())
    return found


def _seconds(value: str | timedelta) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*", value) if isinstance(value, str) else None
    found = value.total_seconds() if isinstance(value, timedelta) else float(match[1]) / (1000 if match[2] == "ms" else 1) if match else 0.0
    if found <= 0:
        raise ProjectError(f"slow={value!r} is not a length of time above zero.", where=here(), hint="For example '200ms' or '1s'.")
    return found


def _times(value: str | float) -> float:
    try:
        found = float(value[:-1] if isinstance(value, str) and value.endswith("x") else value)
    except ValueError:
        found = 0.0
    if not found >= 1:
        raise ProjectError(f"slower={value!r} is not 1 or more times.", where=here(), hint="For example '3x'.")
    return found
