"""Declarations of life in production: serving, watching and what evidence may do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from treadle.core.clock import span
from treadle.core.declare.levels import Levels
from treadle.core.declare.model import Model
from treadle.core.declare.place import here
from treadle.core.declare.rollout import ABTest, Rollback, as_json
from treadle.core.errors import ProjectError, UsageError
from treadle.core.schema import Field

KINDS = ("quality", "calibration", "input", "prediction", "data_quality")
"""Kinds of alarm about a model that may start a retraining."""
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
        workers: processes that answer on the one port; 0 leaves it to the setting.
        answer_within: how long a request may wait for the model; one that takes longer is answered 504, and a model that hangs is restarted.
        store_down: what is done while the online store does not answer: 'refuse' requests (503), or 'answer' them without its features, and say so.
        rollback: what throws a version out by itself; None: nothing does but a failure or worse answers in shadow and canary.
        takeover: what follows the shadow: 'canary', an A/B test, or 'blue_green' (the whole at once, the old one kept warm for the trial).
        key: what keeps a caller on one side of a split: 'field:customer' or 'header:x-user'; '' decides request by request.
        keys: whether callers must show an API key.
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
    workers: int = 0
    answer_within: timedelta = timedelta(seconds=10)
    rollback: Rollback | None = field(default_factory=Rollback, kw_only=True)
    takeover: Literal["canary", "blue_green"] | ABTest = field(default="canary", kw_only=True)
    key: str = field(default="", kw_only=True)
    keys: bool = field(default=False, kw_only=True)

    def rules(self) -> dict[str, Any]:
        """What the endpoint, which does not run the project file, must know of the rollout."""
        return {"rollback": as_json(self.rollback), "key": self.key, "keys": self.keys}


@dataclass(frozen=True)
class Envelope:
    """What a retraining may change without asking a person. Made by `tr.envelope`.

    Args:
        answers: the mean change of an answer on the same rows: of a probability, or of a number in standard deviations of the champion's answers.
        rows: how many times more, or fewer, rows it may have learned from.
        loss: how much less its loss may be than the champion's on the test rows, as a part of it: what is too good to be true is looked at.
    """

    answers: float | None = 0.1
    rows: float | None = 3.0
    loss: float | None = 0.5


def envelope(*, answers: float | None = 0.1, rows: float | None = 3.0, loss: float | None = 0.5) -> Envelope:
    """The change that is agreed beforehand; a retrained version outside of it waits until a person says yes (`treadle reactions approve`).

    Args:
        answers: the mean change of an answer on the same rows: of a probability, or of a number in standard deviations. None does not ask.
        rows: how many times more, or fewer, rows it may have learned from. None does not ask.
        loss: how much lower its loss may be than the champion's, as a part of it: what is too good to be true is looked at. None does not ask.
    """
    for name, value, least in (("answers", answers, 0.0), ("rows", rows, 1.0), ("loss", loss, 0.0)):
        if value is not None and not value >= least:
            raise ProjectError(f"An envelope with {name}={value!r} holds nothing.", where=here(), hint=f"Give a number from {least:g} on, or None.")
    return Envelope(answers, rows, loss)


@dataclass(frozen=True)
class Retrain:
    """When a retraining starts, from what, and what its version may do without a person.

    `on` lists the kinds of alarm that start one, `at_most` limits how often, `every` starts one when none did for so long, `new_rows` when so many
    rows (from 1 on), or such a part of what the champion learned from (below 1), became known. See `on_evidence` for the rest.
    """

    at_most: Rate
    on: tuple[str, ...] = ("quality", "calibration")
    every: timedelta | None = None
    new_rows: float | None = None
    window: timedelta | None = None
    cooldown: timedelta = timedelta(0)
    cpu: timedelta | None = None
    ask: Literal["never", "outside", "always"] = "outside"
    envelope: Envelope | None = None
    not_while: tuple[str, ...] = ()


def on_evidence(
    at_most: str = "1 per month", *, on: tuple[str, ...] = ("quality", "calibration"), every: str | timedelta | None = None,
    new_rows: str | float | None = None, window: str | timedelta | None = None, cooldown: str | timedelta = "0s", cpu: str | timedelta | None = None,
    ask: Literal["never", "outside", "always"] = "outside", envelope: Envelope | None = None, not_while: tuple[str, ...] = (),
) -> Retrain:  # fmt: skip
    """Retrain when an alarm of one of these kinds is raised: 'quality', 'calibration', 'input', 'prediction', 'data_quality'.

    Args:
        at_most: a budget; what is beyond it waits.
        every: retrain by the calendar when nothing else did for this long, so that a model does not grow old unseen.
        new_rows: retrain when so many rows became known since the champion was trained, or such a part of its own: 5000 or '20%'.
        window: learn only from the rows of this last stretch of time; from all that are known if not given.
        cooldown: after a retraining nothing starts for so long.
        cpu: CPU time that retrainings may use in the span of `at_most`; beyond it they wait.
        ask: whether a person is asked before a version that passed its gates may challenge: 'never', 'outside' the envelope, 'always'.
        envelope: what it may change without a person; see `tr.envelope`.
        not_while: kinds of alarm during which nothing is retrained: ('data_quality',) learns nothing from a broken feed.
    """
    unknown = (set(on) | set(not_while)) - set(KINDS)
    if unknown:
        raise ProjectError(f"There is no kind of alarm {sorted(unknown)[0]!r}.", hint=f"Use {', '.join(map(repr, KINDS[:-1]))} or {KINDS[-1]!r}.")
    if ask not in ("never", "outside", "always"):
        raise ProjectError(f"ask={ask!r} is not known.", where=here(), hint="Use 'never', 'outside' or 'always'.")
    rows = None if new_rows is None else _count(new_rows)
    spans = [None if s is None else span(s) for s in (every, window, cpu)]
    if any(s is not None and s <= timedelta(0) for s in spans):
        raise ProjectError("every, window and cpu are lengths of time above zero.", where=here(), hint="For example '30d'.")
    return Retrain(rate(at_most), tuple(on), spans[0], rows, spans[1], span(cooldown), spans[2], ask, envelope, tuple(not_while))


def _count(value: str | float) -> float:
    try:
        number = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ProjectError(f"new_rows={value!r} is no number of rows.", where=here(), hint="Write for example 5000 or '20%'.")
    return number


JUDGED = (
    "quality", "calibration", "input", "prediction", "data_quality", "volume", "fairness", "outliers", "attribution", "service", "staleness",
)  # fmt: skip


@dataclass(frozen=True)
class Watch:
    """What is watched: one block of time (`every`) is the unit of independence of all statistics.

    Args:
        every: length of a block.
        label_window: how long after a prediction its outcome may take; a block is judged when it has passed.
        false_alarms: how many alarms on unchanged data are acceptable; thresholds are calibrated to it.
        skew_limit: the share of sampled predictions whose features may differ from what the recorded data give, before that is an alarm.
        skew_sample: how many predictions are recomputed at each look; 0 for none.
        kinds: what is judged; all of it by default.
        groups: categories whose groups are compared with the others, to see that none fares worse; None: those of the model's slices that are
            categories among its features.
        fairness_gap: how far truth and prediction of a group may lie apart more than those of the others; None: only what is unusual is told.
        levels: what the service and its ages must keep; see `tr.levels`.
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
    groups: tuple[str, ...] | None = None
    fairness_gap: float | None = None
    levels: Levels = field(default_factory=Levels)

    def compared(self, features: Sequence[Field]) -> tuple[str, ...]:
        """The features whose groups are compared. Raises ProjectError for a declared one that is none of the version's categories."""
        categories = [f.name for f in features if f.kind == "category"]
        if self.groups is None:
            return tuple(name for name in self.model.slices if name in categories)
        for name in self.groups:
            if name not in categories:
                hint = f"Categories among the features: {', '.join(categories) or 'none'}."
                raise ProjectError(f"groups names {name!r}, which is no category among the features.", where=self.place, hint=hint)
        return self.groups
