"""Point-in-time correctness, proven: whatever the history, what is joined to a row is what an oracle says that knows nothing but the definition.

The oracle looks at the messages known at the moment and at nothing else: of each fact the version told last, and of those the definition's answer.
Messages come late, out of order, twice, corrected in value, in event time, in entity, or withdrawn; moments tie; values, entities and times are missing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import treadle as tr
from treadle.backends.memory_online import MemoryOnline
from treadle.core.declare.data import View
from treadle.features.history import fact_of, history, join, join_all, known_at
from treadle.features.online import Materialiser, entity_key, read
from treadle.ports.online import Key

START = datetime(2013, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)


@dataclass(frozen=True)
class Message:
    """What was told of a fact: minutes after START."""

    fact: int
    place: str | None
    zone: int | None
    at: float | None
    known: float | None
    x: float | None
    word: str | None = None

    def __post_init__(self) -> None:
        # Whole microseconds, as a table has them: of two floats beside each other one would else be later here and at the same moment there.
        for name in ("at", "known"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else round(value * 60e6) / 60e6)


def moment(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


SCHEMA = {
    "id": pl.Int64, "place": pl.String, "zone": pl.Int64, "at": pl.Datetime("us", "UTC"), "known": pl.Datetime("us", "UTC"), "x": pl.Float64, "word": pl.String,
}  # fmt: skip


def table(messages: list[Message]) -> pl.DataFrame:
    rows = [
        (m.fact, m.place, m.zone, None if m.at is None else moment(m.at), None if m.known is None else moment(m.known), m.x, m.word) for m in messages
    ]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.sort("at", "id", "known", maintain_order=True)  # as a version of a data set is


def asked(rows: list[tuple[str | None, int | None, float | None]]) -> pl.DataFrame:
    schema = {"place": pl.String, "zone": pl.Int64, "asked": pl.Datetime("us", "UTC")}
    return pl.DataFrame([(p, z, None if m is None else moment(m)) for p, z, m in rows], schema=schema, orient="row")


def a_view(**says: Any) -> View:
    project = tr.Project("p")
    source = project.dataset("facts", source=tr.rows(list), key=("id", "known"), event_time="at", known_time="known")
    return project.view("v", source=source, entity=("place", "zone"), **says)


def once(messages: list[Message]) -> list[Message]:
    """A data set has one row for a key: of two messages of one fact at one moment the first is kept, the other set aside."""
    seen: dict[tuple[int, float | None], Message] = {}
    for m in messages:
        seen.setdefault((m.fact, m.known), m)
    return list(seen.values())


# The oracle. --------------------------------------------------------------------------------------------------------------------


def told_by(messages: list[Message], now: datetime) -> list[Message]:
    """Of each fact what was told of it last, by `now`."""
    last: dict[int, Message] = {}
    for m in sorted((m for m in messages if m.known is not None and moment(m.known) <= now), key=lambda m: m.known or 0.0):
        last[m.fact] = m
    return list(last.values())


def latest(messages: list[Message], place: str | None, zone: int | None, now: datetime, ttl: float | None) -> tuple[float | None, str | None]:
    here = [m for m in told_by(messages, now) if (m.place, m.zone) == (place, zone) and m.at is not None]
    if place is None or zone is None or not here:
        return None, None
    newest = max(here, key=lambda m: (m.at, m.known, m.fact))
    if ttl is not None and moment(newest.at or 0.0) + timedelta(minutes=ttl) < now:
        return None, None
    return newest.x, newest.word


def windowed(messages: list[Message], place: str | None, zone: int | None, now: datetime, window: float, every: float) -> tuple[Any, ...]:
    """(how many, mean, largest) of the facts first told of in (g - window, g], with what was told last by g; g is the last grid point by now."""
    if place is None or zone is None:
        return None, None, None
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    g = epoch + (now - epoch) // timedelta(minutes=every) * timedelta(minutes=every)
    first = {}
    for m in messages:
        if m.known is not None:
            first[m.fact] = min(first.get(m.fact, math.inf), m.known)
    inside = [m for m in told_by(messages, g) if (m.place, m.zone) == (place, zone) and moment(first[m.fact]) > g - timedelta(minutes=window)]
    values = [m.x for m in inside if m.x is not None]
    return len(inside) or None, sum(values) / len(values) if values else None, max(values, default=None)


# Histories. ---------------------------------------------------------------------------------------------------------------------

minutes = st.integers(-300, 300).map(float) | st.sampled_from([0.0, 60.0, 120.0, 60 + 1 / 60e6, 60 - 1 / 60e6, 119.99999998333333])
places, zones = st.sampled_from(["a", "b", None]), st.sampled_from([1, 1, 2, None])
values = st.none() | st.integers(0, 9).map(float)
words = st.sampled_from([None, "", "calm", "storm"])
messages = st.lists(
    st.builds(
        lambda fact, place, zone, at, delay, x, word: Message(fact, place, zone, at, None if delay is None else (at or 0.0) + delay, x, word),
        st.integers(0, 6), places, zones, st.none() | minutes, st.none() | st.sampled_from([0.0, 0.0, 1.0, 30.0, 60.0, 60.0, 500.0, -60.0]), values, words,
    ), max_size=25,
).map(once)  # fmt: skip
questions = st.lists(st.tuples(places, zones, st.none() | minutes), min_size=1, max_size=12)
TTLS = st.none() | st.sampled_from([1, 60, 200])
SIZES = st.sampled_from([(60, 60), (120, 60), (90, 30), (60, 1), (1440, 1440)])


def same(a: Any, b: Any) -> bool:
    return (a is None) == (b is None) and (a is None or (math.isclose(a, b) if isinstance(a, float) else a == b))


@settings(max_examples=400)
@given(messages, questions, TTLS)
def test_the_latest_value_is_the_oracles(messages: list[Message], rows: list[Any], ttl: int | None) -> None:
    view = a_view(features=["x", "word"], ttl=None if ttl is None else f"{ttl}m")
    joined = join(asked(rows), "asked", view, history(view, table(messages)))
    assert joined.select("x", "word").rows() == [(None, None) if m is None else latest(messages, p, z, moment(m), ttl) for p, z, m in rows]
    assert joined.drop("x", "word").equals(asked(rows))


@settings(max_examples=400)
@given(messages, questions, SIZES)
def test_an_aggregate_is_the_oracles(messages: list[Message], rows: list[Any], sizes: tuple[int, int]) -> None:
    window, every = sizes
    view = a_view(features={"n": pl.len(), "mean": pl.col("x").mean(), "top": pl.col("x").max()}, window=f"{window}m", every=f"{every}m")
    joined = join(asked(rows), "asked", view, history(view, table(messages)))
    expected = [(None,) * 3 if m is None else windowed(messages, p, z, moment(m), window, every) for p, z, m in rows]
    for found, wanted in zip(joined.select("n", "mean", "top").rows(), expected, strict=True):
        assert all(same(a, b) for a, b in zip(found, wanted, strict=True)), (found, wanted)


@settings(max_examples=200)
@given(messages, questions)
def test_two_windows_in_one_view_are_each_the_oracles(messages: list[Message], rows: list[Any]) -> None:
    view = a_view(features={"short": pl.len(), "long": tr.within("3h", pl.len()), "top": tr.within("3h", pl.col("x").max())}, window="1h", every="1h")
    joined = join(asked(rows), "asked", view, history(view, table(messages)))
    assert joined["short"].to_list() == [None if m is None else windowed(messages, p, z, moment(m), 60, 60)[0] for p, z, m in rows]
    assert joined.select("long", "top").rows() == [(None, None) if m is None else windowed(messages, p, z, moment(m), 180, 60)[::2] for p, z, m in rows]


@settings(max_examples=200)
@given(messages, questions)
def test_a_function_that_looks_back_is_the_oracles(messages: list[Message], rows: list[Any]) -> None:
    """How many messages of the entity had been told when this one was: corrections are messages too, as the function sees all of them."""

    def told(facts: pl.LazyFrame) -> pl.LazyFrame:
        told = facts.filter(pl.col("known").is_not_null(), pl.col("at").is_not_null())
        return told.with_columns(count=pl.struct("place", "zone", "known").rank("max").over("place", "zone").cast(pl.Int64))

    project = tr.Project("p")
    source = project.dataset("facts", source=tr.rows(list), key=("id", "known"), event_time="at", known_time="known")
    view = project.view(source=source, entity=("place", "zone"), features=["count"])(told)
    joined = join(asked(rows), "asked", view, history(view, table(messages)))
    for (place, zone, m), found in zip(rows, joined["count"].to_list(), strict=True):
        known = [] if m is None else [f for f in messages if f.known is not None and f.at is not None and moment(f.known) <= moment(m) and (f.place, f.zone) == (place, zone)]
        if not known or place is None or zone is None:
            assert found is None
        else:
            newest = max(known, key=lambda f: (f.at, f.known, f.fact))
            assert found == sum(f.known <= newest.known for f in known)  # type: ignore[operator]


@settings(max_examples=200)
@given(messages, questions, TTLS, st.integers(0, 240))
def test_what_a_store_that_was_filled_earlier_would_say_is_the_oracles(messages: list[Message], rows: list[Any], ttl: int | None, lag: int) -> None:
    """Values known by the filling, judged by their age at the question."""
    view = a_view(features=["x"], ttl=None if ttl is None else f"{ttl}m")
    frame = asked(rows).with_columns(told=pl.col("asked") - timedelta(minutes=lag))
    found = join_all(frame, "asked", [(view, history(view, table(messages)))], told="told")["x"].to_list()
    for (p, z, m), value in zip(rows, found, strict=True):
        if m is None or p is None or z is None:
            assert value is None
            continue
        here = [f for f in told_by(messages, moment(m - lag)) if (f.place, f.zone) == (p, z) and f.at is not None]
        newest = max(here, key=lambda f: (f.at, f.known, f.fact), default=None)
        too_old = newest is not None and ttl is not None and moment(newest.at or 0.0) + timedelta(minutes=ttl) < moment(m)
        assert value == (None if newest is None or too_old else newest.x)


class Living(RuleBasedStateMachine):
    """History as it is lived through: the clock goes on, messages arrive, the online store is brought forward, questions are asked and answered.

    At the end of each step the answers given live (from the store) and those the final history gives for the same moments are one and the same:
    what arrived later has changed nothing. Known times never lie before the clock.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.messages: list[Message] = []
        self.answers: list[tuple[str, int, float, list[list[Any] | None]]] = []
        self.views = [
            a_view(features=["x", "word"]), replace(a_view(features=["x", "word"], ttl="90m"), name="w"),
            replace(a_view(features={"n": pl.len(), "mean": pl.col("x").mean(), "long": tr.within("4h", pl.col("x").sum())}, window="2h", every="1h"), name="g"),
        ]  # fmt: skip

    @initialize()
    def begin(self) -> None:
        self.now = 0.0

    @rule(minutes=st.sampled_from([1 / 60e6, 1.0, 29.0, 60.0, 61.0, 200.0]))
    def time_goes_on(self, minutes: float) -> None:
        self.now = round((self.now + minutes) * 60e6) / 60e6

    @rule(fact=st.integers(0, 5), place=st.sampled_from("ab"), zone=st.sampled_from([1, 2]), ago=st.sampled_from([0.0, 0.0, 10.0, 60.0, 300.0]), x=values, word=words)
    def a_message_arrives(self, fact: int, place: str, zone: int, ago: float, x: float | None, word: str | None) -> None:
        if all((m.fact, m.known) != (fact, self.now) for m in self.messages):
            self.messages.append(Message(fact, place, zone, self.now - ago, self.now, x, word))

    @precondition(lambda self: self.messages)
    @rule(data=st.data(), x=values, withdrawn=st.booleans())
    def a_fact_is_corrected(self, data: st.DataObject, x: float | None, withdrawn: bool) -> None:
        old = data.draw(st.sampled_from(self.messages))
        if all((m.fact, m.known) != (old.fact, self.now) for m in self.messages):
            self.messages.append(replace(old, known=self.now, x=x, at=None if withdrawn else old.at))

    @rule(place=st.sampled_from("ab"), zone=st.sampled_from([1, 2]))
    def a_question_is_asked(self, place: str, zone: int) -> None:
        store = MemoryOnline()
        Materialiser(store, [(v, history(v, table(self.messages))) for v in self.views]).fill(moment(self.now))
        micros = (moment(self.now) - datetime(1970, 1, 1, tzinfo=UTC)) // MICRO
        said = [read(s, micros) for s in store.get_many([Key(v.name, entity_key([place, zone])) for v in self.views])]
        self.answers.append((place, zone, self.now, said))
        self.now += 1 / 60e6  # what is told at the very moment of a question counts for it; so nothing more is told then

    @invariant()
    def what_was_said_stands(self) -> None:
        if not self.answers:
            return
        rows = asked([(p, z, m) for p, z, m, _ in self.answers])
        for i, view in enumerate(self.views):
            joined = join(rows, "asked", view, history(view, table(self.messages))).select(view.feature_names()).rows()
            for (_, _, _, said), found in zip(self.answers, joined, strict=True):
                live = said[i] or [None] * len(found)
                assert all(same(None if a is None else float(a) if isinstance(a, int) else a, None if b is None else float(b) if isinstance(b, int) else b)
                           for a, b in zip(live, found, strict=True)), (view.name, live, found)  # fmt: skip


