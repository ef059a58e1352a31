"""The join that does not fit into memory gives what the one in memory gives: on DuckDB with spill, and in parts on an executor."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from tests.features.test_point_in_time import Message, a_view, asked, messages, questions, table

import treadle as tr
from treadle.backends.inprocess import InProcessExecutor
from treadle.core.errors import DataError, ProjectError, UsageError
from treadle.features import large
from treadle.features.history import history, join_all
from treadle.features.large import Limits, file_history, fits, join_files, join_on, join_values, size_of
from treadle.testing import ray_apart

LIMITS = Limits(200_000_000)


def views() -> list[Any]:
    from dataclasses import replace

    return [
        a_view(features=["x", "word"]), replace(a_view(features={"top": pl.col("x").max(), "n": pl.len()}, window="2h", every="1h"), name="g"),
    ]  # fmt: skip


def written(folder: Path, messages: list[Message], rows: list[Any], cut: int) -> tuple[list[Path], list[Path]]:
    """Rows and source as files, each in two."""
    made = []
    for name, frame in (("rows", asked(rows)), ("source", table(messages))):
        files = [folder / f"{name}-{i}.parquet" for i in range(2)]
        frame.head(cut).write_parquet(files[0])
        frame.tail(max(0, frame.height - cut)).write_parquet(files[1])
        made.append(files)
    return made[0], made[1]


@settings(max_examples=12)
@given(messages, questions)
def test_duckdb_and_parts_say_what_polars_says(messages: list[Message], rows: list[Any]) -> None:
    declared = views()
    expected = asked(rows).hstack(join_all(asked(rows), "asked", [(v, history(v, table(messages))) for v in declared]).get_columns())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        asking, source = written(folder, messages, rows, len(rows) // 2)
        given = [(v, source) for v in declared]
        for parts in (1, 3):
            assert join_files(asking, "asked", given, folder / "out.parquet", LIMITS, parts=parts) == len(rows)
            assert pl.read_parquet(folder / "out.parquet").rows() == expected.rows()
        assert join_on(InProcessExecutor(), asking, "asked", given, folder / "out.parquet", LIMITS, parts=3) == len(rows)
        assert pl.read_parquet(folder / "out.parquet").rows() == expected.rows()
        assert {p.name.split("-")[0] for p in folder.iterdir()} == {"rows", "source", "out.parquet"}


def big(folder: Path, rows: int, entities: int) -> tuple[Path, Path]:
    """Rows that ask and a source, of `rows` rows each."""
    at = (pl.int_range(rows, eager=True) * 7_919 % (90 * 86_400)).sort() * 1_000_000 + 1_700_000_000_000_000
    moments = at.cast(pl.Datetime("us", "UTC"))
    who = (pl.int_range(rows, eager=True) * 2_654_435_761 % entities).alias("who")
    source = pl.DataFrame({"id": pl.int_range(rows, eager=True), "who": who, "at": moments, "known": moments, **{f"x{i}": who * (i + 1) % 97 + 0.5 for i in range(8)}})
    source.write_parquet(folder / "source.parquet", row_group_size=100_000)
    questions = pl.DataFrame({"asker": pl.int_range(rows, eager=True), "who": who.reverse(), "asked": moments.reverse()})
    questions.write_parquet(folder / "rows.parquet", row_group_size=100_000)
    return folder / "rows.parquet", folder / "source.parquet"


CHILD = """
import json, resource, sys
from pathlib import Path
import polars as pl
import treadle as tr
from treadle.features.large import Limits, join_files
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
source = tr.Project("p").dataset("facts", source=tr.rows(list), key="id", event_time="at", known_time="known")
project = tr.Project("p")
view = project.view("v", source=project.dataset("facts", source=tr.rows(list), key="id", event_time="at", known_time="known"), entity="who",
                    features=[f"x{i}" for i in range(8)], ttl="30d")
