"""The rows of a model: what the caller sends, what is derived, what was known; in the order of the signature, none lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

import treadle as tr
from treadle.core.errors import DataError
from treadle.features.history import history
from treadle.features.rows import KEY, KNOWN, MOMENT, TARGET, model_rows, signature

START = datetime(2013, 1, 1, tzinfo=UTC)


def source(rows: int = 6) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": list(range(rows)), "place": [("a", None, "b")[i % 3] for i in range(rows)], "zone": [i % 2 for i in range(rows)],
            "at": [START + timedelta(hours=i) for i in range(rows)], "known": [START + timedelta(hours=i + 1) for i in range(rows)],
            "size": [None if i == 3 else i for i in range(rows)], "wet": [i % 2 == 0 for i in range(rows)],
            "late": [None if i == 5 else i % 2 == 0 for i in range(rows)],
        }
    ).with_columns(pl.col("at", "known").dt.cast_time_unit("us"))  # fmt: skip


class World:
    """A model of facts, with a windowed view over the same facts."""

    def __init__(self, **says: Any) -> None:
        project = tr.Project("p")
        self.facts = project.dataset(
            "facts", source=tr.rows(list), key=("id", "zone"), event_time="at", known_time="known",
            contract=tr.Contract({"size": tr.integer(ge=0, le=9, nullable=True), "place": tr.category()}),
        )  # fmt: skip
        count = project.view(
            "count", source=self.facts, entity=("place", "zone"), window="3h", every="1h", features={"n": pl.len(), "share": pl.col("late").mean()}
        )
        declared = {"inputs": ["size", "place", "zone", "wet", tr.hour("at")], "views": [count], "slices": ["place", "zone"]}
        self.model = project.model("m", rows=self.facts, target="late", **{**declared, **says})


def test_a_model_sees_numbers_as_floats_and_categories_as_text_with_blank_for_missing() -> None:
    world = World()
    view = world.model.views[0]
    frame = model_rows(world.model, source(), [(view, history(view, source()))])
    features = ["size", "place", "zone", "wet", "at_hour", "n", "share"]
    assert frame.columns == [KEY, MOMENT, KNOWN, TARGET, "slice:place", "slice:zone", *features]
    assert [frame.schema[f] for f in features] == [pl.Float64, pl.String, *[pl.Float64] * 5]
    assert frame["place"].to_list() == ["a", "", "b", "a", "", "b"]
    assert frame["size"].to_list() == [0, 1, 2, None, 4, 5]
    assert frame[KEY].to_list() == ["0|0", "1|1", "2|0", "3|1", "4|0", "5|1"]
    assert frame[TARGET].to_list() == [True, False, True, False, True, None]


def test_an_entity_that_is_also_an_input_is_looked_up_as_it_is_and_not_as_the_model_sees_it() -> None:
    """The model sees zone as a float and a missing place as blank text; neither is what the view is keyed by."""
    world = World()
    view = world.model.views[0]
    rows = source().with_columns(place=pl.lit("a"), zone=pl.lit(1, pl.Int64))
    frame = model_rows(world.model, rows, [(view, history(view, rows))])
    assert frame["n"].to_list() == [None, 1, 2, 3, 3, 3]
    blank = source().with_columns(place=pl.lit(None, pl.String), zone=pl.lit(1, pl.Int64))
    known = history(view, source().with_columns(place=pl.lit(""), zone=pl.lit(1, pl.Int64)))
    assert set(model_rows(world.model, blank, [(view, known)])["n"]) == {None}


def test_the_signature_says_what_to_send_and_what_is_looked_up() -> None:
    world = World()
    view = world.model.views[0]
    request, features = signature(world.model, source(), [(view, history(view, source()))])
    assert {f.name: (f.kind, f.nullable) for f in request} == {
        "size": ("integer", True), "place": ("category", False), "zone": ("integer", True), "wet": ("boolean", True), "at": ("timestamp", True),
    }  # fmt: skip
    assert next((f.ge, f.le) for f in request if f.name == "size") == (0, 9)
    assert [(f.name, f.kind, f.source) for f in features] == [
        ("size", "number", "request"), ("place", "category", "request"), ("zone", "number", "request"), ("wet", "number", "request"),
        ("at_hour", "number", "derived"), ("n", "number", "view"), ("share", "number", "view"),
    ]  # fmt: skip


def test_an_entity_of_another_type_is_refused_and_named() -> None:
    world = World()
    view = world.model.views[0]
    values = history(view, source().with_columns(pl.col("zone").cast(pl.String)))
    with pytest.raises(DataError, match="The entity 'zone' of view 'count' is String in its source, but Int64 in 'facts'"):
        model_rows(world.model, source(), [(view, values)])
    with pytest.raises(DataError, match="but not there in 'facts'"):
        model_rows(World(inputs=["size"], slices=[]).model, source().drop("zone").with_columns(zone2=1), [(view, history(view, source()))])


@pytest.mark.parametrize(("column", "says"), [("late", "Column 'late' is missing"), ("wet", "Input 'wet' is missing"), ("place", "Column 'place' is missing")])
def test_a_column_that_is_missing_is_named_with_the_model(column: str, says: str) -> None:
    world = World(views=[])
    with pytest.raises(DataError, match=says) as caught:
        model_rows(world.model, source().drop(column), [])
    assert (caught.value.where or "").startswith("model 'm' (test_rows.py:")
