"""Versions in Delta Lake: any reader sees at each number what was committed, whatever was done before, and a killed writer leaves nothing to be seen."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable, QueryBuilder
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from polars.testing import assert_frame_equal

from treadle.backends import chunks
from treadle.backends.delta_tables import DeltaTables
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.core.errors import Conflict, NotFound, StorageError
from treadle.ports.tables import Commit
from treadle.testing.tables_contract import KEYED, TIMED, every_type, timed


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables(tmp_path, MemoryBlobs())


def log(folder: Path, number: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "_delta_log" / f"{number:020}.json").read_text().splitlines()]


def test_polars_delta_rs_and_duckdb_read_every_version(tables: DeltaTables, tmp_path: Path) -> None:
    frame = timed(range(300_000))
    made = [
        tables.commit("t", frame, mode="replace", **TIMED),
        tables.commit("t", frame[:1000].with_columns(value=pl.lit(-1.0)), mode="upsert", **TIMED),
        tables.commit("t", frame.with_columns(value=pl.col("value").cast(pl.String)), mode="replace", **TIMED),  # another type
        tables.commit("t", frame[:5].with_columns(more=pl.lit("x")), mode="replace", **TIMED),
    ]
    for commit in made:
        ours = tables.scan(commit.address).collect()
        assert_frame_equal(pl.scan_delta(str(tmp_path / "t"), version=commit.number).sort("id").collect(), ours.sort("id"))
        other = DeltaTable(tmp_path / "t", version=commit.number)
        assert {f"{f}.parquet" for f in (p.stem for p in tables.files(commit.address))} == {p.rpartition("/")[2] for p in other.file_uris()}
        counted = QueryBuilder().register("t", other).execute("select count(*) as n, max(id) as last from t").read_all()
        assert (counted.column("n")[0].as_py(), counted.column("last")[0].as_py()) == (commit.rows, ours["id"].max())
        files = [str(p) for p in tables.files(commit.address)]
        assert duckdb.read_parquet(files).aggregate("count(*), sum(id)").fetchall() == [(commit.rows, ours["id"].sum())]
    assert [h["version"] for h in DeltaTable(tmp_path / "t").history()] == [3, 2, 1, 0]


def test_other_readers_see_plain_types(tables: DeltaTables, tmp_path: Path) -> None:
    tables.commit("odd", every_type(), mode="replace", **KEYED)
    seen = pl.scan_delta(str(tmp_path / "odd")).collect()
    assert seen.schema["u32"] == pl.Int64
    assert seen["u32"].to_list() == [1, None, 2**32 - 1]
    assert seen["kind"].to_list() == ["a", None, "b"]
    assert seen["warsaw"][0] == every_type()["warsaw"][0]
    assert QueryBuilder().register("odd", DeltaTable(tmp_path / "odd")).execute("select count(*) as n from odd").read_all().column("n")[0].as_py() == 3


def test_the_log_tells_no_values(tables: DeltaTables, tmp_path: Path) -> None:
    tables.commit("people", pl.DataFrame({"id": ["ada@example.org"], "name": ["Ada Lovelace"]}), mode="replace", **KEYED)
    said = b"".join(p.read_bytes() for p in (tmp_path / "people" / "_delta_log").iterdir())
    assert b"lovelace" not in said.lower()
    assert b"example.org" not in said


def test_after_a_rewriting_every_reader_sees_every_version_without_the_rows(tables: DeltaTables, tmp_path: Path) -> None:
    frame = timed(range(1000))
    made = [tables.commit("t", frame.head(900 + i), mode="replace", **TIMED) for i in range(12)]
    DeltaTable(tmp_path / "t").create_checkpoint()
    assert list((tmp_path / "t" / "_delta_log").glob("*checkpoint*"))
    told = tables.rewrite([made[0].address], lambda rows: rows.filter(pl.col("name") != "row 7"))
    assert not list((tmp_path / "t" / "_delta_log").glob("*checkpoint*"))
    for i, commit in enumerate(made):
        expected = frame.head(900 + i).filter(pl.col("id") != 7)
        assert_frame_equal(tables.scan(told[commit.address]).collect(), expected)
        assert_frame_equal(pl.scan_delta(str(tmp_path / "t"), version=commit.number).sort("id").collect(), expected)
    assert_frame_equal(pl.scan_delta(str(tmp_path / "t")).sort("id").collect(), frame.head(911).filter(pl.col("id") != 7))
    for file in (tmp_path / "t").glob("*.parquet"):
        assert "row 7" not in pl.read_parquet(file)["name"].to_list()


def test_a_table_that_another_program_wrote_to_is_not_written_over(tables: DeltaTables, tmp_path: Path) -> None:
    first = tables.commit("t", timed(range(10)), mode="replace", **TIMED)
    DeltaTable(tmp_path / "t").delete("id = 3")
    with pytest.raises(Conflict, match="written by another program"):
        tables.commit("t", timed(range(11)), mode="replace", **TIMED)
    assert tables.scan(first.address).collect().height == 10


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError):
        DeltaTables(tmp_path / "file", MemoryBlobs()).commit("t", timed(range(1)), mode="replace", **TIMED)


def test_new_bytes_of_another_polars_for_the_same_rows_are_no_new_version(tables: DeltaTables, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tables.commit("t", timed(range(1000)), mode="replace", **TIMED)
    from treadle.backends import delta_tables

    written = delta_tables.write_parquet
    monkeypatch.setattr(delta_tables, "write_parquet", lambda frame, file, **notes: written(frame, file, by="another"))
    monkeypatch.setattr(pl, "__version__", "99.0")
    assert tables.commit("t", timed(range(1000)), mode="replace", **TIMED) == first
    assert tables.commit("t", timed(range(1001)), mode="replace", **TIMED).number == 1


def test_a_stop_in_the_middle_of_a_rewriting_is_made_good_by_doing_it_again(tables: DeltaTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from treadle.backends.table_places import Folder

    class Killed(BaseException):
        pass

    def without(rows: pl.LazyFrame) -> pl.LazyFrame:
        return rows.filter(pl.col("id") != 7)

    frame = timed(range(300))
    point = 0
    while True:
        table = f"t{point}"
        made = [tables.commit(table, frame.head(290 + i), mode="replace", **TIMED) for i in range(3)]
        lone = tables.put(frame[:10].with_columns(point=pl.lit(point)))
        left = point

        def step(real: Any) -> Any:
            def wrapped(*given: Any, **named: Any) -> Any:
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                return real(*given, **named)

            return wrapped

        with monkeypatch.context() as patched:
            for name in ("add", "replace", "remove"):
                patched.setattr(Folder, name, step(getattr(Folder, name)))
            patched.setattr(tables._blobs, "delete", step(tables._blobs.delete))
            try:
                tables.rewrite([made[0].address, lone], without)
                stopped = False
            except Killed:
                stopped = True
        for i, commit in enumerate(c for c in tables.commits(table)):
            assert tables.scan(commit.address).filter(pl.col("id") != 7).collect().height == 289 + i  # each version is whole, old or new
        told = tables.rewrite([*(c.address for c in made), lone], without)
        for i, commit in enumerate(made):
            assert tables.scan(told[commit.address]).collect().height == 289 + i
            assert pl.scan_delta(str(tmp_path / table), version=commit.number).collect().height == 289 + i
        assert tables.scan(told[lone]).collect().height == 9
        assert {p.name for p in (tmp_path / table).glob("*.parquet")} == {p.name for c in tables.commits(table) for p in tables.files(c.address)}
        assert not list((tmp_path / ".pending").iterdir())
        if not stopped:
            break
        point += 1
    assert point > 8


WRITER = """
import os, signal, sys
import polars as pl
from treadle.backends import delta_tables, table_places
from treadle.backends.delta_tables import DeltaTables
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.testing.tables_contract import TIMED, timed