count = join_files([folder / "rows.parquet"], "asked", [(view, [folder / "source.parquet"])], folder / "out.parquet", Limits(limit, 1, folder / "spill"), parts=int(sys.argv[3]))
print(json.dumps({"rows": count, "before": before, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
"""


def test_data_several_times_the_memory_are_joined_within_it(tmp_path: Path) -> None:
    count = 2_000_000
    rows, source = big(tmp_path, count, 5_000)
    whole = pl.read_parquet(source).estimated_size() + pl.read_parquet(rows).estimated_size() + count * 8 * 8  # and what comes out
    limit = 120_000_000
    environment = {**os.environ, "POLARS_MAX_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path), str(limit), "24"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["rows"] == count
    assert whole > 2.5 * limit
    assert said["peak"] - said["before"] < 0.75 * whole, said
    project = tr.Project("p")
    view = project.view("v", source=project.dataset("facts", source=tr.rows(list), key="id", event_time="at", known_time="known"), entity="who", features=[f"x{i}" for i in range(8)], ttl="30d")
    asked = pl.read_parquet(rows)
    expected = join_all(asked, "asked", [(view, history(view, pl.read_parquet(source)))])
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found.select("asker").equals(asked.select("asker"))
    assert found.select(expected.columns).equals(expected)
    assert not list((tmp_path / "spill").iterdir())


@pytest.mark.parametrize("address", ["processes:2", "ray:"])
def test_parts_on_other_processes_and_on_a_ray_cluster_say_what_polars_says(address: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if address == "ray:" and ray_apart.elsewhere(request):
        return
    from treadle.backends.catalog import open_backend

    rows, source = big(tmp_path, 50_000, 300)
    project = tr.Project("p")
    facts = project.dataset("facts", source=tr.rows(list), key="id", event_time="at", known_time="known")
    views = [
        project.view("v", source=facts, entity="who", features=["x0", "x1"], ttl="30d"),
        project.view("w", source=facts, entity="who", window="2d", every="6h", features={"top": pl.col("x2").max(), "n": pl.len()}),
    ]
    executor = open_backend("executor", address)
    try:
        count = join_on(executor, [rows], "asked", [(v, [source]) for v in views], tmp_path / "out.parquet", Limits(300_000_000, 1, tmp_path / "spill"), parts=5)
    finally:
        executor.close()
    assert count == 50_000
    asked = pl.read_parquet(rows)
    expected = join_all(asked, "asked", [(v, history(v, pl.read_parquet(source))) for v in views])
    assert pl.read_parquet(tmp_path / "out.parquet").select(expected.columns).equals(expected)


def test_a_feature_named_like_a_column_of_the_rows_is_refused(tmp_path: Path) -> None:
    rows, source = big(tmp_path, 100, 3)
    view = a_view(features={"asker": pl.len()}, window="2h", every="1h")
    with pytest.raises(DataError, match="'asker' is a feature of view 'v' and a column of the rows"):
        join_files([rows], "asked", [(view, [source])], tmp_path / "out.parquet", LIMITS)


def test_a_history_says_whether_it_fits() -> None:
    latest, windows = views()
    assert [fits(latest, rows, 400) for rows in (100, 101)] == [True, False]
    assert [fits(windows, rows, 600) for rows in (100, 101)] == [True, False]  # each row counts in two windows
    assert size_of(pl.LazyFrame({"x": [1.0, 2.0]})) == 16
    assert size_of(pl.LazyFrame({"x": pl.zeros(100_000, eager=True)})) == 800_000


@settings(max_examples=12)
@given(messages, questions)
def test_histories_on_the_disk_say_what_those_in_memory_say(messages: list[Message], rows: list[Any]) -> None:
    declared = views()
    wanted = [history(v, table(messages)) for v in declared]
    expected = join_all(asked(rows), "asked", list(zip(declared, wanted)))
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "_LEAST_ROWS", 1)
        folder = Path(temporary)
        source = written(folder, messages, rows, len(rows) // 2)[1]
        filed = []
        for view, values in zip(declared, wanted):
            filed.append((view, folder / f"{view.name}.parquet"))
            file_history(view, source, filed[-1][1], Limits(1_000, 1, folder / "spill"))
            counting = values.unique([*view.entity, "__at__"], keep="last", maintain_order=True)
            assert pl.read_parquet(filed[-1][1]).sort(pl.all()).equals(counting.sort(pl.all()))
        limits = Limits(100_000_000, 1, folder / "spill")
        assert join_values(asked(rows), "asked", filed, limits).equals(expected)
        assert join_values(asked(rows), "asked", [(declared[0], wanted[0]), filed[1]], limits).equals(expected)
        assert not list((folder / "spill").iterdir())


def test_a_function_is_computed_in_parts_only_where_it_keeps_to_one_entity(tmp_path: Path) -> None:
    def own(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.sort("known").with_columns(total=pl.col("x0").cum_sum().over("who"))

    def of_all(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.sort("known").with_columns(total=pl.col("x0").cum_sum())

    _, source = big(tmp_path, 50_000, 300)
    facts = tr.Project("p").dataset("facts", source=tr.rows(list), key="id", event_time="at", known_time="known")
    good, bad = (tr.Project("p").view(source=facts, entity="who", features=["total"])(f) for f in (own, of_all))
    file_history(good, [source], tmp_path / "out.parquet", Limits(2_000_000))
    expected = history(good, pl.read_parquet(source)).unique(["who", "__at__"], keep="last", maintain_order=True)
    assert pl.read_parquet(tmp_path / "out.parquet").sort("who", "__at__").equals(expected.sort("who", "__at__"))
    with pytest.raises(ProjectError, match="of_all looks from one entity to another"):
        file_history(bad, [source], tmp_path / "out.parquet", Limits(2_000_000))


def test_what_a_killed_join_left_is_removed_by_the_next(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    for pid in (child.pid, os.getpid()):
        (tmp_path / f"join-{socket.gethostname()}-{pid}-x").mkdir()
    with large.working_folder(Limits(1, 1, tmp_path)) as folder:
        assert {p.name.split("-")[-2] for p in tmp_path.iterdir()} == {str(os.getpid())}
        large.sweep(tmp_path)  # as an erasure does: what a living join holds stays
        assert folder.exists()
    assert not folder.exists()


def test_without_duckdb_it_is_said_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, source = big(tmp_path, 100, 3)
    monkeypatch.setattr(large, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"view 'v' does not fit into memory, and DuckDB.*treadle\[sql\]"):
        file_history(views()[0], [source], tmp_path / "out.parquet", LIMITS)


def test_a_join_on_the_disk_spills_there(tmp_path: Path) -> None:
    rows, source = big(tmp_path, 1_000_000, 5_000)
    code = f"""
from pathlib import Path
import polars as pl
from tests.features.test_large import big_view
from treadle.features.large import Limits, file_history, join_values
limits = Limits(64_000_000, 1, Path({str(tmp_path / "spill")!r}))
file_history(big_view(), [Path({str(source)!r})], Path({str(tmp_path / "history")!r}), limits)
join_values(pl.read_parquet({str(rows)!r}), "asked", [(big_view(), Path({str(tmp_path / "history")!r}))], limits).write_parquet({str(tmp_path / "out")!r})
"""
    child = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    spilled = 0
    while child.poll() is None:
        for path in (tmp_path / "spill").glob("join-*/spill/*.tmp"):
            try:
                spilled = max(spilled, path.stat().st_size)
            except OSError:
                continue
        time.sleep(0.005)
    assert child.returncode == 0
    assert spilled > 1_000_000
    expected = join_all(pl.read_parquet(rows), "asked", [(big_view(), history(big_view(), pl.read_parquet(source)))])
    assert pl.read_parquet(tmp_path / "out").equals(expected)


def big_view() -> Any:
    project = tr.Project("p")
    facts = project.dataset("facts", source=tr.rows(list), key="id", event_time="at", known_time="known")
    return project.view("v", source=facts, entity="who", features=[f"x{i}" for i in range(8)], ttl="30d")