TestLiving = Living.TestCase
TestLiving.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@settings(max_examples=100)
@given(messages, minutes, TTLS)
def test_the_store_at_a_moment_holds_what_is_joined_then(messages: list[Message], now: float, ttl: int | None) -> None:
    view = a_view(features=["x", "word"], ttl=None if ttl is None else f"{ttl}m")
    made = history(view, table(messages))
    held = {(r["place"], r["zone"]): (r["x"], r["word"]) for r in known_at(view, made, moment(now)).to_dicts()}
    for place in "ab":
        for zone in (1, 2):
            assert held.get((place, zone), (None, None)) == latest(messages, place, zone, moment(now), ttl)


# In words. ----------------------------------------------------------------------------------------------------------------------


def asking(view: View, messages: list[Message], *when: float) -> list[Any]:
    (feature,) = view.feature_names()
    return join(asked([("a", 1, m) for m in when]), "asked", view, history(view, table(messages)))[feature].to_list()


def test_a_correction_counts_from_when_it_is_known_and_not_before() -> None:
    told = [Message(1, "a", 1, 0, 10, 5.0), Message(1, "a", 1, 0, 40, 7.0)]
    assert asking(a_view(features=["x"]), told, 9, 10, 39, 40) == [None, 5.0, 5.0, 7.0]


