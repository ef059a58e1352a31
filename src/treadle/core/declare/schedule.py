"""Declarations of when work starts by itself: cron slots in a time zone, events, and what holds them back.

What a clock change does to a cron slot:

- Does the hour field name every hour (`*`), slots follow real time: an hour that exists twice has its slots twice, one that does not exist has none.
- Else a slot is a time on the wall clock, and each is exactly one slot: one that exists twice is meant the first time; one that does not exist
  is moved to the first moment after the gap. Slots that fall on one moment are one slot.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from treadle.core.declare.data import Dataset
from treadle.core.declare.model import Model
from treadle.core.declare.operations import Rate, rate
from treadle.core.declare.pipeline import Pipeline
from treadle.core.declare.place import here, length
from treadle.core.errors import ProjectError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

ALARMS = (
    "quality", "calibration", "input", "prediction", "data_quality", "skew",  # about a model
    "contract", "freshness", "volume", "distribution", "schema", "stale",  # about the data it is made from and looks up
)  # fmt: skip
CATCH_UP = ("last", "all", "none")
_AROUND = timedelta(hours=25)  # no zone has ever left out more than a day at once
CatchUp = Literal["last", "all", "none"]


@dataclass(frozen=True)
class Cron:
    """Slots by a cron expression of five fields in a time zone. Made by `tr.cron`.

    >>> [f"{m:%d.%m. %H:%M}" for m in cron("30 2 * * *", tz="Europe/Berlin").between(*span_of("2024-03-30", "2024-04-02"))]
    ['30.03. 01:30', '31.03. 01:00', '01.04. 00:30']
    """

    expression: str
    tz: str = "UTC"

    @property
    def zone(self) -> ZoneInfo:
        from zoneinfo import ZoneInfo  # it loads much, and most projects have no schedule

        return ZoneInfo(self.tz)

    def slots(self, after: datetime, upto: datetime | None = None) -> Iterator[datetime]:
        """The slots in (after, upto], as moments in UTC, in order, none twice. Without `upto` it ends when there is none for 50 years."""
        zone, each_hour = self.zone, self.each_hour
        start = _wall(after, zone) - _ahead(zone, after)
        last = after
        for moment in merge(*(self._moments(start, zone, fold, each_hour) for fold in ((0, 1) if each_hour else (0,)))):
            if upto is not None and moment > upto:
                return
            if moment > last:
                last = moment
                yield moment

    def between(self, after: datetime, upto: datetime, limit: int | None = None) -> list[datetime]:
        """The first `limit` slots in (after, upto], all if not given."""
        return list(islice(self.slots(after, upto), limit))

    def newest(self, after: datetime, upto: datetime) -> datetime | None:
        """The last slot in (after, upto], found without going through all of them."""
        reach = timedelta(hours=1)
        while True:
            start = max(after, upto - reach) if reach < timedelta(days=36_500) else after
            found = None
            for found in self.slots(start, upto):  # noqa: B007
                pass
            if found is not None or start == after:
                return found
            reach *= 8

    def following(self, moment: datetime) -> datetime | None:
        """The first slot after a moment; None when there is none in 50 years."""
        return next(self.slots(moment), None)

    def _moments(self, start: datetime, zone: ZoneInfo, fold: int, each_hour: bool) -> Iterator[datetime]:
        """When the times on the wall clock after `start` are, in order. `fold` says which one is meant of a time that exists twice."""
        from cronsim import CronSim

        for wall in CronSim(self.expression, start):  # without a zone, so that every day has 24 hours
            moment, other = (wall.replace(tzinfo=zone, fold=f).astimezone(UTC) for f in (fold, 1 - fold))
            if (moment - other) * (1 - 2 * fold) <= timedelta(0):
                yield moment
            elif not each_hour:  # it does not exist
                yield _end_of_gap(other, moment, zone)

    @property
    def each_hour(self) -> bool:
        """Whether the hour field names every hour."""
        from cronsim import CronSim

        return len(CronSim(self.expression, datetime(2000, 1, 1)).hours) == 24

    def __str__(self) -> str:
        return f"cron {self.expression!r} ({self.tz})"


def _ahead(zone: ZoneInfo, moment: datetime) -> timedelta:
    """How much earlier than `moment` its wall clock must be read to miss no slot: beyond any gap or repetition, if the clocks change around it."""
    offsets = {m.astimezone(zone).utcoffset() for m in (moment - _AROUND, moment, moment + _AROUND)}
    return timedelta(minutes=1) if len(offsets) == 1 else _AROUND


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0, second=0, microsecond=0)


def _end_of_gap(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The moment in (low, high] from which the zone's new offset holds."""
    after = high.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        low, high = (low, middle) if middle.astimezone(zone).utcoffset() == after else (middle, high)
    return high


