"""Spans and moments are read one way, and a replay's clock never goes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.core.clock import ReplayClock, SystemClock, iso, parse_time, span
from treadle.core.errors import UsageError

BERLIN = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("3h", 10_800), ("7d", 604_800), ("2w", 1_209_600), ("1d12h", 129_600), ("1.5 h", 5_400), ("1d 12 h", 129_600)]
)
def test_a_span_is_numbers_with_units(text: str, seconds: int) -> None:
    assert span(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "3", "h", "3 hours", "-3h", "3h-", "1e3h", "three h", "3H", "3h;", "99999999999999w"])
def test_what_is_no_span_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="is not a length of time") as caught:
        span(text)
    assert "1d12h" in str(caught.value)


def test_a_timedelta_is_a_span_already() -> None:
    assert span(timedelta(days=2)) == timedelta(days=2)


def test_a_time_without_an_offset_is_utc() -> None:
    assert parse_time("2013-04-01") == datetime(2013, 4, 1, tzinfo=UTC)
    assert parse_time("2013-04-01T12:30:00Z") == parse_time("2013-04-01T14:30:00+02:00") == parse_time("2013-04-01 12:30")


@pytest.mark.parametrize("text", ["", "yesterday", "2013-13-01", "2013-02-30", "12:30"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not a time\. Write ISO 8601"):
        parse_time(text)


moments = st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1), timezones=st.sampled_from([UTC, BERLIN]))


@given(moments, moments)
def test_moments_as_text_come_back_and_sort_by_time(left: datetime, right: datetime) -> None:
    assert parse_time(iso(left)) == left
    assert (iso(left) < iso(right)) == (left < right)


def test_a_replay_stands_where_it_was_set_and_refuses_to_go_back() -> None:
    clock = ReplayClock(datetime(2013, 1, 1, 2, tzinfo=BERLIN))
    assert clock.now() == datetime(2013, 1, 1, tzinfo=UTC)
    assert clock.now().tzinfo is UTC
    clock.set(datetime(2013, 1, 2, tzinfo=UTC))
    clock.set(datetime(2013, 1, 2, tzinfo=UTC))
    with pytest.raises(UsageError, match="cannot go back from 2013-01-02"):
        clock.set(datetime(2013, 1, 1, 23, 59, tzinfo=UTC))
    assert clock.now() == datetime(2013, 1, 2, tzinfo=UTC)


def test_the_machines_clock_says_utc() -> None:
    assert SystemClock().now().tzinfo is UTC