def test_a_corrected_fact_is_counted_once_with_the_value_known_at_the_grid_point() -> None:
    told = [Message(1, "a", 1, 0, 10, 5.0), Message(2, "a", 1, 0, 20, 1.0), Message(1, "a", 1, 0, 90, 7.0)]
    total = a_view(features={"sum": pl.col("x").sum()}, window="3h", every="1h")
    count = a_view(features={"n": pl.len()}, window="3h", every="1h")
    assert asking(total, told, 60, 120, 180) == [6.0, 8.0, 8.0]
    assert asking(count, told, 60, 120, 180) == [2, 2, 2]


def test_a_correction_does_not_bring_an_old_fact_into_a_new_window() -> None:
    told = [Message(1, "a", 1, 0, 10, 5.0), Message(1, "a", 1, 0, 500, 7.0)]
    assert asking(a_view(features={"n": pl.len()}, window="1h", every="1h"), told, 60, 540) == [1, None]


def test_a_fact_that_was_of_another_entity_leaves_it_when_that_is_told() -> None:
    told = [Message(1, "a", 1, 0, 10, 5.0), Message(2, "a", 1, -30, 5, 4.0), Message(1, "b", 1, 0, 40, 5.0)]
    assert asking(a_view(features=["x"]), told, 20, 40) == [5.0, 4.0]  # what was overtaken is the latest again
    assert asking(a_view(features={"n": pl.len()}, window="2h", every="30m"), told, 30, 60) == [2, 1]


def test_a_fact_that_is_withdrawn_is_known_no_more() -> None:
    told = [Message(1, "a", 1, 0, 10, 5.0), Message(1, "a", 1, None, 40, 5.0)]
    assert asking(a_view(features=["x"]), told, 20, 40) == [5.0, None]


@pytest.mark.parametrize(
    ("key", "known", "fact"),
    [(("id", "told"), "told", ("id",)), ("id", "told", ()), (("id", "at"), None, ()), (("id", "at"), "at", ()), (("id", "at", "told"), "told", ("id", "at"))],
)
def test_a_fact_is_named_by_the_key_without_the_known_time(key: Any, known: str | None, fact: tuple[str, ...]) -> None:
    source = tr.Project("p").dataset("facts", source=tr.rows(list), key=key, event_time="at", known_time=known)
    assert fact_of(source) == fact
