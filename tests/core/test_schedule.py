"""Schedules as they are declared: the slots of a cron expression, through every clock change, against minute by minute; and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import treadle as tr
from treadle.core.declare.schedule import Cron
from treadle.core.errors import ProjectError

MINUTE = timedelta(minutes=1)
# Zones and days around which their clocks change: by an hour, by half an hour, at midnight, by a whole day, and not at all.
CHANGES = [
    ("Europe/Berlin", date(2024, 3, 31)), ("Europe/Berlin", date(2024, 10, 27)), ("America/New_York", date(2024, 3, 10)),
    ("America/New_York", date(2024, 11, 3)), ("Australia/Lord_Howe", date(2024, 4, 7)), ("Australia/Lord_Howe", date(2024, 10, 6)),
    ("Africa/Cairo", date(2024, 4, 26)), ("Africa/Cairo", date(2024, 11, 1)), ("America/Sao_Paulo", date(2018, 11, 4)),
    ("Pacific/Apia", date(2011, 12, 30)), ("Asia/Kolkata", date(2024, 2, 29)), ("UTC", date(2024, 12, 31)),
]  # fmt: skip


def field(low: int, high: int) -> st.SearchStrategy[frozenset[int] | None]:
    return st.none() | st.frozensets(st.integers(low, high), min_size=1, max_size=4)


fields = st.tuples(field(0, 59), field(0, 23) | st.frozensets(st.integers(0, 4), min_size=1, max_size=3), field(1, 31), field(0, 6))


def text(wanted: tuple[frozenset[int] | None, ...]) -> str:
    minute, hour, day, weekday = ("*" if f is None else ",".join(map(str, sorted(f))) for f in wanted)
    return f"{minute} {hour} {day} * {weekday}"


def matches(wanted: tuple[frozenset[int] | None, ...], wall: datetime) -> bool:
    minute, hour, day, weekday = wanted
    on_day, on_weekday = day is None or wall.day in day, weekday is None or wall.isoweekday() % 7 in weekday
    either = on_day or on_weekday if day is not None and weekday is not None else on_day and on_weekday  # as cron has always had it
    return (minute is None or wall.minute in minute) and (hour is None or wall.hour in hour) and either


def minute_by_minute(wanted: tuple[frozenset[int] | None, ...], zone: ZoneInfo, after: datetime, upto: datetime) -> list[datetime]:
    """The rule of the docstring, said the slow way."""
    each_hour = wanted[1] is None or len(wanted[1]) == 24
    found, moment = [], after
    before = moment.astimezone(zone)
    while moment < upto:
        moment += MINUTE
        wall = moment.astimezone(zone)
        skipped = before.replace(tzinfo=None) + MINUTE
        due = matches(wanted, wall) and (each_hour or not wall.fold)
        while not each_hour and skipped < wall.replace(tzinfo=None):
            due = due or matches(wanted, skipped)
            skipped += MINUTE
        if due:
            found.append(moment)
        before = wall
    return found


@given(st.sampled_from(CHANGES), fields, st.integers(-40, 10), st.integers(1, 60))
def test_the_slots_are_those_found_minute_by_minute(change: tuple[str, date], wanted: tuple[frozenset[int] | None, ...], hours: int, length: int) -> None:
    zone = ZoneInfo(change[0])
    after = datetime(*change[1].timetuple()[:3], 2, tzinfo=UTC) + timedelta(hours=hours)
    upto = after + timedelta(hours=length)
    assert Cron(text(wanted), change[0]).between(after, upto) == minute_by_minute(wanted, zone, after, upto)


@given(st.sampled_from(CHANGES), fields, st.lists(st.integers(1, 90 * 60), max_size=8), st.integers(0, 59))
def test_windows_that_follow_each_other_share_the_slots_out(
    change: tuple[str, date], wanted: tuple[frozenset[int] | None, ...], cuts: list[int], second: int
) -> None:
    cron = Cron(text(wanted), change[0])
    start = datetime(*change[1].timetuple()[:3], tzinfo=UTC) - timedelta(hours=40)
    edges = [start, *(start + timedelta(minutes=m, seconds=second) for m in sorted(set(cuts))), start + timedelta(hours=91)]
    whole = cron.between(edges[0], edges[-1])
    assert [m for a, b in pairwise(edges) for m in cron.between(a, b)] == whole
    assert whole == sorted(set(whole))
    assert cron.newest(edges[0], edges[-1]) == (whole[-1] if whole else None)
    assert cron.between(edges[0], edges[-1], 3) == whole[:3]
    following, moment = [], start
    while (moment := cron.following(moment)) is not None and moment <= edges[-1] and len(following) < 50:  # type: ignore[assignment]
        following.append(moment)
    assert following == whole[:50]


@pytest.mark.parametrize(
    ("expression", "day", "local"),
    [
        ("30 2 * * *", "2024-03-31", ["03:00"]),  # does not exist: right after the gap
        ("0,30 2 * * *", "2024-03-31", ["03:00"]),  # both moved to one moment: one slot
        ("30 2 * * *", "2024-10-27", ["02:30"]),  # exists twice: the first time
        ("0 1-4 * * *", "2024-03-31", ["01:00", "03:00", "04:00"]),
        ("0 1-4 * * *", "2024-10-27", ["01:00", "02:00", "03:00", "04:00"]),
    ],
)
def test_what_a_clock_change_does_to_a_slot(expression: str, day: str, local: list[str]) -> None:
    cron = tr.cron(expression, tz="Europe/Berlin")
    start = datetime.fromisoformat(day).replace(tzinfo=cron.zone)
    found = [m.astimezone(cron.zone) for m in cron.between(start, start + timedelta(days=1))]
    assert [f"{m:%H:%M}" for m in found] == local
    assert all(m.fold == 0 for m in found)


def test_an_hourly_slot_follows_real_time() -> None:
    cron = tr.cron("0 * * * *", tz="Europe/Berlin")
    for start in (datetime(2024, 3, 30, 12, tzinfo=UTC), datetime(2024, 10, 26, 12, tzinfo=UTC)):
        assert cron.between(start, start + timedelta(days=1)) == [start + timedelta(hours=h) for h in range(1, 25)]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p, m, d: tr.cron("61 * * * *"), "'61 * * * *' is not a cron expression: bad minute"),
        (lambda p, m, d: tr.cron("0 6 * *"), "is not a cron expression"),
        (lambda p, m, d: tr.cron("0 0 30 2 *"), "is not a cron expression: bad day-of-month"),
        (lambda p, m, d: tr.cron("0 0 */20 * 1L"), "never comes"),
        (lambda p, m, d: tr.cron("0 6 * * *", tz="Europe/Berlim"), "There is no time zone 'Europe/Berlim'"),
        (lambda p, m, d: tr.cron("0 6 * * *", tz="../../etc/passwd"), "There is no time zone"),
        (lambda p, m, d: tr.on_alarm("qualty"), "There is no kind of alarm 'qualty'"),
        (lambda p, m, d: tr.on_new_data("rows"), "names no data set"),
        (lambda p, m, d: tr.budget(money="3 per day"), "needs price_per_cpu_hour"),
        (lambda p, m, d: tr.budget(), "limits nothing"),
        (lambda p, m, d: tr.budget(runs="many"), "runs='many' is not a rate"),
        (lambda p, m, d: tr.budget(runs="0.5 per day"), "not a whole number"),
        (lambda p, m, d: tr.budget(cpu="2 per day"), "'2' is not a length of time"),
        (lambda p, m, d: tr.budget(cpu="2h"), "is not a rate"),
        (lambda p, m, d: p.schedule("s", "m", when=tr.on_commit()), "'m', which is no model or pipeline of this project"),
        (lambda p, m, d: p.schedule("s", tr.Project("other").model("m", rows=d, target="y", inputs=["a"]), when=tr.on_commit()), "no model or pipeline"),
        (lambda p, m, d: p.schedule("s", m, when=[]), "says nothing that starts it"),
        (lambda p, m, d: p.schedule("s", m, when="0 6 * * *"), "has when='0'"),
        (lambda p, m, d: p.schedule("s", m, when=[tr.cron("0 6 * * *"), tr.cron("0 7 * * *")]), "two crons"),
        (lambda p, m, d: p.schedule("s", m, when=tr.on_commit(), params={"x": 1}), "which takes none"),
        (lambda p, m, d: p.schedule("s", m, when=tr.on_commit(), catch_up="some"), "catch_up='some'"),
        (lambda p, m, d: p.schedule("s", m, when=tr.on_commit(), debounce="soon"), "'soon' is not a length of time"),
        (lambda p, m, d: p.schedule("s", m, when=tr.on_commit(), budget="5 per day"), "budget='5 per day'"),
        (lambda p, m, d: (p.schedule("s", m, when=tr.on_call("x")), p.schedule("t", m, when=tr.on_call("x"))), "both called by 'x'"),
        (lambda p, m, d: (p.schedule("s", m, when=tr.on_commit()), p.schedule("s", m, when=tr.on_commit())), "declared twice"),
        (lambda p, m, d: p.schedule("s", m, when=tr.on_new_data(tr.Project("other").dataset("o", source=tr.csv("o.csv"), key="id"))), "not of this project"),
        (lambda p, m, d: p.schedule("s", p.pipelines["flow"], when=tr.on_commit(), params={"colour": 1}), "does not have"),
        (lambda p, m, d: p.schedule("s", p.pipelines["flow"], when=tr.on_commit()), "does not say 'day'"),
    ],
)  # fmt: skip
def test_a_schedule_that_cannot_be_is_refused_with_its_line(make: object, says: str) -> None:
    project = tr.Project("demo")
    rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id")
    model = project.model("m", rows=rows, target="y", inputs=["a"])

    @project.pipeline
    def flow(day: date) -> None: ...

    with pytest.raises(ProjectError) as refused:
        make(project, model, rows)  # type: ignore[operator]
    assert says in str(refused.value)
    assert str(refused.value.where).startswith("test_schedule.py:")