def span_of(start: str, end: str) -> tuple[datetime, datetime]:
    """Two moments in UTC from ISO text."""
    a, b = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end))
    return a, b


@dataclass(frozen=True)
class NewData:
    """A new version of a data set, or a source that changed."""

    dataset: Dataset

    def __str__(self) -> str:
        return f"new data in {self.dataset.name}"


@dataclass(frozen=True)
class Alarm:
    """An open alarm of one of these kinds, about the schedule's model or the data it uses (about any, where the target is a pipeline)."""

    kinds: tuple[str, ...]

    def __str__(self) -> str:
        return f"alarm: {', '.join(self.kinds)}"


@dataclass(frozen=True)
class Commit:
    """A new git commit that touches the project folder."""

    def __str__(self) -> str:
        return "new commit"


@dataclass(frozen=True)
class Call:
    """`POST /triggers/NAME`."""

    name: str

    def __str__(self) -> str:
        return f"call of {self.name}"


Trigger = Cron | NewData | Alarm | Commit | Call


@dataclass(frozen=True)
class Limit:
    """At most `amount` of `what` in each `per`: 'runs' (a number), 'cpu' (seconds), 'money'."""

    what: Literal["runs", "cpu", "money"]
    amount: float
    per: timedelta
    text: str


@dataclass(frozen=True)
class Budget:
    """What the runs of a schedule may use. Made by `tr.budget`."""

    limits: tuple[Limit, ...]
    price_per_cpu_hour: float = 0.0
    currency: str = ""


@dataclass(frozen=True)
class Schedule:
    """When a model or pipeline runs by itself.

    Args:
        when: what starts it; any of them does.
        params: parameters of the pipeline, besides its defaults.
        catch_up: which slots that were missed are run: the 'last' one, 'all', or 'none'.
        debounce: after an event it waits until there was none for so long (at most ten times as long in all), and runs once for all of them.
        cooldown: after a run has ended nothing starts for so long; what would have started waits, and is not lost.
        budget: what its runs may use; beyond it nothing starts, and it says so.
    """

    name: str
    target: Model | Pipeline
    when: tuple[Trigger, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    catch_up: CatchUp = "last"
    debounce: timedelta = timedelta(0)
    cooldown: timedelta = timedelta(0)
    budget: Budget | None = None
    description: str = ""
    place: str = field(default="", compare=False)


def cron(expression: str, *, tz: str = "UTC") -> Cron:
    """Slots by a cron expression: minute, hour, day of month, month, day of week.

    Args:
        tz: the time zone its times are in, for example 'Europe/Berlin'. A time the clock skips is meant right after the gap, one it shows twice
            the first time; if the hour is `*`, slots follow real time.

        >>> print(cron("0 6 * * 1-5", tz="Europe/Berlin"))
        cron '0 6 * * 1-5' (Europe/Berlin)
    """
    from cronsim import CronSim, CronSimError

    hint = "Write minute, hour, day of month, month and day of week, for example '0 6 * * 1-5'."
    if not isinstance(expression, str) or len(expression.split()) != 5 or len(expression) > 200:
        raise ProjectError(f"{expression!r} is not a cron expression.", where=here(), hint=hint)
    try:
        CronSim(expression, datetime(2000, 1, 1))
    except (CronSimError, ValueError, AssertionError) as error:
        why = str(error).lower() or "it cannot be read"
        raise ProjectError(f"{expression!r} is not a cron expression: {why}.", where=here(), hint=hint) from None
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError, TypeError):
        raise ProjectError(f"There is no time zone {tz!r}.", where=here(), hint="Use a name like 'Europe/Berlin' or 'UTC'.") from None
    made = Cron(" ".join(expression.split()), tz)
    if made.following(datetime(2000, 1, 1, tzinfo=UTC)) is None:
        raise ProjectError(f"{expression!r} never comes.", where=here(), hint=hint)
    return made


