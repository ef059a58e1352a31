"""Declarations of life in production: serving, watching and what evidence may do."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from treadle.core.clock import span
from treadle.core.declare.model import Model
from treadle.core.declare.place import here
from treadle.core.errors import ProjectError, UsageError

_NAMED = {"hour": "1h", "day": "1d", "week": "7d", "month": "30d", "quarter": "91d", "year": "365d"}


@dataclass(frozen=True)
class Rate:
    """`count` times in each `per`."""

    count: float
    per: timedelta

    def within(self, window: timedelta) -> float:
        """How many are expected in `window`."""
        return self.count * (window / self.per)


def rate(text: str) -> Rate:
    """A rate from '1 per quarter', '2 per week', '1 per 21d'."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s+per\s+(\w+)\s*", text)
    try:
        per = span(_NAMED.get(match[2], match[2])) if match else timedelta(0)
    except UsageError:
        per = timedelta(0)
    if match is None or not per:
        raise ProjectError(f"{text!r} is not a rate.", where=here(), hint="Write for example '1 per quarter' or '2 per week'.")
    return Rate(float(match[1]), per)


def share(value: str | float) -> float:
    """A share from '10%' or 0.1."""
    try:
        number = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise ProjectError(f"{value!r} is not a share.", where=here(), hint="Write for example '10%' or 0.1.")
    return number


@dataclass(frozen=True)
class Serve:
    """How a model is served and how a challenger takes over.

    Args:
        shadow: how long a challenger answers beside the champion, unheard.
        canary, canary_for: the share of traffic it then answers, and how long.
        least_outcomes: how many matured outcomes each stage needs before it may be decided.
        durability: 'acknowledged' writes a prediction to disk before it is answered; 'buffered' within 50 ms after (a power cut may lose those).
        port: 0 picks a free one.
        store_down: what is done while the online store does not answer: 'refuse' requests (503), or 'answer' them without its features, and say so.
    """

    model: Model
    shadow: timedelta
    canary: float
    canary_for: timedelta
    least_outcomes: int = 200
    durability: Literal["acknowledged", "buffered"] = "acknowledged"
    port: int = 0
    place: str = field(default="", compare=False)
    store_down: Literal["refuse", "answer"] = "refuse"


@dataclass(frozen=True)
class Retrain:
    """When a retraining starts.

    `on` lists the kinds of alarm that start one, `at_most` limits how often, `every` starts one when none did for so long.
    """

    at_most: Rate
    on: tuple[str, ...] = ("quality", "calibration")
    every: timedelta | None = None


def on_evidence(at_most: str = "1 per month", *, on: tuple[str, ...] = ("quality", "calibration"), every: str | timedelta | None = None) -> Retrain:
    """Retrain when an alarm of one of these kinds is raised: 'quality', 'calibration', 'input', 'prediction', 'data_quality'.

    Args:
        at_most: a budget; alarms beyond it wait.
        every: retrain by the calendar when nothing else did for this long, so that a model does not grow old unseen.
    """
    unknown = set(on) - {"quality", "calibration", "input", "prediction", "data_quality"}
    if unknown:
        raise ProjectError(
            f"There is no kind of alarm {sorted(unknown)[0]!r}.", hint="Use 'quality', 'calibration', 'input', 'prediction' or 'data_quality'."
        )
    return Retrain(rate(at_most), tuple(on), None if every is None else span(every))


JUDGED = ("quality", "calibration", "input", "prediction", "data_quality", "volume")


@dataclass(frozen=True)
class Watch:
    """What is watched: one block of time (`every`) is the unit of independence of all statistics.

    Args:
        every: length of a block.
        label_window: how long after a prediction its outcome may take; a block is judged when it has passed.
        false_alarms: how many alarms on unchanged data are acceptable; thresholds are calibrated to it.
        skew_limit: the share of sampled predictions whose features may differ from what the recorded data give, before that is an alarm.
        skew_sample: how many predictions are recomputed at each look; 0 for none.
        kinds: what is judged block by block; all of it by default.
    """

    model: Model
    every: timedelta
    label_window: timedelta
    false_alarms: Rate
    retrain: Retrain | None = None
    place: str = field(default="", compare=False)
    skew_limit: float = 0.0
    skew_sample: int = 200
    kinds: tuple[str, ...] = JUDGED
