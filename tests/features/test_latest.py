"""The latest values, reduced batch by batch, are those the whole history says are known at that moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle as tr
from treadle.backends.memory_online import MemoryOnline
from treadle.core.declare.data import View
from treadle.core.errors import DataError
from treadle.features import latest as reducing
from treadle.features.history import AT, EVENT, history, known_at
from treadle.features.latest import incremental, latest
from treadle.features.online import packed

START = datetime(2013, 1, 1, tzinfo=UTC)
TIME = pl.Datetime("us", "UTC")
SCHEMA = {"id": pl.Int64, "place": pl.String, "zone": pl.Int64, "at": TIME, "known": TIME, "x": pl.Float64, "word": pl.String}


def moment(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def rolling(facts: pl.LazyFrame) -> pl.LazyFrame:
    return facts.sort("known", "at", "id").with_columns(pl.col("x").cum_sum().over("place").alias("total"))


def views() -> dict[str, View]:
    project = tr.Project("p")

    def source(name: str, **times: str) -> tr.Dataset:
        return project.dataset(name, source=tr.rows(list), key="id", **times)

    facts, plain, timeless = source("facts", event_time="at", known_time="known"), source("plain", event_time="at"), source("timeless")
    corrected = project.dataset("corrected", source=tr.rows(list), key=("id", "known"), event_time="at", known_time="known")
    both = {"n": pl.len(), "mean": pl.col("x").mean()}
    return {
        "last": project.view("last", source=facts, entity=("place", "zone"), features=["x", "word"], ttl="2h"),
        "for ever": project.view("for-ever", source=facts, entity="place", features=["x"]),
        "one time": project.view("one-time", source=plain, entity="place", features=["x"], ttl="1h"),
        "no time": project.view("no-time", source=timeless, entity="place", features=["x", "zone"]),
        "windows": project.view("windows", source=facts, entity="place", window="2h", every="1h", features=both),
        "function": project.view(source=facts, entity="place", features=["total"], ttl="3h")(rolling),
        "corrected": project.view("corrected", source=corrected, entity="place", features=["x", "word"], ttl="5h"),
        "corrected windows": project.view("corrected-windows", source=corrected, entity="place", window="2h", every="1h", features=both),
    }


VIEWS = views()
minutes = st.integers(0, 400).map(float) | st.sampled_from([60.0, 1 / 60e6, 119.99999998333333])
facts = st.lists(
    st.tuples(
        st.integers(0, 9), st.sampled_from(["a", "b", None]), st.sampled_from([1, 2]), st.none() | minutes, st.sampled_from([0.0, 5.0, 61.0, 200.0]),
        st.none() | st.integers(0, 9).map(float),
    ), min_size=1, max_size=30,
)  # fmt: skip


def frame(told: list[tuple[int, str | None, int, float | None, float, float | None]], *, keyed: tuple[str, ...] = ()) -> pl.DataFrame:
    rows = [
        (id if keyed else i, p, z, None if at is None else moment(at), moment((at or 0) + late), x, None if x is None else f"w{x:.0f}")
        for i, (id, p, z, at, late, x) in enumerate(told)
    ]  # fmt: skip
    made = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return made.unique(keyed, keep="first", maintain_order=True) if keyed else made


def ordered(view: View, values: pl.DataFrame) -> list[tuple[object, ...]]:
    # A history says again, at each correction, what stays the same: only the moment of the last time it is said differs.
    kept = values.drop_nulls(view.entity).select(sorted(set(values.columns) - {EVENT} - ({AT} if view.name == "corrected" else set())))
    return kept.sort(kept.columns).rows()


@pytest.mark.parametrize("name", list(VIEWS))
@settings(max_examples=40)
@given(facts, st.integers(-10, 700).map(float) | minutes, st.sampled_from([1, 3, 200_000]))
def test_what_is_known_at_a_moment_is_what_the_history_says(name: str, told: list[tuple[int, str | None, int, float | None, float, float | None]], at: float, batch: int) -> None:
    view = VIEWS[name]
    rows = frame(told, keyed=("id", "known") if name.startswith("corrected") else ())
    if name == "function":
        rows = rows.drop_nulls("place")
    before, reducing.BATCH = reducing.BATCH, batch
    try:
        found = latest(view, rows.lazy(), moment(at))
    finally:
        reducing.BATCH = before
    assert ordered(view, found) == ordered(view, known_at(view, history(view, rows), moment(at)))


@pytest.mark.parametrize("name", ["last", "for ever", "one time"])
@settings(max_examples=60)
@given(facts, st.lists(st.integers(0, 700).map(float), min_size=1, max_size=5).map(sorted), st.randoms())
def test_bringing_a_store_forward_piece_by_piece_ends_where_filling_it_at_once_does(
    name: str, told: list[tuple[int, str | None, int, float | None, float, float | None]], steps: list[float], chance: object
) -> None:
    view, rows = VIEWS[name], frame(told)
    assert incremental(view)
    store, fresh = MemoryOnline(), MemoryOnline()
    since = None
    for step in steps:
        store.put_many(packed(view, latest(view, rows.lazy(), moment(step), since=since)))
        since = moment(step)
    whole = latest(view, rows.lazy(), moment(steps[-1]))
    fresh.put_many(packed(view, whole))
    valid = {entity for entity, _ in fresh.scan(view.name)}
    assert {e: v for e, v in store.scan(view.name) if e in valid} == dict(fresh.scan(view.name))
    history_store = MemoryOnline()  # and values that come from a history are ordered alike
    history_store.put_many(packed(view, known_at(view, history(view, rows), moment(steps[-1]))))
    assert dict(history_store.scan(view.name)) == dict(fresh.scan(view.name))


def test_a_source_without_a_column_of_the_view_is_named() -> None:
    with pytest.raises(DataError, match="Column 'word' is missing"):
        latest(VIEWS["last"], frame([(0, "a", 1, 0.0, 0.0, 1.0)]).drop("word").lazy(), moment(10))


def test_windows_and_functions_are_not_brought_forward_by_new_rows_alone() -> None:
    assert [name for name, view in VIEWS.items() if not incremental(view)] == ["windows", "function", "corrected", "corrected windows"]
