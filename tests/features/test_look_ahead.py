"""A view's function that looks ahead is refused by name; one that only looks back is taken."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

import treadle as tr
from treadle.core.declare.data import View
from treadle.core.errors import ProjectError
from treadle.features.history import history

START = datetime(2013, 1, 1, tzinfo=UTC)
BACK = ["place", "at", "known"]


def source(rows: int = 200) -> pl.DataFrame:
    at = [START + timedelta(minutes=17 * i) for i in range(rows)]
    return pl.DataFrame(
        {"place": [("a", "b", "c")[i * i % 3] for i in range(rows)], "at": at, "known": [t + timedelta(minutes=i * 37 % 90) for i, t in enumerate(at)],
         "x": [float(i * i % 101) for i in range(rows)]}
    ).with_columns(pl.col("at", "known").dt.cast_time_unit("us"))  # fmt: skip


def view_of(function: object, **says: object) -> View:
    project = tr.Project("p")
    facts = project.dataset("facts", source=tr.rows(list), key="at", event_time="at", known_time="known")
    return project.view(source=facts, entity="place", features=["f"], **says)(function)


def next_value(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("at").with_columns(f=pl.col("x").shift(-1).over("place"))


def global_mean(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(f=pl.col("x") - pl.col("x").mean())


def mean_of_the_place(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(f=pl.col("x").mean().over("place"))


def share_of_the_largest(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(f=pl.col("x") / pl.col("x").cum_sum().reverse().first())


def centred_window(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("at").with_columns(f=pl.col("x").rolling_mean(5, center=True, min_samples=1))


def news_before_they_are_known(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("at").with_columns(f=pl.col("x").shift(1))  # the one before by event time may become known later


def rank_of_all(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(f=pl.col("x").rank() / pl.len())


LOOKS_AHEAD = [next_value, global_mean, mean_of_the_place, share_of_the_largest, centred_window, news_before_they_are_known, rank_of_all]


@pytest.mark.parametrize("function", LOOKS_AHEAD, ids=lambda f: f.__name__)
def test_a_function_that_looks_ahead_is_refused_by_its_name(function: object) -> None:
    view = view_of(function)
    with pytest.raises(ProjectError, match=f"{function.__name__} looks ahead: its values for the time before 2013") as caught:  # type: ignore[attr-defined]
        history(view, source())
    assert (caught.value.where or "").startswith(f"view '{view.name}' (test_look_ahead.py:")
    assert "Use only earlier rows" in (caught.value.hint or "")


def itself(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(f=pl.col("x") * 2)


def so_far(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("known").with_columns(f=pl.col("x").cum_sum().over("place"))


def one_before(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("known").with_columns(f=pl.col("x").shift(1).over("place"))


def last_hours(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("known").with_columns(f=pl.col("x").rolling_mean_by("known", "3h").over("place"))


def missing_at_first(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.sort("known").with_columns(f=pl.col("x").shift(3))


def some_of_the_rows(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.filter(pl.col("x") > 50).with_columns(f=pl.col("x")).select("known", "f", "place", "at")


def not_a_number_at_times(rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(f=(pl.col("x") - 4).log())


def eagerly(rows: pl.LazyFrame) -> pl.DataFrame:
    return rows.collect().with_columns(f=pl.col("x"))


HONEST = [itself, so_far, one_before, last_hours, missing_at_first, some_of_the_rows, not_a_number_at_times, eagerly]


@pytest.mark.parametrize("function", HONEST, ids=lambda f: f.__name__)
def test_a_function_that_looks_back_is_taken(function: object) -> None:
    assert history(view_of(function), source()).height > 0


def test_a_function_that_fails_or_forgets_a_column_is_refused_by_its_name() -> None:
    def broken(rows: pl.LazyFrame) -> pl.LazyFrame:
        raise ZeroDivisionError("no")

    def forgetful(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.select("place", "known", f=pl.col("x"))

    def misnamed(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.select("place", "at", "known", g=pl.col("x"))

    with pytest.raises(ProjectError, match="broken raised ZeroDivisionError: no"):
        history(view_of(broken), source())
    with pytest.raises(ProjectError, match="forgetful returned no column 'at'"):
        history(view_of(forgetful), source())
    with pytest.raises(ProjectError, match="misnamed returned no column 'f'"):
        history(view_of(misnamed), source())
