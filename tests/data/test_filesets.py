"""Files and images as a data set: a row each, bytes kept once, each version with the files it had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import treadle as tr
from treadle.assemble import Workspace, open_workspace
from treadle.core.errors import Corrupt, DataError, NotFound
from treadle.data import filesets, versions
from treadle.data.versions import Version

PROJECT = """
import treadle as tr
project = tr.Project("pictures")
images = project.dataset("images", source=tr.files("images/**/*.png"), key="path", keep="30d")
"""


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "images" / "old").mkdir(parents=True)
    for name, content in (("cat.png", b"meow"), ("dog.png", b"bark"), ("old/cat.png", b"meow"), ("notes.txt", b"no picture")):
        (tmp_path / "images" / name).write_bytes(content)
    return open_workspace(tmp_path)


def take(ws: Workspace) -> Version:
    version = versions.take(ws.project.datasets["images"], ws.folder, ws.tables, ws.ledger, blobs=ws.blobs)
    versions.record(version, ws.ledger)
    return version


def content(ws: Workspace, version: Version, path: str) -> bytes:
    with filesets.open_file(ws.tables, ws.blobs, version.address, path) as file:
        return file.read()


def test_a_file_is_a_row_and_equal_content_is_stored_once(ws: Workspace) -> None:
    version = take(ws)
    rows = ws.tables.scan(version.address).collect()
    assert rows["path"].to_list() == ["images/cat.png", "images/dog.png", "images/old/cat.png"]
    assert rows["bytes"].to_list() == [4, 4, 4]
    assert set(rows["media_type"]) == {"image/png"}
    assert rows["address"].n_unique() == 2
    assert content(ws, version, "images/dog.png") == b"bark"


def test_each_version_has_the_files_it_had(ws: Workspace) -> None:
    first = take(ws)
    stored = set(ws.blobs.addresses())
    os.utime(ws.folder / "images" / "cat.png", (1, 1))
    assert take(ws) == first  # touched is not changed
    assert set(ws.blobs.addresses()) == stored
    (ws.folder / "images" / "cat.png").write_bytes(b"purr")
    (ws.folder / "images" / "dog.png").unlink()
    second = take(ws)
    assert (second.added, second.changed, second.removed) == (0, 1, 1)
    assert content(ws, second, "images/cat.png") == b"purr"
    assert content(ws, first, "images/cat.png") == b"meow"
    assert content(ws, first, "images/dog.png") == b"bark"
    with pytest.raises(NotFound, match=r"no file .images/dog\.png."):
        content(ws, second, "images/dog.png")


def test_its_fingerprint_is_names_and_contents(ws: Workspace) -> None:
    dataset = ws.project.datasets["images"]
    first = filesets.fingerprint(dataset, ws.folder)
    os.utime(ws.folder / "images" / "cat.png", (1, 1))
    assert filesets.fingerprint(dataset, ws.folder) == first
    (ws.folder / "images" / "cat.png").rename(ws.folder / "images" / "puma.png")
    assert filesets.fingerprint(dataset, ws.folder) != first


def test_damaged_bytes_are_not_handed_out(ws: Workspace) -> None:
    version = take(ws)
    file = ws.blobs.path(ws.tables.scan(version.address).collect()["address"][1])
    file.chmod(0o644)
    file.write_bytes(b"hiss")
    with pytest.raises(Corrupt):
        content(ws, version, "images/dog.png")
    assert filesets.whole(ws.tables, ws.blobs, version.address)
    file.unlink()
    assert not filesets.whole(ws.tables, ws.blobs, version.address)


def test_without_a_file_it_is_said(ws: Workspace) -> None:
    dataset = tr.Project("p").dataset("none", source=tr.files("nothing/*.png"), key="path")
    with pytest.raises(DataError, match=r"There is no file 'nothing/\*\.png'"):
        filesets.read(dataset, ws.folder, ws.blobs)
