"""Files as a source: a pattern grows file by file, and each thing that is wrong with one is said once, with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import treadle as tr
from treadle.core.declare.source import Source
from treadle.core.errors import DataError, Unavailable
from treadle.data import memory, sources
from treadle.data.source_files import LocalFiles
from treadle.data.sources import Extract

CONTRACT = tr.Contract({"id": tr.integer(), "name": tr.text(nullable=True)}, at_most=1.0)


def extract(source: Source, folder: Path, since: Any = None, contract: tr.Contract | None = CONTRACT, key: Any = "id") -> Extract:
    return sources.extract(tr.Project("p").dataset("rows", source=source, key=key, contract=contract), folder, since)


def write(path: Path, *ids: int) -> None:
    if path.suffix == ".csv":
        path.write_text("id,name\n" + "".join(f"{i},n{i}\n" for i in ids))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"id": i, "name": f"n{i}"}) + "\n" for i in ids))
    else:
        pl.DataFrame({"id": list(ids), "name": [f"n{i}" for i in ids]}).write_parquet(path)


KINDS = {"csv": tr.csv, "jsonl": tr.jsonl, "parquet": tr.parquet}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
def test_only_new_files_are_read(tmp_path: Path, kind: str) -> None:
    source = KINDS[kind](f"*.{kind}")
    write(tmp_path / f"b.{kind}", 1, 2)
    first = extract(source, tmp_path)
    write(tmp_path / f"a.{kind}", 3)  # wherever its name sorts
    write(tmp_path / f"c.{kind}", 4)
    more = extract(source, tmp_path, first.position)
    assert (more.full, sorted(more.frame["id"])) == (False, [3, 4])
    assert sorted(extract(source, tmp_path, more.position).frame["id"]) == [4]  # nothing new: the last file once more


@every_kind
def test_a_changed_or_removed_file_means_that_everything_is_read(tmp_path: Path, kind: str) -> None:
    source = KINDS[kind](f"*.{kind}")
    write(tmp_path / f"a.{kind}", 1)
    write(tmp_path / f"b.{kind}", 2)
    first = extract(source, tmp_path)
    write(tmp_path / f"a.{kind}", 1, 5)
    changed = extract(source, tmp_path, first.position)
    assert (changed.full, sorted(changed.frame["id"])) == (True, [1, 2, 5])
    (tmp_path / f"a.{kind}").unlink()
    assert (extract(source, tmp_path, changed.position).full, extract(source, tmp_path).frame["id"].to_list()) == (True, [2])


@every_kind
def test_a_new_file_with_other_columns_is_named(tmp_path: Path, kind: str) -> None:
    source = KINDS[kind](f"*.{kind}")
    write(tmp_path / f"a.{kind}", 1)
    first = extract(source, tmp_path)
    pl_frame = pl.DataFrame({"id": [2], "title": ["x"]})
    path = tmp_path / f"b.{kind}"
    {"csv": pl_frame.write_csv, "jsonl": pl_frame.write_ndjson, "parquet": pl_frame.write_parquet}[kind](path)
    if kind == "jsonl":  # lines say for themselves what they hold
        assert extract(source, tmp_path, first.position).frame.sort("id").rows() == [(1, "n1", None), (2, None, "x")]
        return
    for since in (None, first.position):
        with pytest.raises(DataError, match=rf"b\.{kind} has other columns than .*: it lacks 'name' and has also 'title'"):
            extract(source, tmp_path, since)


def test_columns_may_stand_in_another_order(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 1)
    (tmp_path / "b.csv").write_text("name,id\nx,2\n")
    assert extract(tr.csv("*.csv"), tmp_path).frame.sort("id").rows() == [(1, "n1"), (2, "x")]


def test_a_parquet_file_of_other_types_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 1)
    pl.DataFrame({"id": ["2"], "name": ["x"]}).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has other columns than a\.parquet: it holds String in 'id'"):
        extract(tr.parquet("*.parquet"), tmp_path)


def test_row_numbers_are_counted_over_everything(tmp_path: Path) -> None:
    source = tr.csv("*.csv")
    write(tmp_path / "a.csv", 7, 8)
    first = extract(source, tmp_path, key="row_number")
    write(tmp_path / "b.csv", 9)
    again = extract(source, tmp_path, first.position, key="row_number")
    assert (again.full, again.frame["row_number"].to_list()) == (True, [0, 1, 2])


def test_folders_within_folders(tmp_path: Path) -> None:
    for day in ("2024/01", "2024/02"):
        (tmp_path / "in" / day).mkdir(parents=True)
        write(tmp_path / "in" / day / "part.csv", int(day[-1]))
    assert sorted(extract(tr.csv("in/**/*.csv"), tmp_path).frame["id"]) == [1, 2]


@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=5), min_size=1, max_size=6))
def test_reading_on_gives_what_reading_everything_gives(tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("files")
    kept, position, last = {}, None, {}
    for number, ids in enumerate(batches):
        (folder / f"{number:02d}.csv").write_text("id,name\n" + "".join(f"{i},{number}\n" for i in dict.fromkeys(ids)))
        last.update({i: str(number) for i in ids})
        found = extract(tr.csv("*.csv"), folder, position)
        kept = {**({} if found.full else kept), **dict(found.frame.select("id", "name").iter_rows())}
        position = found.position
        assert kept == last


def test_a_file_that_is_written_while_it_is_read_is_not_taken_half(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", 1)
    files = LocalFiles(tmp_path)
    (listed,) = files.listed("a.csv")
    with pytest.raises(Unavailable, match="was written while it was read"), files.fetched(listed) as path:
        write(path, 1, 2)


# Encodings


def test_the_byte_and_line_that_do_not_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for prefix in (b"", b"\xef\xbb\xbf"):
        data = prefix + "id,name\n1,żółw\n2,gęś\n3,".encode() + b"\xb3\n4,x\n"
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"Byte {data.index(bytes([0xB3, 10])) + 1} \(line 4\) is 0xb3, which is not UTF-8"):
            extract(tr.csv("a.csv"), tmp_path)
    path.write_bytes("id,name\n1,żółw\n".encode()[:-3])
    with pytest.raises(DataError, match="Its end is missing"):
        extract(tr.csv("a.csv", encoding="utf-8"), tmp_path)
    path.write_bytes("id,name\n1,żółw\n".encode("utf-16")[:-3])
    with pytest.raises(DataError, match="which is not UTF-16"):
        extract(tr.csv("a.csv"), tmp_path)


def test_a_declared_encoding_is_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("id,name\n1,żółw\n".encode("cp1250"))
    assert extract(tr.csv("a.csv", encoding="cp1250"), tmp_path).frame["name"].to_list() == ["żółw"]
    (tmp_path / "b.csv").write_bytes("id,name\n1,café\n".encode("cp1252"))
    assert extract(tr.csv("b.csv"), tmp_path).frame["name"].to_list() == ["café"]  # Windows Latin is recognised


# JSON lines


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"id": 1}\n\n{"id": 2,}\n', "Line 3 is not a JSON object"),
        ('{"id": 1}\n[1, 2]\n', "Line 2 is not a JSON object: it is JSON, but no object"),
        ('[\n{"id": 1}\n]\n', "Line 1 is not a JSON object"),
        ('{"id": 1}\n{"id": 2', "Line 2 is not a JSON object"),
    ],
)
def test_a_line_that_is_no_object_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        extract(tr.jsonl("a.jsonl"), tmp_path)
    assert "a.jsonl" in str(caught.value.where)


def test_a_byte_that_is_not_utf8_is_named_in_json_too(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"id": 1}\n{"id": 2, "name": "\xb3"}\n')
    with pytest.raises(DataError, match=r"\(line 2\) is 0xb3, which is not UTF-8"):
        extract(tr.jsonl("a.jsonl"), tmp_path)


def test_json_types(tmp_path: Path) -> None:
    lines = [
        '{"id": 1, "n": 1, "x": 1, "big": 123456789012345678901234567890, "ok": true, "deep": {"a": [1]}, "mixed": 1, "nan": NaN, "none": null}',
        '{"id": 2, "n": 2, "x": 1.5, "big": 1, "ok": false, "deep": null, "mixed": "one", "nan": 1.0}',
    ]
    (tmp_path / "a.jsonl").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    frame = extract(tr.jsonl("a.jsonl"), tmp_path, contract=None).frame
    assert frame.row(0, named=True) == {
        "id": 1, "n": 1, "x": 1.0, "big": "123456789012345678901234567890", "ok": True, "deep": '{"a":[1]}', "mixed": "1",
        "nan": pytest.approx(float("nan"), nan_ok=True), "none": None,
    }  # fmt: skip
    assert frame.schema["n"] == pl.Int64


# Time zones


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_moments_without_a_zone_are_of_the_declared_one(tmp_path: Path, kind: str) -> None:
    rows: dict[str, Any] = {"id": [1, 2], "name": ["a", "b"], "at": ["2024-07-01 12:00", "2024-01-01 12:00:00"]}
    frame = pl.DataFrame(rows)
    if kind == "parquet":
        frame = frame.with_columns(at=pl.Series([datetime(2024, 7, 1, 12), datetime(2024, 1, 1, 12)]))
    path = tmp_path / f"a.{kind}"
    {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[kind](path)
    contract = tr.Contract({"at": tr.timestamp()})
    found = extract(KINDS[kind](path.name, tz="Europe/Warsaw"), tmp_path, contract=contract)
    assert found.frame["at"].to_list() == [datetime(2024, 7, 1, 10, tzinfo=UTC), datetime(2024, 1, 1, 11, tzinfo=UTC)]


def test_a_moment_that_names_its_zone_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,at\n1,2024-07-01T12:00:00Z\n2,2024-07-01T12:00:00+05:30\n3,2024-07-01T12:00:00\n4,2024-03-31 02:30\n")
    found = extract(tr.csv("a.csv", tz="Europe/Warsaw"), tmp_path, contract=tr.Contract({"at": tr.timestamp()}))
    assert [m and (m.hour, m.minute) for m in found.frame["at"]] == [(12, 0), (6, 30), (10, 0), None]
    assert [u.row for u in found.unparsed] == [3]  # no clock in Warsaw showed half past two that night


# Size


def test_a_file_too_large_for_the_machine_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.csv", 1)
    with (tmp_path / "a.csv").open("r+b") as handle:
        handle.truncate(10_000_000_000)  # it takes no place on the disk
    listed = LocalFiles(tmp_path)
    monkeypatch.setattr(listed, "_look", lambda path: None)
    monkeypatch.setattr(memory, "free_memory", lambda: 4_000_000_000)
    with pytest.raises(DataError, match=r"Reading 10\.0 GB takes about 40 GB of memory, and 4\.0 GB are free"):
        memory.enough_memory((tmp_path / "a.csv").stat().st_size, 4.0, "a.csv")


def test_free_memory_is_known_here() -> None:
    free = memory.free_memory()
    assert free is not None
    assert free > 1_000_000


def test_a_limit_of_the_process_itself_counts_as_all_the_memory_there_is(tmp_path: Path) -> None:
    program = (
        "import resource, sys\n"
        "from treadle.data.memory import free_memory\n"
        "resource.setrlimit(getattr(resource, sys.argv[1]), (700_000_000, 700_000_000))\n"
        "assert 0 < free_memory() < 700_000_000\n"
    )
    for limit in ("RLIMIT_DATA", "RLIMIT_AS"):
        subprocess.run([sys.executable, "-c", program, limit], check=True)