def on_new_data(dataset: Dataset) -> NewData:
    """When a data set has a new version, or its source has changed (the run then takes the version)."""
    if not isinstance(dataset, Dataset):
        raise ProjectError(f"tr.on_new_data({dataset!r}) names no data set.", where=here(), hint="Pass what project.dataset(...) returned.")
    return NewData(dataset)


def on_alarm(kinds: str | Iterable[str] = ("quality", "calibration")) -> Alarm:
    """When an alarm of one of these kinds is open: 'quality', 'calibration', 'input', 'prediction', 'data_quality' or 'skew' of a model;
    'contract', 'freshness', 'volume', 'distribution' or 'schema' of a data set whose contract is broken; 'stale' of a view's online values.

    Alarms that the model's own watch retrains on (`retrain=tr.on_evidence(...)`) are left to it, so that none is answered twice.
    """
    given = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    wrong = next((k for k in given if k not in ALARMS), None)
    if wrong is not None or not given:
        what = f"There is no kind of alarm {wrong!r}." if given else "tr.on_alarm() names no kind of alarm."
        raise ProjectError(what, where=here(), hint=f"Kinds are: {', '.join(ALARMS)}.")
    return Alarm(given)


def on_commit() -> Commit:
    """When HEAD of the git repository has a new commit that touches the project folder."""
    return Commit()


def on_call(name: str = "") -> Call:
    """When somebody calls `POST /triggers/NAME` of the scheduler (`treadle schedule run --http PORT`); the schedule's name if not given."""
    if not isinstance(name, str):
        raise ProjectError(f"{name!r} is not a name for a call.", where=here())
    return Call(name)


def budget(
    *, runs: str | None = None, cpu: str | None = None, money: str | None = None, price_per_cpu_hour: float | None = None, currency: str = "EUR"
) -> Budget:
    """What the runs of a schedule may use in a stretch of time that moves along. A run that has started is not stopped.

    Args:
        runs: how many, for example '5 per day'.
        cpu: CPU time, for example '2h per day'.
        money: for example '3 per day', in `currency`; needs price_per_cpu_hour.
        price_per_cpu_hour: what an hour of CPU time costs.
    """
    place = here()
    limits: list[Limit] = []
    if runs is not None:
        made = _rate(runs, f"runs={runs!r}", "'5 per day'")
        if made.count != int(made.count) or made.count < 1:
            raise ProjectError(f"runs={runs!r} is not a whole number from 1 on.", where=place, hint="For example runs='5 per day'.")
        limits.append(Limit("runs", made.count, made.per, runs.strip()))
    if cpu is not None:
        amount, _, per = str(cpu).partition(" per ")
        seconds = length(amount.strip()).total_seconds()
        made = _rate(f"1 per {per.strip()}", f"cpu={cpu!r}", "'2h per day'")
        if not seconds:
            raise ProjectError(f"cpu={cpu!r} is no time.", where=place, hint="For example cpu='2h per day'.")
        limits.append(Limit("cpu", seconds, made.per, cpu.strip()))
    if money is not None:
        if price_per_cpu_hour is None:
            raise ProjectError("A budget of money needs price_per_cpu_hour.", where=place, hint="For example price_per_cpu_hour=0.05.")
        made = _rate(money, f"money={money!r}", "'3 per day'")
        if not made.count:
            raise ProjectError(f"money={money!r} lets nothing run.", where=place)
        limits.append(Limit("money", made.count, made.per, money.strip()))
    price = 0.0 if price_per_cpu_hour is None else price_per_cpu_hour
    if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < 1e9 or (price_per_cpu_hour is not None and not price):
        raise ProjectError(f"price_per_cpu_hour={price_per_cpu_hour!r} is not a price above zero.", where=place)
    if not limits:
        raise ProjectError("The budget limits nothing.", where=place, hint="Give it runs='5 per day', cpu='2h per day' or money='3 per day'.")
    return Budget(tuple(limits), float(price), currency)