root, point, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
left = count

def dies(name, real):
    def wrapped(*given, **named):
        global left
        if name == point:
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return real(*given, **named)
    return wrapped

delta_tables.write_parquet = dies("write", delta_tables.write_parquet)
table_places.Folder.add = dies("add", table_places.Folder.add)
delta_tables.DeltaTables._append = dies("commit", delta_tables.DeltaTables._append)
table_places.Folder.settle = dies("settle", table_places.Folder.settle)
print("ready", flush=True)
made = DeltaTables(root, MemoryBlobs()).commit("t", timed(range(600_000)).with_columns(value=pl.lit(1.0)), mode="replace", **TIMED)
print(made.number, flush=True)
"""


@pytest.mark.parametrize(("point", "count"), [("write", 0), ("write", 1), ("write", 2), ("add", 0), ("add", 1), ("add", 3), ("commit", 0), ("settle", 0)])
def test_a_writer_that_is_killed_shows_nothing_or_all_and_its_left_overs_go(tmp_path: Path, point: str, count: int) -> None:
    tables = DeltaTables(tmp_path, MemoryBlobs())
    first = tables.commit("t", timed(range(1000)), mode="replace", **TIMED)
    done = subprocess.run([sys.executable, "-c", WRITER, str(tmp_path), point, str(count)], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    committed = point == "settle"
    assert [c.number for c in tables.commits("t")] == ([0, 1] if committed else [0])
    assert DeltaTable(tmp_path / "t").version() == int(committed)
    tables.verify(first.address)
    left = len(list((tmp_path / ".pending").iterdir())) + len(list((tmp_path / "t").glob("*.parquet")))
    removed = tables.sweep(0)
    assert removed == (0 if committed else left - 1)
    again = tables.commit("t", timed(range(600_000)).with_columns(value=pl.lit(1.0)), mode="replace", **TIMED)
    assert again.number == 1
    for commit in tables.commits("t"):
        tables.verify(commit.address)
    assert pl.scan_delta(str(tmp_path / "t")).select(pl.len()).collect().item() == 600_000


def test_writers_killed_at_any_moment_leave_a_whole_table(tmp_path: Path) -> None:
    tables = DeltaTables(tmp_path, MemoryBlobs())
    tables.commit("t", timed(range(1000)), mode="replace", **TIMED)
    code = WRITER.replace('timed(range(600_000)).with_columns(value=pl.lit(1.0))', "timed(range(200_000)).with_columns(value=pl.lit(float(count)))")
    chance = random.Random(7)
    for i in range(8):
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), "", str(i)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0, 0.5))
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
        newest = tables.commits("t")[-1]
        tables.verify(newest.address)
        assert pl.scan_delta(str(tmp_path / "t")).select(pl.len()).collect().item() == newest.rows
    tables.sweep(0)
    for commit in tables.commits("t"):
        tables.verify(commit.address)


class Versions(RuleBasedStateMachine):
    """A table and a dictionary go through the same changes; every version ever made stays readable, until it is dropped."""

    keys = st.lists(st.integers(0, 40), max_size=12, unique=True)
    values = st.integers(0, 3)

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.tables = DeltaTables(self.folder.name, MemoryBlobs())
        self.now: dict[int, tuple[datetime, int]] | None = None
        self.made: dict[int, tuple[Commit, dict[int, tuple[datetime, int]]]] = {}
        self._before = (chunks.LARGEST, chunks.SMALLEST)
        chunks.LARGEST = chunks.SMALLEST = 4  # so that a few rows are many chunks

    def teardown(self) -> None:
        for number, (commit, expected) in self.made.items():
            assert self.rows(commit) == expected
            seen = pl.scan_delta(f"{self.folder.name}/t", version=number).collect()
            assert {r["id"]: (r["at"], r["v"]) for r in seen.iter_rows(named=True)} == expected
        if self.now is not None:
            again = DeltaTables(self.folder.name, MemoryBlobs()).commit("fresh", self.frame(self.now), mode="replace", **TIMED)
            assert again.digest == self.tables.commits("t")[-1].digest  # as if it had come at once
        chunks.LARGEST, chunks.SMALLEST = self._before
        self.folder.cleanup()

    def frame(self, rows: dict[int, tuple[datetime, int]]) -> pl.DataFrame:
        schema = {"id": pl.Int64, "at": pl.Datetime("us", "UTC"), "v": pl.Int64}
        return pl.DataFrame([(i, at, v) for i, (at, v) in rows.items()], schema=schema, orient="row")

    def rows(self, commit: Commit) -> dict[int, tuple[datetime, int]]:
        found = self.tables.scan(commit.address).collect()
        assert found.select("at", "id").rows() == sorted(found.select("at", "id").rows())
        return {r["id"]: (r["at"], r["v"]) for r in found.iter_rows(named=True)}

    def said(self, commit: Commit, before: dict[int, tuple[datetime, int]]) -> None:
        after = self.now
        assert after is not None
        if commit.number not in self.made:
            counts = (len(after.keys() - before.keys()), sum(before[k] != after[k] for k in after.keys() & before.keys()), len(before.keys() - after.keys()))
            assert (commit.added, commit.changed, commit.removed) == counts
            self.made[commit.number] = (commit, dict(after))
        else:
            assert after == before
        assert self.rows(commit) == after

    def some(self, data: Any) -> dict[int, tuple[datetime, int]]:
        day = datetime(2013, 1, 1, tzinfo=UTC)
        return {i: (day + timedelta(days=data.draw(self.values)), data.draw(self.values)) for i in data.draw(self.keys)}

    @initialize(data=st.data())
    def begin(self, data: Any) -> None:
        self.now = self.some(data)
        self.said(self.tables.commit("t", self.frame(self.now), mode="replace", **TIMED), {})

    @rule(data=st.data())
    def replace(self, data: Any) -> None:
        before, self.now = self.now or {}, self.some(data)
        self.said(self.tables.commit("t", self.frame(self.now), mode="replace", **TIMED), before)

    @rule(data=st.data(), gone=keys)
    def upsert(self, data: Any, gone: list[int]) -> None:
        before, coming = self.now or {}, self.some(data)
        self.now = {**{k: v for k, v in before.items() if k not in gone}, **coming}
        remove = pl.DataFrame({"id": gone}, schema={"id": pl.Int64})
        self.said(self.tables.commit("t", self.frame(coming), mode="upsert", remove=remove, **TIMED), before)

    @rule(data=st.data())
    def append(self, data: Any) -> None:
        before = self.now or {}
        coming = {k: v for k, v in self.some(data).items() if k not in before}
        self.now = {**before, **coming}
        self.said(self.tables.commit("t", self.frame(coming), mode="append", **TIMED), before)

    @precondition(lambda self: len(self.made) > 2)
    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        newest = self.tables.commits("t")[-1].number
        number = data.draw(st.sampled_from(sorted(n for n in self.made if n != newest)))
        self.tables.drop("t", [number])
        gone, _ = self.made.pop(number)
        with pytest.raises(NotFound):
            self.tables.scan(gone.address)


Versions.TestCase.settings = settings(max_examples=25, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck))
TestEveryVersion = Versions.TestCase


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(ballast: Path, leave: int) -> None:
    space = os.statvfs(ballast.parent)
    ballast.write_bytes(b"\0" * max(0, space.f_bavail * space.f_frsize - leave))


@pytest.mark.root
def test_on_a_full_disk_what_was_committed_stays_and_it_goes_on_when_there_is_room(small_disk: Path) -> None:
    tables = DeltaTables(small_disk / "tables", MemoryBlobs())
    first = tables.commit("t", timed(range(1000)), mode="replace", **TIMED)
    second = tables.commit("t", timed(range(2000)), mode="replace", **TIMED)
    fill(small_disk / "ballast", 100_000)
    with pytest.raises(StorageError):
        tables.commit("t", timed(range(100_000)), mode="replace", **TIMED)  # no room for the rows
    fill(small_disk / "more", 0)
    with pytest.raises(StorageError):
        tables.commit("t", timed(range(1000)), mode="replace", **TIMED)  # no room at all, though the rows are there
    assert tables.commits("t") == [first, second]
    assert DeltaTable(small_disk / "tables" / "t").version() == 1
    for commit in (first, second):
        tables.verify(commit.address)
    assert list((small_disk / "tables" / ".pending").iterdir()) == []
    for name in ("ballast", "more"):
        (small_disk / name).unlink()
    third = tables.commit("t", timed(range(1000)), mode="replace", **TIMED)
    assert (third.number, third.digest) == (2, first.digest)
    assert pl.scan_delta(str(small_disk / "tables" / "t")).collect().height == 1000
