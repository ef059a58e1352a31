"""A derived feature is one rule: over a column in training and over one request in serving it gives the same value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import treadle as tr
from treadle.core.declare.features import Derived
from treadle.core.errors import ProjectError
from treadle.features.derived import expression, function
from treadle.serving.requests import micros

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Africa/Monrovia"]
numbers = st.none() | st.floats(-1e300, 1e300) | st.integers(-(2**53), 2**53).map(float) | st.just(0.0) | st.just(-0.0)
# Until 2099: there Polars' table of time zones ends, and with it summer time.
moments = st.none() | st.datetimes(datetime(1850, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))


def both(derived: Derived, columns: dict[str, list[Any]], dtype: Any) -> tuple[list[Any], list[Any]]:
    """What training and what serving computes."""
    frame = pl.DataFrame(columns, schema=dict.fromkeys(columns, dtype))
    serve = function(derived.rule)
    rows = [{k: micros(v) if isinstance(v, datetime) else v for k, v in row.items()} for row in frame.to_dicts()]
    return frame.select(expression(derived.rule).alias("x"))["x"].to_list(), [serve(row) for row in rows]


@given(st.lists(moments, min_size=1, max_size=20), st.sampled_from(ZONES), st.sampled_from([tr.hour, tr.minute_of_day, tr.weekday, tr.month]))
@example([datetime(2013, 3, 31, 0, 59, 59, 999_999, UTC), datetime(2013, 3, 31, 1, tzinfo=UTC)], "Europe/Berlin", tr.hour)
@example([datetime(2013, 10, 27, 0, 30, tzinfo=UTC), datetime(2013, 10, 27, 1, 30, tzinfo=UTC)], "Europe/Berlin", tr.hour)
@example([datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), datetime(1850, 6, 1, 5, 7, 9, 1, UTC)], "Europe/Berlin", tr.minute_of_day)
@example([datetime(2011, 12, 30, 9, 59, tzinfo=UTC), datetime(2011, 12, 30, 10, 1, tzinfo=UTC)], "Pacific/Apia", tr.weekday)
def test_the_calendar_is_the_same_in_both(values: list[datetime | None], zone: str, rule: Any) -> None:
    trained, served = both(rule("at", tz=zone), {"at": values}, pl.Datetime("us", "UTC"))
    assert trained == served
    assert [v is None for v in served] == [v is None for v in values]


@pytest.mark.parametrize("rule", [tr.hour, tr.minute_of_day, tr.weekday, tr.month])
def test_every_half_hour_around_summer_time_is_the_same_in_both(rule: Any) -> None:
    for zone in ZONES:
        for month in (3, 4, 10, 11):
            values = [datetime(2013, month, 1, tzinfo=UTC) + timedelta(minutes=30 * i) for i in range(48 * 28)]
            trained, served = both(rule("at", tz=zone), {"at": values}, pl.Datetime("us", "UTC"))
            assert trained == served, zone


def test_the_calendar_says_what_a_wall_clock_says() -> None:
    moment = datetime(2013, 7, 1, 23, 30, tzinfo=UTC)
    row = {"at": micros(moment)}
    local = moment.astimezone(ZoneInfo("Europe/Berlin"))
    assert (local.hour, local.day) == (1, 2)
    rules = [rule("at", tz="Europe/Berlin") for rule in (tr.hour, tr.minute_of_day, tr.weekday, tr.month)]
    assert [function(rule.rule)(row) for rule in rules] == [1.0, 90.0, 2.0, 7.0]


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20), st.sampled_from([tr.difference, tr.ratio]))
@example([(1.0, 0.0), (0.0, 0.0), (1.0, -0.0), (None, 1.0), (1.0, None), (1e300, 1e-300), (5e-324, 2.0)], tr.ratio)
def test_arithmetic_is_the_same_in_both(pairs: list[tuple[float | None, float | None]], rule: Any) -> None:
    trained, served = both(rule("x", "a", "b"), {"a": [p[0] for p in pairs], "b": [p[1] for p in pairs]}, pl.Float64)
    assert list(map(repr, trained)) == list(map(repr, served))


def test_a_ratio_to_nothing_is_missing() -> None:
    assert both(tr.ratio("x", "a", "b"), {"a": [1.0, 0.0], "b": [0.0, 0.0]}, pl.Float64) == ([None, None], [None, None])


def test_true_and_false_are_one_and_zero_in_arithmetic() -> None:
    assert both(tr.difference("x", "a", "b"), {"a": [True, False], "b": [False, True]}, pl.Boolean) == ([1.0, -1.0], [1.0, -1.0])


@given(st.lists(st.none() | st.text(st.characters(codec="utf-8")), min_size=1, max_size=20))
@example(["", "é", "e\u0301", "🎉", "👨\u200d👩", "a\0b"])
def test_the_length_of_a_text_is_the_same_in_both(values: list[str | None]) -> None:
    trained, served = both(tr.length("t"), {"t": values}, pl.String)
    assert trained == served


def test_a_field_that_was_not_sent_is_missing() -> None:
    for derived in (tr.hour("a"), tr.difference("x", "a", "b"), tr.ratio("x", "a", "b"), tr.length("a")):
        assert function(derived.rule)({}) is None


def test_an_unknown_rule_or_time_zone_is_refused() -> None:
    for make in (expression, function):
        with pytest.raises(ProjectError, match="no derived feature 'cube'"):
            make(("cube", "a"))
    for zone in ("Mars/Olympus", "../../etc/passwd", ""):
        with pytest.raises(ProjectError, match="is not a time zone"):
            function(("hour", "a", zone))
