"""THE promise of the feature room: what is joined to a row is what was KNOWN at its moment, and nothing that became known later.

Random tables, with rows that become known late and out of order, are joined by the product and by an oracle that does it the slow and plain
way: it looks at nothing but the rows with known_time <= moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle as tr
from treadle.core.declare.data import View
from treadle.core.errors import DataError, ProjectError
from treadle.features.history import AT, history, join, known_at

START = datetime(2013, 1, 1, tzinfo=UTC)
EVENT_SCHEMA = {"place": pl.String, "zone": pl.Int64, "at": pl.Datetime("us", "UTC"), "known": pl.Datetime("us", "UTC"), "x": pl.Float64}
ROW_SCHEMA = {"id": pl.Int64, "place": pl.String, "zone": pl.Int64, "asked": pl.Datetime("us", "UTC")}


@dataclass(frozen=True)
class Fact:
    """One row of the source; moments in minutes after START."""

    place: str | None
    zone: int | None
    at: float
    known: float | None
    x: float | None


def moment(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def table(facts: list[Fact]) -> pl.DataFrame:
    rows = [(f.place, f.zone, moment(f.at), None if f.known is None else moment(f.known), f.x) for f in facts]
    return pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row")


def asked(rows: list[tuple[str | None, int | None, float]]) -> pl.DataFrame:
    return pl.DataFrame([(i, p, z, moment(m)) for i, (p, z, m) in enumerate(rows)], schema=ROW_SCHEMA, orient="row")


def view_of(**says: Any) -> View:
    project = tr.Project("p")
    source = project.dataset("facts", source=tr.rows(list), key="x", event_time="at", known_time="known")
    return project.view("v", source=source, entity=("place", "zone"), **says)


# Few places and coarse minutes, so that ties and meetings are common; odd microseconds, so that no rounding goes unseen.
minutes = st.integers(-300, 300).map(float) | st.sampled_from([0.0, 60.0, 120.0, 60 + 1 / 60e6, 60 - 1 / 60e6, 119.99999998333333])
places, zones = st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, None])
facts = st.lists(
    st.builds(
        lambda place, zone, at, delay, x: Fact(place, zone, at, None if delay is None else at + delay, x),
        places, zones, minutes, st.none() | st.sampled_from([0.0, 0.0, 1.0, 30.0, 60.0, 500.0, -60.0]), st.none() | st.integers(0, 9).map(float),
    ), max_size=25,
)  # fmt: skip
questions = st.lists(st.tuples(places, zones, minutes), min_size=1, max_size=12)
ttls = st.none() | st.sampled_from([1, 60, 200])


def latest(facts: list[Fact], place: str | None, zone: int | None, now: datetime, ttl: int | None) -> float | None:
    """The oracle: of the facts known now, the value of the one with the latest event (told last, if several), if it is not too old."""
    if place is None or zone is None:
        return None
    known = [f for f in facts if (f.place, f.zone) == (place, zone) and f.known is not None and moment(f.known) <= now]
    if not known:
        return None
    newest = max(enumerate(known), key=lambda pair: (pair[1].at, pair[1].known, pair[0]))[1]
    return None if ttl is not None and moment(newest.at) + timedelta(minutes=ttl) < now else newest.x


def windowed(facts: list[Fact], place: str | None, zone: int | None, now: datetime, window: int, every: int) -> tuple[int | None, float | None]:
    """The oracle: how many rows became known in (g - window, g], and the mean of their x; g is the last full `every` at or before now."""
    if place is None or zone is None:
        return None, None
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    g = epoch + (now - epoch) // timedelta(minutes=every) * timedelta(minutes=every)
    inside = [f for f in facts if (f.place, f.zone) == (place, zone) and f.known is not None and g - timedelta(minutes=window) < moment(f.known) <= g]
    values = [f.x for f in inside if f.x is not None]
    return len(inside) or None, sum(values) / len(values) if values else None


@settings(max_examples=250)
@given(facts, questions, ttls)
def test_the_latest_value_is_that_of_the_oracle(facts: list[Fact], rows: list[tuple[str | None, int | None, float]], ttl: int | None) -> None:
    view = view_of(features=["x"], ttl=None if ttl is None else f"{ttl}m")
    joined = join(asked(rows), "asked", view, history(view, table(facts)))
    assert joined["x"].to_list() == [latest(facts, p, z, moment(m), ttl) for p, z, m in rows]
    assert joined.drop("x").equals(asked(rows))  # no row lost, none doubled, none moved


@settings(max_examples=250)
@given(facts, questions, st.sampled_from([(60, 60), (120, 60), (90, 30), (60, 1), (1440, 1440)]))
def test_a_windowed_aggregate_is_that_of_the_oracle(
    facts: list[Fact], rows: list[tuple[str | None, int | None, float]], sizes: tuple[int, int]
) -> None:
    window, every = sizes
    view = view_of(features={"n": pl.len(), "mean": pl.col("x").mean()}, window=f"{window}m", every=f"{every}m")
    joined = join(asked(rows), "asked", view, history(view, table(facts)))
    expected = [windowed(facts, p, z, moment(m), window, every) for p, z, m in rows]
    assert joined["n"].to_list() == [n for n, _ in expected]
    assert all((a is None) == (b is None) and (a is None or math.isclose(a, b)) for a, (_, b) in zip(joined["mean"].to_list(), expected, strict=True))
    assert joined.drop("n", "mean").equals(asked(rows))


KINDS: list[dict[str, Any]] = [
    {"features": ["x"], "ttl": "1h"}, {"features": ["x"]},
    {"features": {"n": pl.len(), "top": pl.col("x").max()}, "window": "2h", "every": "1h"},
]  # fmt: skip


@settings(max_examples=150)
@given(facts, questions, st.sampled_from(KINDS), st.data())
def test_nothing_that_became_known_later_changes_what_is_joined(
    facts: list[Fact], rows: list[tuple[str | None, int | None, float]], says: dict[str, Any], data: st.DataObject
) -> None:
    view = view_of(**says)
    before = join(asked(rows), "asked", view, history(view, table(facts)))
    for i, (_, _, now) in enumerate(rows):
        rewritten = []
        for fact in facts:
            if fact.known is not None and moment(fact.known) <= moment(now):
                rewritten.append(fact)
            elif data.draw(st.booleans()):  # deleted, or else changed in every way but its being later
                later = now + data.draw(st.sampled_from([1.0, 60.0, 1 / 60e6 * 2]))
                rewritten.append(Fact(data.draw(places), data.draw(zones), data.draw(minutes), later, data.draw(st.floats(100, 200))))
        after = join(asked(rows), "asked", view, history(view, table(rewritten)))
        assert after.row(i) == before.row(i)


@settings(max_examples=100)
@given(facts, minutes, st.sampled_from(KINDS))
def test_what_an_online_store_holds_at_a_moment_is_what_is_joined_then(facts: list[Fact], now: float, says: dict[str, Any]) -> None:
    view = view_of(**says)
    values = history(view, table(facts))
    rows = asked([(p, z, now) for p in ("a", "b") for z in (1, 2)])
    names = list(view.feature_names())
    joined = {(r["place"], r["zone"]): [r[n] for n in names] for r in join(rows, "asked", view, values).to_dicts()}
    held = {(r["place"], r["zone"]): [r[n] for n in names] for r in known_at(view, values, moment(now)).to_dicts()}
    assert {k: v for k, v in joined.items() if any(x is not None for x in v)} == {
        k: v for k, v in held.items() if None not in k and any(x is not None for x in v)
    }


def test_a_value_holds_to_the_last_microsecond_of_its_ttl() -> None:
    view = view_of(features=["x"], ttl="1h")
    values = history(view, table([Fact("a", 1, 0, 0, 7.0)]))
    rows = asked([("a", 1, m) for m in (-1 / 60e6, 0, 60, 60 + 1 / 60e6)])
    assert join(rows, "asked", view, values)["x"].to_list() == [None, 7.0, 7.0, None]


def test_news_that_were_overtaken_before_they_arrived_are_never_the_latest() -> None:
    view = view_of(features=["x"])
    values = history(view, table([Fact("a", 1, 10, 20, 1.0), Fact("a", 1, 0, 30, 2.0), Fact("a", 1, 11, 40, 3.0)]))
    assert join(asked([("a", 1, m) for m in (19, 20, 35, 40)]), "asked", view, values)["x"].to_list() == [None, 1.0, 1.0, 3.0]


def test_a_row_without_a_moment_is_kept_and_gets_nothing() -> None:
    view = view_of(features=["x"])
    rows = pl.DataFrame([(0, "a", 1, None), (1, "a", 1, moment(5))], schema=ROW_SCHEMA, orient="row")
    joined = join(rows, "asked", view, history(view, table([Fact("a", 1, 0, 0, 7.0)])))
    assert (joined["id"].to_list(), joined["x"].to_list()) == ([0, 1], [None, 7.0])


def test_an_empty_source_gives_nulls() -> None:
    for says in KINDS:
        view = view_of(**says)
        joined = join(asked([("a", 1, 0)]), "asked", view, history(view, table([])))
        assert joined.height == 1
        assert set(joined.select(view.feature_names()).row(0)) == {None}


def test_facts_without_a_time_hold_always() -> None:
    project = tr.Project("p")
    source = project.dataset("places", source=tr.rows(list), key="place")
    view = project.view("v", source=source, entity="place", features=["height"])
    values = history(view, pl.DataFrame({"place": ["a", "b", "a"], "height": [1.0, 2.0, 3.0]}))
    rows = pl.DataFrame({"place": ["b", "a", "c"], "asked": [moment(0)] * 3})
    assert join(rows, "asked", view, values)["height"].to_list() == [2.0, 3.0, None]


def test_without_known_time_an_event_is_known_when_it_happens() -> None:
    project = tr.Project("p")
    source = project.dataset("facts", source=tr.rows(list), key="x", event_time="at")
    view = project.view("v", source=source, entity="place", features=["x"])
    values = history(view, table([Fact("a", 1, 10, 99, 1.0)]))
    rows = asked([("a", 1, 9), ("a", 1, 10)])
    assert join(rows, "asked", view, values)["x"].to_list() == [None, 1.0]


def test_a_window_that_the_grid_does_not_divide_is_refused() -> None:
    for window, every in (("90m", "1h"), ("30m", "1h"), ("65m", "1m")):
        with pytest.raises(ProjectError, match=r"is not a multiple of every=.*For example"):
            history(view_of(features={"n": pl.len()}, window=window, every=every), table([]))


def test_a_missing_column_is_named() -> None:
    frame = table([Fact("a", 1, 0, 0, 1.0)])
    with pytest.raises(DataError, match="The entity column 'zone' is missing"):
        history(view_of(features=["x"]), frame.drop("zone"))
    with pytest.raises(DataError, match="Column 'y' is missing"):
        history(view_of(features={"n": pl.col("y").sum()}, window="1h", every="1h"), frame)
    with pytest.raises(DataError, match="Column 'y' is missing"):
        history(view_of(features=["y"]), frame)


def test_the_history_is_sorted_by_the_moment_of_knowing() -> None:
    for says in KINDS:
        view = view_of(**says)
        values = history(view, table([Fact("a", 1, 50, 90, 1.0), Fact("b", 1, 0, 20, 2.0), Fact("a", 1, 60, 70, 3.0)]))
        assert values[AT].is_sorted()
