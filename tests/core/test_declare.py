"""Whatever is declared wrongly is refused as it is declared, with the line and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import treadle as tr
from treadle.core.declare.data import Dataset
from treadle.core.declare.model import Model
from treadle.core.errors import ProjectError
from treadle.project_file import load_project


class World:
    """A project with one data set and one model, to declare one more thing in."""

    def __init__(self) -> None:
        self.project = tr.Project("world")
        self.rows: Dataset = self.project.dataset("rows", source=tr.csv("rows.csv"), key="id", event_time="at")
        self.timeless: Dataset = self.project.dataset("timeless", source=tr.csv("rows.csv"), key="id")
        self.model: Model = self.project.model("first", rows=self.rows, target="y", inputs=["a"])

    def view(self, name: str = "v", **changes: Any) -> Any:
        return self.project.view(name, **{"source": self.rows, "entity": "place", "features": ["a"], **changes})

    def declare(self, name: str = "second", **changes: Any) -> Model:
        return self.project.model(name, **{"rows": self.rows, "target": "y", "inputs": ["a"], **changes})


BAD: list[tuple[str, Callable[[World], Any], str, str]] = [
    ("a project name with spaces", lambda w: tr.Project("My Project"), "'My Project' is not a name for a project", "lower-case words"),
    ("a data set name in capitals", lambda w: w.project.dataset("Rows", source=tr.csv("x"), key="id"), "'Rows' is not a name for a data set", "lower-case"),
    ("a name that is no text", lambda w: w.declare(name=3), "3 is not a name for a model", "lower-case"),
    ("a name that is too long", lambda w: w.declare(name="a" * 61), "is not a name for a model", "lower-case"),
    ("a view name with a dot", lambda w: w.view("a.b"), "'a.b' is not a name for a view", "lower-case"),
    ("a data set twice", lambda w: w.project.dataset("rows", source=tr.csv("x"), key="id"), "The data set 'rows' is declared twice", ""),
    ("a view twice", lambda w: (w.view(), w.view()), "The view 'v' is declared twice", ""),
    ("a model twice", lambda w: w.declare("first"), "The model 'first' is declared twice", ""),
    ("two endpoints for a model", lambda w: (w.project.serve(w.model), w.project.serve(w.model)), "endpoint for model 'first' is declared twice", ""),
    ("two watches of a model", lambda w: (w.project.watch(w.model), w.project.watch(w.model)), "watch of model 'first' is declared twice", ""),
    ("a source that is a path", lambda w: w.project.dataset("d", source="rows.csv", key="id"), "has source='rows.csv'", "tr.csv(...)"),
    ("a view of no data set", lambda w: w.view(source="rows"), "has source='rows'", "project.dataset(...)"),
    ("a model of no data set", lambda w: w.declare(rows="rows"), "has rows='rows'", "project.dataset(...)"),
    ("the target among the inputs", lambda w: w.declare(inputs=["a", "y"]), "uses its target 'y' as an input", "Remove it"),
    ("the target inside a derived input", lambda w: w.declare(inputs=[tr.ratio("r", "a", "y")]), "uses its target 'y' as an input", "Remove it"),
    ("the target as an entity", lambda w: w.declare(views=[w.view(entity="y")]), "uses its target 'y' as an input", "Remove it"),
    ("nothing to predict from", lambda w: w.declare(inputs=[]), "neither inputs nor views", ""),
    ("the same input twice", lambda w: w.declare(inputs=["a", "a"]), "has two features named 'a'", "another name"),
    ("an input named like a view's feature", lambda w: w.declare(views=[w.view()]), "has two features named 'a'", "another name"),
    (
        "one time of day in two time zones",
        lambda w: w.declare(inputs=[tr.hour("at"), tr.hour("at", tz="Europe/Berlin")]), "has two features named 'at_hour'", "another name",
    ),
    ("views without event_time", lambda w: w.declare(rows=w.timeless, views=[w.view()], inputs=[]), "declares no event_time", ""),
    ("a time split without event_time", lambda w: w.declare(rows=w.timeless, split=tr.by_time("7d")), "declares no event_time", ""),
    ("candidates that are a word", lambda w: w.declare(candidates="all"), "candidates='all' is not known", "'auto'"),
    ("a split that leaves no test rows", lambda w: w.declare(split=tr.at_random(0.0)), "is not a share of the rows", "0.25"),
    ("a split that tests on everything", lambda w: w.declare(split=tr.at_random(1)), "is not a share of the rows", "0.25"),
    ("one fold", lambda w: w.declare(split=tr.at_random(folds=1)), "folds=1", "at least 2"),
    ("no fold in time", lambda w: w.declare(split=tr.by_time("7d", folds=0)), "folds=0", "at least 1"),
    ("a test span that is no time", lambda w: w.declare(split=tr.by_time("week")), "'week' is not a length of time", "'3h'"),
    ("aggregates without a window", lambda w: w.view(features={"n": pl.len()}), "aggregates without window= and every=", "window='7d'"),
    ("a grid of no width", lambda w: w.view(features={"n": pl.len()}, window="1d", every="0h"), "every=", "window='7d'"),
    ("a window of no width", lambda w: w.view(features={"n": pl.len()}, window="0d", every="1h"), "window=", "window='7d'"),
    (
        "aggregates over rows without a time",
        lambda w: w.view(source=w.timeless, features={"n": pl.len()}, window="1d", every="1h"), "has no known_time or event_time", "",
    ),
    ("a view without features", lambda w: w.view(features=[]), "names no features", "features=[...]"),
    ("a ttl that is no time", lambda w: w.view(ttl="soon"), "'soon' is not a length of time", "'3h'"),
    ("a contract column that is a word", lambda w: tr.Contract({"a": "number"}), "Contract column 'a' is 'number'", "tr.number()"),
    ("a contract that allows more than all", lambda w: tr.Contract({}, at_most=5), "at_most=5 is not a share", ""),
    ("a canary of more than all", lambda w: w.project.serve(w.model, canary="120%"), "'120%' is not a share", "'10%'"),
    ("a canary that is a word", lambda w: w.project.serve(w.model, canary="some"), "'some' is not a share", "'10%'"),
    ("a shadow that is no time", lambda w: w.project.serve(w.model, shadow="a day"), "'a day' is not a length of time", "'3h'"),
    ("an endpoint of no model", lambda w: w.project.serve("first"), "is not a model of project 'world'", "project.model(...)"),
    ("an endpoint of another project's model", lambda w: w.project.serve(World().model), "is not a model of project 'world'", "project.model(...)"),
    ("a rate that is none", lambda w: w.project.watch(w.model, false_alarms="rarely"), "'rarely' is not a rate", "'1 per quarter'"),
    ("a rate per nothing known", lambda w: w.project.watch(w.model, false_alarms="1 per fortnight"), "'1 per fortnight' is not a rate", "'1 per quarter'"),
    ("a rate per no time", lambda w: w.project.watch(w.model, false_alarms="1 per 0d"), "'1 per 0d' is not a rate", "'1 per quarter'"),
    ("a retraining limit that is none", lambda w: tr.on_evidence(at_most="often"), "'often' is not a rate", "'2 per week'"),
    ("a resource of trials that is none", lambda w: w.declare(trial_resources={"core": 2}), "'core' is no resource", "cores, memory, gpus"),
]  # fmt: skip


@pytest.mark.parametrize(("declare", "says", "hint"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_it_is_refused_with_the_line_and_what_to_do(declare: Callable[[World], Any], says: str, hint: str) -> None:
    world = World()
    with pytest.raises(ProjectError) as caught:
        declare(world)
    assert says in caught.value.what
    assert hint in (caught.value.hint or "")
    assert (caught.value.where or "").startswith("test_declare.py:")


def test_one_name_may_stand_where_a_list_of_names_may(tmp_path: Path) -> None:
    world = World()
    view = world.view(features="temperature")
    model = world.declare(inputs="distance", slices="carrier", views=[view])
    assert (view.features, model.inputs, model.slices) == (("temperature",), ("distance",), ("carrier",))


def test_what_is_declared_can_be_read_again() -> None:
    world = World()

    @world.project.view(source=world.rows, entity=["origin", "dest"], features=["delay"], ttl="3h")
    def recent(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows

    assert world.project.views["recent"] is recent
    assert (recent.entity, recent.feature_names(), recent.function.__name__) == (("origin", "dest"), ("delay",), "recent")
    serve = world.project.serve(world.model, canary=0.2)
    watch = world.project.watch(world.model, false_alarms="2 per week", retrain=tr.on_evidence("1 per 21d"))
    assert serve.canary == 0.2
    assert watch.false_alarms.within(watch.every * 7) == pytest.approx(2)
    assert watch.retrain is not None
    assert watch.retrain.at_most.within(watch.every * 42) == pytest.approx(2)


def test_the_line_is_that_of_the_project_file(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text('import treadle as tr\n\nproject = tr.Project("p")\nproject.dataset(\n    "rows",\n    source=3,\n    key="id",\n)\n')
    with pytest.raises(ProjectError) as caught:
        load_project(tmp_path)
    assert caught.value.where == "project.py:4"


@pytest.mark.parametrize(
    ("text", "says", "where"),
    [
        ("import treadle as tr\nx = 1 +\n", "does not parse", "project.py:2"),
        ("import treadle as tr\n\n\nraise ValueError('no')\n", "raised ValueError: no", "project.py:4"),
        ("import nothing_of_this_name\n", "raised ModuleNotFoundError", "project.py:1"),
        ("raise SystemExit(3)\n", "raised SystemExit: 3", "project.py:1"),
        ("x = 1\n", "declares no project", "project.py"),
        ("import treadle as tr\na, b = tr.Project('a'), tr.Project('b')\n", "more than one project", "project.py"),
    ],
)
def test_a_project_file_that_does_not_load_says_where(tmp_path: Path, text: str, says: str, where: str) -> None:
    (tmp_path / "project.py").write_text(text)
    with pytest.raises(ProjectError, match=says) as caught:
        load_project(tmp_path)
    assert (caught.value.where or "").endswith(where)
