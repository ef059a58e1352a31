"""What files hold is an ingredient: by content, remembered only while it is certain that they did not change."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from treadle.core.errors import ProjectError
from treadle.pipelines import files
from treadle.pipelines.files import MISSING, UNREADABLE, FileMemo, content, file_params


def old(path: Path, text: str, seconds: int = 60) -> Path:
    """A file whose time of change lies back (its ctime cannot be set, see `later`)."""
    path.write_text(text)
    then = time.time_ns() - seconds * 10**9
    os.utime(path, ns=(then, then))
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute later than it is."""
    now = time.time_ns
    monkeypatch.setattr(files.time, "time_ns", lambda: now() + 60 * 10**9)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each file that is hashed."""
    done: list[int] = []
    real = hashlib.file_digest

    def count(*given: object) -> object:
        done.append(1)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(files.hashlib, "file_digest", count)
    return done


def test_a_file_counts_by_its_bytes(tmp_path: Path) -> None:
    path = old(tmp_path / "a.csv", "a,b\n")
    assert content(path) == hashlib.sha256(b"a,b\n").hexdigest()
    assert content(tmp_path / "none") == MISSING
    assert content(path / "below") == MISSING
    assert content(Path("\0")) == UNREADABLE


def test_a_folder_counts_by_its_names_and_what_they_hold(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "deep").mkdir(parents=True)
    old(folder / "a", "1")
    old(folder / "deep" / "b", "2")
    first = content(folder)
    assert content(folder) == first
    (folder / "__pycache__").mkdir()
    old(folder / "__pycache__" / "x", "3")
    assert content(folder) == first
    old(folder / "deep" / "b", "3")
    second = content(folder)
    assert second != first
    (folder / "deep" / "b").rename(folder / "deep" / "c")
    assert content(folder) not in (first, second)


def test_a_folder_that_links_to_itself_ends(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    old(folder / "a", "1")
    (folder / "me").symlink_to(folder)
    (folder / "gone").symlink_to(folder / "nothing")
    first = content(folder)
    other = tmp_path / "other"
    other.mkdir()
    old(other / "b", "2")
    (folder / "there").symlink_to(other)
    second = content(folder)
    assert second != first
    old(other / "b", "3")
    assert content(folder) != second


def test_what_is_no_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert content(tmp_path / "pipe") == UNREADABLE
    assert len(content(tmp_path)) == 64


def test_too_many_files_are_an_error_that_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 3)
    for i in range(4):
        (tmp_path / str(i)).touch()
    with pytest.raises(ProjectError, match=r"more than 3 files") as told:
        content(tmp_path)
    assert told.value.where == str(tmp_path)


def test_the_names_in_a_folder(tmp_path: Path) -> None:
    old(tmp_path / "a", "1")
    first = content(tmp_path / "*")
    old(tmp_path / "a", "2")
    assert content(tmp_path / "*") == first
    old(tmp_path / "b", "2")
    assert content(tmp_path / "*") != first
    assert content(tmp_path / "none" / "*") == MISSING


@pytest.mark.usefixtures("later")
def test_a_file_is_read_once_as_long_as_it_stands(tmp_path: Path, reads: list[int]) -> None:
    path, home = old(tmp_path / "a", "1"), tmp_path / "home"
    memo = FileMemo(home)
    first = content(path, memo)
    assert content(path, memo) == first
    assert len(reads) == 1
    memo.save()
    assert content(path, FileMemo(home)) == first
    assert len(reads) == 1
    old(path, "2")
    assert content(path, FileMemo(home)) == hashlib.sha256(b"2").hexdigest()
    assert len(reads) == 2


@pytest.mark.usefixtures("later")
def test_a_file_with_the_same_size_and_time_but_other_content_is_noticed(tmp_path: Path) -> None:
    path = old(tmp_path / "a", "one")
    memo = FileMemo(tmp_path / "home")
    first = content(path, memo)
    was = path.stat()
    other = tmp_path / "b"
    other.write_text("two")
    os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_mtime_ns == was.st_mtime_ns
    assert content(path, memo) != first


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path, reads: list[int]) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    memo = FileMemo(tmp_path / "home")
    content(path, memo)
    content(path, memo)
    assert len(reads) == 2
    memo.save()
    assert not (tmp_path / "home").exists()


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"x": 3}', '{"x": [1, 2, 3, 4, "short"]}', "\0\0", "[" * 100_000])
def test_a_damaged_memo_is_no_memo(tmp_path: Path, damage: str) -> None:
    path, home = old(tmp_path / "a", "1"), tmp_path / "home"
    home.mkdir()
    (home / "file_digests.json").write_text(damage)
    memo = FileMemo(home)
    assert content(path, memo) == hashlib.sha256(b"1").hexdigest()
    memo.save()
    assert len(json.loads((home / "file_digests.json").read_text())) == 1


@pytest.mark.usefixtures("later")
def test_a_memo_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file stands here")
    memo = FileMemo(tmp_path / "home")
    content(old(tmp_path / "a", "1"), memo)
    memo.save()


def test_several_processes_share_a_memo(tmp_path: Path) -> None:
    for i in range(40):
        old(tmp_path / f"f{i}", str(i))
    script = (
        "import sys, time, pathlib; from treadle.pipelines import files; now = time.time_ns; files.time.time_ns = lambda: now() + 60 * 10**9\n"
        "here = pathlib.Path(sys.argv[1])\n"
        "for i in range(int(sys.argv[2]), 40, 4):\n"
        "    memo = files.FileMemo(here / 'home'); files.content(here / f'f{i}', memo); memo.save()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(i)]) for i in range(4)]
    assert [p.wait(60) for p in running] == [0] * 4
    kept = json.loads((tmp_path / "home" / "file_digests.json").read_text())
    assert kept
    assert all(entry[4] == hashlib.sha256(Path(name).read_bytes()).hexdigest() for name, entry in kept.items())
    assert [p.name for p in (tmp_path / "home").iterdir()] == ["file_digests.json"]


@dataclass
class Options:
    file: Path
    n: int = 3


def test_parameters_that_name_files(tmp_path: Path) -> None:
    rows, more = old(tmp_path / "rows.csv", "1"), old(tmp_path / "more.csv", "2")
    (tmp_path / "folder").mkdir()
    one, two = content(rows), content(more)
    found = file_params(
        {
            "path": Path("rows.csv"), "text": "rows.csv", "absolute": str(more), "none": Path("none.csv"), "word": "nothing", "folder": "folder",
            "whole": Path("folder"), "n": 3, "long": "x" * 5000, "lines": "rows.csv\n", "empty": "", "odd": "\ud800", "zero": "a\0b",
            "parts": ["a", Path("rows.csv"), ("more.csv",)], "table": {"in": {"x": Path("rows.csv")}}, "options": Options(Path("more.csv")),
        },
        tmp_path,
    )  # fmt: skip
    assert found == {
        "path": one, "text": one, "absolute": two, "none": MISSING, "whole": content(tmp_path / "folder"), "parts[1]": one, "parts[2][0]": two,
        "table.in.x": one, "options.file": two,
    }  # fmt: skip


def test_parameters_that_contain_themselves_end(tmp_path: Path) -> None:
    loop: list[object] = [Path("none")]
    loop.append(loop)
    assert file_params({"loop": loop}, tmp_path) == {"loop[0]": MISSING}