def declared(
    name: str,
    target: Any,
    *,
    targets: Iterable[Any],
    datasets: Iterable[Dataset],
    others: Iterable[Schedule],
    when: Trigger | Sequence[Trigger],
    params: Mapping[str, Any] | None,
    catch_up: str,
    debounce: str | timedelta,
    cooldown: str | timedelta,
    budget: Budget | None,
    description: str,
    place: str,
) -> Schedule:
    """A schedule, if it can be. Raises ProjectError naming the line."""
    if not any(known is target for known in targets):
        raise ProjectError(
            f"Schedule {name!r} is to run {target!r}, which is no model or pipeline of this project.", where=place,
            hint="Pass what project.model(...) returned, or a function under @project.pipeline.",
        )  # fmt: skip
    triggers = (when,) if isinstance(when, Trigger) else tuple(when)
    wrong = next((t for t in triggers if not isinstance(t, Trigger)), None)
    if wrong is not None or not triggers:
        raise ProjectError(
            f"Schedule {name!r} has when={wrong!r}." if triggers else f"Schedule {name!r} says nothing that starts it.", where=place,
            hint="Use tr.cron(...), tr.on_new_data(...), tr.on_alarm(...), tr.on_commit() or tr.on_call(...).",
        )  # fmt: skip
    triggers = tuple(Call(t.name or name) if isinstance(t, Call) else t for t in triggers)
    for kind in (NewData, Call):
        several = [t for t in triggers if isinstance(t, kind)]
        if len(set(map(str, several))) != len(several):
            raise ProjectError(f"Schedule {name!r} names one of its triggers twice.", where=place)
    if any(sum(isinstance(t, kind) for t in triggers) > 1 for kind in (Cron, Alarm, Commit)):
        raise ProjectError(
            f"Schedule {name!r} has two crons, alarms or commits.", where=place,
            hint="Join them in one (cron takes lists: '0 6,18 * * *'), or declare two schedules.",
        )  # fmt: skip
    foreign = next((t.dataset.name for t in triggers if isinstance(t, NewData) and not any(d is t.dataset for d in datasets)), None)
    if foreign is not None:
        raise ProjectError(f"Schedule {name!r} waits for data set {foreign!r}, which is not of this project.", where=place)
    taken = {t.name: s.name for s in others for t in s.when if isinstance(t, Call)}
    twice = next((t.name for t in triggers if isinstance(t, Call) and t.name in taken), None)
    if twice is not None:
        raise ProjectError(f"Schedules {taken[twice]!r} and {name!r} are both called by {twice!r}.", where=place, hint="Give one another name.")
    if catch_up not in CATCH_UP:
        raise ProjectError(f"catch_up={catch_up!r} is not known.", where=place, hint="Use 'last', 'all' or 'none'.")
    if budget is not None and not isinstance(budget, Budget):
        raise ProjectError(f"Schedule {name!r} has budget={budget!r}.", where=place, hint="Use tr.budget(...).")
    values = dict(params or {})
    _params(name, target, values, called=all(isinstance(t, Call) for t in triggers), place=place)
    return Schedule(name, target, triggers, values, catch_up, length(debounce), length(cooldown), budget, description, place)  # type: ignore[arg-type]


def _params(name: str, target: Any, values: Mapping[str, Any], *, called: bool, place: str) -> None:
    if isinstance(target, Model):
        if values:
            raise ProjectError(f"Schedule {name!r} gives parameters to model {target.name!r}, which takes none.", where=place)
        return
    import inspect

    known = inspect.signature(target.function).parameters
    wrong = next((p for p in values if p not in known), None)
    if wrong is not None:
        hint = f"It has: {', '.join(known)}." if known else "It has none."
        raise ProjectError(f"Schedule {name!r} sets {wrong!r}, which pipeline {target.name!r} does not have.", where=place, hint=hint)
    missing = next((n for n, p in known.items() if p.default is p.empty and n not in values), None)
    if missing is not None and not called:
        what = f"Schedule {name!r} does not say {missing!r}, which pipeline {target.name!r} needs."
        raise ProjectError(what, where=place, hint="Say it in params={...}.")


def _rate(text: str, what: str, example: str) -> Rate:
    try:
        return rate(text)
    except (ProjectError, TypeError):
        raise ProjectError(f"{what} is not a rate.", where=here(), hint=f"For example {example}.") from None
