"""What stands on what: exact for expressions, tried out for functions; and what breaks when a column goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

import treadle as tr
from treadle.core.declare.project import Project
from treadle.core.errors import NotFound, ProjectError
from treadle.features.graph import edges, features, uses

START = datetime(2013, 1, 1, tzinfo=UTC)
SAMPLE = pl.DataFrame(
    {
        "id": list(range(40)), "place": [("a", "b")[i % 2] for i in range(40)], "at": [START + timedelta(hours=i) for i in range(40)],
        "known": [START + timedelta(hours=i + 1) for i in range(40)], "x": [float(i * 7 % 11) for i in range(40)], "y": [float(i) for i in range(40)],
        "z": [1.0] * 40, "late": [i % 3 == 0 for i in range(40)],
    }
)  # fmt: skip


def project() -> Project:
    made = tr.Project("p", owner="the desk")
    facts = made.dataset(
        "facts", source=tr.rows(list), key="id", event_time="at", known_time="known", exclude={"no y": pl.col("y").is_null()},
        contract=tr.Contract({"x": tr.number()}, rules={"z is one": pl.col("z") == 1}),
    )  # fmt: skip
    means = made.view(
        "means", source=facts, entity="place", window="3h", every="1h", features={"m": pl.col("x").mean(), "n": pl.len(), "week": tr.within("6h", pl.col("y").max())},
        descriptions={"m": "mean of x"}, owner="ops",
    )  # fmt: skip
    last = made.view("last", source=facts, entity="place", features=["z"])

    @made.view(source=facts, entity="place", features=["total", "steps"])
    def sums(rows: pl.LazyFrame) -> pl.LazyFrame:
        """Sums so far."""
        return rows.sort("known").with_columns(total=pl.col("x").cum_sum().over("place"), steps=pl.col("id").cum_count().over("place"))

    made.model("m", rows=facts, target="late", inputs=["y", tr.formula("ratio", "y / m"), tr.hour("at")], views=[means, last, sums], slices=["place"])
    return made


def names(column: str, **says: object) -> set[tuple[str, str]]:
    return {(u.kind, u.name) for u in uses(project(), "facts", column, SAMPLE, {"m": [3]}, **says)}  # type: ignore[arg-type]


def test_an_aggregate_uses_what_its_expression_reads_and_no_more() -> None:
    made = {f.name: set(f.columns) for f in features(project(), {"facts": SAMPLE})}
    assert made["m"] == {"facts.place", "facts.known", "facts.x"}
    assert made["n"] == {"facts.place", "facts.known"}
    assert made["week"] == {"facts.place", "facts.known", "facts.y"}


def test_what_a_function_reads_is_found_by_trying() -> None:
    made = {f.name: set(f.columns) for f in features(project(), {"facts": SAMPLE})}
    assert made["total"] - {"facts.place", "facts.at", "facts.known"} == {"facts.x"}
    assert "facts.x" not in made["steps"]
    assert "facts.z" not in made["total"] | made["steps"]


def test_a_formula_uses_columns_and_features_of_views() -> None:
    made = {f.name: f for f in features(project())}
    assert set(made["ratio"].columns) == {"facts.y", "means.m"}
    assert (made["ratio"].kind, made["ratio"].description) == ("formula", "y / m")
    assert (made["m"].owner, made["m"].description, made["z"].owner, made["total"].description) == ("ops", "mean of x", "the desk", "Sums so far.")


def test_what_breaks_without_a_column_goes_all_the_way_to_what_answers() -> None:
    assert names("x") == {
        ("contract", "facts"), ("feature", "means.m"), ("feature", "sums.total"), ("formula", "m.ratio"), ("model", "m"), ("deployment", "m version 3"),
    }  # fmt: skip
    assert names("z") == {("contract", "facts"), ("feature", "last.z"), ("model", "m"), ("deployment", "m version 3")}
    assert names("y") == {("data set", "facts"), ("feature", "means.week"), ("formula", "m.ratio"), ("model", "m"), ("deployment", "m version 3")}
    assert {("view", "means"), ("view", "last"), ("view", "sums")} <= names("place")


def test_a_column_nothing_uses_breaks_nothing_and_one_that_is_not_there_is_named() -> None:
    assert uses(project(), "facts", "more", SAMPLE.with_columns(more=1)) == []
    with pytest.raises(NotFound, match="has no column 'nothing'"):
        uses(project(), "facts", "nothing", SAMPLE)
    with pytest.raises(NotFound, match="There is no data set 'fact'"):
        uses(project(), "fact", "x")


def test_without_rows_a_function_is_said_to_be_uncertain() -> None:
    found = [u for u in uses(project(), "facts", "x") if u.name == "sums"]
    assert [(u.kind, u.sure) for u in found] == [("view", False)]


def test_the_graph_has_no_circle_and_joins_columns_to_models() -> None:
    from graphlib import TopologicalSorter

    found = edges(project(), {"m": [3]}, {"facts": SAMPLE})
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for a, b in found:
        sorter.add(b, a)
    order = list(sorter.static_order())
    assert order.index("column:facts.x") < order.index("feature:means.m") < order.index("formula:m.ratio") < order.index("model:m") < order.index("version:m.v3")


def test_a_description_of_no_feature_is_refused() -> None:
    made = tr.Project("p")
    facts = made.dataset("facts", source=tr.rows(list), key="id", event_time="at")
    with pytest.raises(ProjectError, match="describes 'm', which is no feature of it"):
        made.view("v", source=facts, entity="place", features=["x"], descriptions={"m": "?"})
