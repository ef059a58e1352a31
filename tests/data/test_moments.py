"""Moments that programs write are read at once, and read as if people had written them."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.core.schema import Column
from treadle.data import parsing

two = st.integers(0, 99).map("{:02d}".format)
dates = st.builds("{:04d}-{}-{}".format, st.integers(0, 9999), two, two)
clocks = st.builds("{}{}:{}:{}{}{}".format, st.sampled_from([" ", "T"]), two, two, two, st.sampled_from(["", ".1", ".123456", ".000001"]), st.sampled_from(["", "Z"]))
real = st.datetimes().map(lambda t: t.isoformat(sep=" ", timespec="seconds"))
texts = st.one_of(dates, st.builds("{}{}".format, dates, clocks), real, real.map(lambda t: t + "Z"), st.sampled_from(["", "31.12.2013", "2/29/2012 4:05 pm", "no", " 2013-01-01 "]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.none() | texts, min_size=1, max_size=8), st.sampled_from(["UTC", "Europe/Warsaw", "America/New_York"]))
def test_what_programs_write_is_read_as_if_people_had_written_it(values: list[str | None], tz: str) -> None:
    series = pl.Series("t", values, dtype=pl.String)
    got = parsing._moments(series, tz)
    wanted = parsing._from_people(series.str.strip_chars(), tz)
    assert got.dtype == wanted.dtype
    assert got.cast(pl.Int64).to_list() == wanted.cast(pl.Int64).to_list()
    assert got.name == "t"


def test_leap_days_leap_seconds_and_days_that_are_none() -> None:
    said = ["2012-02-29 00:00:00", "2013-02-29 00:00:00", "2016-12-31 23:59:60", "2013-01-01 24:00:00", "2013-01-01"]
    got = parsing._moments(pl.Series("t", said), "UTC").to_list()
    assert [g is None for g in got] == [False, True, True, True, False]


def test_a_moment_without_a_date_is_not_read() -> None:
    said = pl.DataFrame({"at": ["0000-05-05", "0001-01-01", "9999-12-31 23:00:00", "2013-01-01T00:00:00-13:00", "1-1-0000"]})
    rows, unparsed = parsing.parse_columns(said, {"at": Column("timestamp", nullable=True)})
    assert [r is None for r in rows["at"].to_list()] == [True, True, True, False, True]
    assert len(unparsed) == 4


def test_an_offset_that_no_clock_has_is_no_moment() -> None:
    read = parsing.parse(pl.Series("at", ["2026-10-30T10:00:00+14:00", "2026-10-30T10:00:00+99:00", "2026-10-30T10:00:00-15:00", "2026-10-30T10:00:00+01:75"]), "timestamp")
    assert read.is_null().to_list() == [False, True, True, True]
