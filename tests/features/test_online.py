"""The online store, brought forward as time goes on, holds at each moment what training joined for that moment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle as tr
from treadle.backends.memory_online import MemoryOnline
from treadle.backends.sqlite_online import SqliteOnline
from treadle.core.declare.data import View
from treadle.core.declare.model import Model
from treadle.features import online, parity
from treadle.features.history import history, known_at
from treadle.features.online import Materialiser, entity_key, packed, read
from treadle.features.rows import model_rows, signature
from treadle.ports.online import Key, OnlineStore, Value
from treadle.serving.requests import micros

START = datetime(2013, 1, 1, tzinfo=UTC)
SCHEMA = {"id": pl.Int64, "place": pl.String, "zone": pl.Int64, "at": pl.Datetime("us", "UTC"), "known": pl.Datetime("us", "UTC"), "x": pl.Float64, "word": pl.String}


def moment(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def frame(facts: list[tuple[str, int, float, float, float | None]]) -> pl.DataFrame:
    rows = [(i, p, z, moment(at), moment(at + late), x, None if x is None else f"w{x:.0f}") for i, (p, z, at, late, x) in enumerate(facts)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


class World:
    """A data set of facts, a latest-value view and a windowed one over it, and a model of its rows."""

    def __init__(self) -> None:
        project = tr.Project("p")
        self.source = project.dataset("facts", source=tr.rows(list), key="id", event_time="at", known_time="known")
        self.last: View = project.view("last", source=self.source, entity=("place", "zone"), features=["x", "word"], ttl="2h")
        self.count: View = project.view(
            "count", source=self.source, entity="place", window="2h", every="1h", features={"n": pl.len(), "mean": pl.col("x").mean()}
        )
        self.model: Model = project.model("m", rows=self.source, target="x", inputs=["zone", tr.hour("at")], views=[self.last, self.count])

    def histories(self, rows: pl.DataFrame) -> list[tuple[View, pl.DataFrame]]:
        return [(view, history(view, rows)) for view in (self.last, self.count)]


def held(store: OnlineStore, view: View, entities: list[tuple[Any, ...]], now: datetime) -> dict[tuple[Any, ...], list[Any]]:
    """What a server finds in the store."""
    found = store.get_many([Key(view.name, entity_key(entity)) for entity in entities])
    values = {entity: read(value, micros(now)) for entity, value in zip(entities, found, strict=True)}
    return {entity: value for entity, value in values.items() if value is not None}


def known(view: View, values: pl.DataFrame, now: datetime) -> dict[tuple[Any, ...], list[Any]]:
    """What training says is known."""
    rows = known_at(view, values, now).select(*view.entity, *view.feature_names()).rows()
    n = len(view.entity)
    return {row[:n]: [float(v) if isinstance(v, int) else v for v in row[n:]] for row in rows}


facts = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]), st.sampled_from([1, 2]), st.integers(0, 400).map(float) | st.sampled_from([60.0, 1 / 60e6, 119.99999998333333]),
        st.sampled_from([0.0, 5.0, 61.0, 200.0]), st.none() | st.integers(0, 9).map(float),
    ), min_size=1, max_size=30,
)  # fmt: skip
steps = st.lists(st.integers(-10, 700).map(float) | st.sampled_from([60.0, 60 + 1 / 60e6, 1 / 60e6]), min_size=1, max_size=8).map(sorted)


@settings(max_examples=120)
@given(facts, steps, st.sampled_from([1, 3, 4096]), st.booleans())
def test_step_by_step_the_store_holds_what_is_known_at_each_moment(
    facts: list[tuple[str, int, float, float, float | None]], steps: list[float], chunk: int, filled: bool
) -> None:
    world = World()
    histories = world.histories(frame(facts))
    store = MemoryOnline()
    material = Materialiser(store, histories)
    before, online.CHUNK = online.CHUNK, chunk  # small, so that a few rows are several chunks
    try:
        for i, step in enumerate(steps):
            material.fill(moment(step)) if filled and i == 0 else material.advance(moment(step))
            for view, values in histories:
                entities = [("a", 1), ("a", 2), ("b", 1), ("b", 2)] if view is world.last else [("a",), ("b",)]
                assert held(store, view, entities, moment(step)) == known(view, values, moment(step))
                newest = store.newest(view.name)
                assert newest is None or newest <= micros(moment(step))  # never a value of the future
    finally:
        online.CHUNK = before


def test_the_same_store_on_disk_holds_the_same(tmp_path: Path) -> None:
    world = World()
    rows = frame([("a", i % 2, 13.0 * i, 7.0 * (i % 5), float(i)) for i in range(60)])
    histories = world.histories(rows)
    stores: list[OnlineStore] = [MemoryOnline(), SqliteOnline(tmp_path / "online.db")]
    for store in stores:
        material = Materialiser(store, histories)
        material.fill(moment(100))
        material.advance(moment(555))
    keys = [Key("last", entity_key(("a", z))) for z in (0, 1)] + [Key("count", "a"), Key("count", "b")]
    assert stores[0].get_many(keys) == stores[1].get_many(keys)


def test_a_value_is_read_from_its_moment_until_it_ends() -> None:
    world = World()
    values = history(world.last, frame([("a", 1, 0, 10, 7.0)]))
    ((key, value),) = packed(world.last, values)
    assert key == Key("last", "a\x1f1")
    at, end = micros(moment(10)), micros(moment(120))
    assert [read(value, t) for t in (at - 1, at, end, end + 1)] == [None, [7.0, "w7"], [7.0, "w7"], None]
    assert read(None, at) is None


def test_a_value_without_an_end_holds_on() -> None:
    project = tr.Project("p")
    source = project.dataset("facts", source=tr.rows(list), key="id", event_time="at")
    view = project.view("v", source=source, entity="place", features=["x"])
    ((_, value),) = packed(view, history(view, frame([("a", 1, 0, 0, 7.0)])))
    assert read(value, 2**62) == [7.0]


def test_whole_numbers_and_truths_are_stored_as_floats_and_missing_stays_missing() -> None:
    project = tr.Project("p")
    source = project.dataset("facts", source=tr.rows(list), key="id", event_time="at")
    view = project.view("v", source=source, entity="place", features=["zone", "yes", "x"])
    rows = frame([("a", 3, 0, 0, None)]).with_columns(yes=pl.lit(True))
    ((_, value),) = packed(view, history(view, rows))
    found = read(value, micros(moment(1)))
    assert found == [3.0, 1.0, None]
    assert [type(v) for v in found or []] == [float, float, type(None)]


@pytest.mark.parametrize(
    ("values", "dtype", "sent"),
    [
        ([7, -3, 2**53], pl.Int64, [7.0, -3.0, float(2**53)]),
        ([1, 2, 3], pl.UInt8, [1.0, 2.0, 3.0]),
        ([1.0, 1.5, -0.0], pl.Float64, [1.0, 1.5, 0.0]),
        ([True, False], pl.Boolean, [1.0, 0.0]),
        (["1", "1.0", "é"], pl.String, ["1", "1.0", "é"]),
    ],
)
def test_an_entity_is_spelled_the_same_by_the_store_and_by_a_request(values: list[Any], dtype: Any, sent: list[Any]) -> None:
    """A request carries every number as a float."""
    project = tr.Project("p")
    source = project.dataset("facts", source=tr.rows(list), key="id", event_time="at")
    view = project.view("v", source=source, entity=("who", "place"), features=["x"])
    rows = frame([("a", 1, float(i), 0, float(i)) for i in range(len(values))]).with_columns(who=pl.Series(values, dtype=dtype))
    keys = [key.entity for key, _ in packed(view, history(view, rows))]
    assert keys == [entity_key([value, "a"]) for value in sent]


def test_an_entity_that_is_missing_is_not_stored() -> None:
    world = World()
    values = history(world.last, frame([("a", 1, 0, 0, 7.0)]).with_columns(place=pl.lit(None, pl.String)))
    assert list(packed(world.last, values)) == []


def checked(world: World, rows: pl.DataFrame, wrong: Mapping[str, Any] | None = None) -> tuple[int, list[parity.Mismatch]]:
    """Parity of a server made of the same parts as the real one; `wrong` makes it answer a feature with something else."""
    from treadle.features import derived

    views = world.histories(rows)
    request, features = signature(world.model, rows, views)
    names = [f.name for f in features]
    store = MemoryOnline()

    def serve(sent: Mapping[str, Any]) -> list[Any]:
        at = micros(datetime.fromisoformat(sent["at"]))
        values: dict[str, Any] = {**sent, "at": at, **derived_values({**sent, "at": at})}
        for view in (world.last, world.count):
            found = read(store.get_many([Key(view.name, entity_key([sent[c] for c in view.entity]))])[0], at)
            values.update(zip(view.feature_names(), found or [None] * 9, strict=False))
        return [(wrong or {}).get(name, values.get(name)) for name in names]

    def derived_values(sent: Mapping[str, Any]) -> dict[str, Any]:
        return {f.name: derived.function(f.rule)(sent) for f in features if f.source == "derived"}

    table = model_rows(world.model, rows, views)
    return parity.check(world.model, rows, table, views, store, [f.name for f in request], names, serve)


ROWS = frame([("ab"[i % 2], i % 3 % 2, 13.0 * i, 7.0 * (i % 5), float(i % 7) if i % 11 else None) for i in range(400)])


def test_rows_served_as_in_production_have_the_features_of_training() -> None:
    served, mismatches = checked(World(), ROWS)
    assert mismatches == []
    assert served >= 70


@pytest.mark.parametrize(("feature", "value"), [("x", -1.0), ("word", "other"), ("n", None), ("at_hour", 25.0), ("mean", float("nan"))])
def test_a_feature_that_is_served_otherwise_is_found_and_named(feature: str, value: Any) -> None:
    served, mismatches = checked(World(), ROWS, {feature: value})
    assert {m.feature for m in mismatches} == {feature}
    assert len(mismatches) > served / 2
    assert all(m.serving is value for m in mismatches)


def test_a_view_that_is_never_brought_forward_is_found() -> None:
    world = World()
    views = world.histories(ROWS)
    request, features = signature(world.model, ROWS, views)
    names = [f.name for f in features]
    store = MemoryOnline()

    def serve(sent: Mapping[str, Any]) -> list[Any]:
        at = micros(datetime.fromisoformat(sent["at"])) - 3_600_000_000  # a server that lags an hour behind
        found = read(store.get_many([Key("last", entity_key([sent["place"], sent["zone"]]))])[0], at)
        return [dict(zip(("x", "word"), found or [None, None], strict=True)).get(name) for name in names]

    _, mismatches = parity.check(world.model, ROWS, model_rows(world.model, ROWS, views), views, store, [f.name for f in request], names, serve)
    assert "x" in {m.feature for m in mismatches}


def test_a_request_leaves_out_what_is_missing() -> None:
    row = {"a": None, "b": float("nan"), "at": START, "c": 3, "d": "", "more": 1}
    assert parity.request_of(row, ["a", "b", "at", "c", "d", "not there"]) == {"at": START.isoformat(), "c": 3, "d": ""}


def test_a_store_given_back_an_older_value_keeps_the_newer() -> None:
    store = MemoryOnline()
    store.put_many([(Key("v", "a"), Value(10, b"new"))])
    store.put_many([(Key("v", "a"), Value(9, b"old"))])
    assert store.get_many([Key("v", "a")]) == [Value(10, b"new")]


def test_a_value_of_numbers_alone_takes_eight_bytes_a_feature_and_is_read_as_any_other() -> None:
    at, until = micros(moment(0)), micros(moment(60))
    view = tr.Project("p").view("v", source=World().source, entity="place", features=["x", "y"])
    times = {"__at__": [moment(0)] * 3, "__until__": [moment(60), None, moment(60)]}
    schema = {"__at__": pl.Datetime("us", "UTC"), "__until__": pl.Datetime("us", "UTC")}
    values = pl.DataFrame({"place": ["a", "b", "c"], **times, "x": [1.5, float("nan"), None], "y": [True, False, True]}, schema_overrides=schema)
    stored = {key.entity: value for key, value in packed(view, values)}
    assert [len(stored[e].packed) for e in "ab"] == [25, 25]
    assert read(stored["a"], at) == [1.5, 1.0]
    assert read(stored["a"], until - 1) == [1.5, 1.0]
    assert read(stored["a"], until) is None
    assert str(read(stored["b"], 2**62)) == "[nan, 0.0]"
    assert read(stored["c"], at) == [None, 1.0]
    store = MemoryOnline()
    store.put_many((Key("v", e), v) for e, v in stored.items())
    found = online.look_up(store, [view], [{"place": "a"}, {"place": "c"}, {"place": "d"}], moment(1))
    assert [answer["v"].values for answer in found] == [{"x": 1.5, "y": 1.0}, {"x": None, "y": 1.0}, {"x": None, "y": None}]
    assert found[0]["v"].age == 60
    assert online.look_up(store, [view], [{"place": "a"}], moment(60))[0]["v"].missing == online.TOO_OLD
