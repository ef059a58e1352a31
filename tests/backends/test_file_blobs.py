"""What the blob store in a folder promises beyond the port: where files are, what is left of writes that died, what a bad disk says."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from pathlib import Path
from stat import S_ISDIR

import pytest

from treadle.backends.file_blobs import FileBlobs
from treadle.core.errors import NotFound, StorageError


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


def test_a_blob_lies_in_the_folder_of_its_first_two_digits_and_is_read_only(blobs: FileBlobs, tmp_path: Path) -> None:
    address = blobs.put(b"late")
    path = tmp_path / "blobs" / address[:2] / address[2:]
    assert blobs.path(address) == path
    assert path.stat().st_mode & 0o777 == 0o444


def test_strange_files_in_the_folder_are_no_blobs(blobs: FileBlobs, tmp_path: Path) -> None:
    address = blobs.put(b"late")
    (tmp_path / "blobs" / address[:2] / "notes.txt").write_text("")
    (tmp_path / "blobs" / "README").write_text("")
    assert list(blobs.addresses()) == [address]


def test_sweeping_removes_old_left_overs_and_spares_writes_under_way(blobs: FileBlobs, tmp_path: Path) -> None:
    old, young = tmp_path / "blobs" / "tmp" / "blob-old", tmp_path / "blobs" / "tmp" / "blob-young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert blobs.sweep() == 1
    assert (old.exists(), young.exists()) == (False, True)
    assert list(blobs.addresses()) == []


def test_bytes_are_on_the_disk_before_they_have_their_name_and_the_name_before_it_is_told(blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of calls is the promise about power cuts, which a test cannot cause."""
    calls: list[str] = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("sync folder" if S_ISDIR(os.fstat(handle).st_mode) else "sync file"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("rename"), rename(old, new)))
    blobs.put(b"late")
    assert calls == ["sync file", "sync folder", "rename", "sync folder"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO, errno.EFBIG])
def test_a_disk_that_refuses_is_a_storage_error_that_names_the_place(
    blobs: FileBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError) as caught:
        blobs.put(b"late")
    assert str(tmp_path / "blobs") in caught.value.what
    assert caught.value.hint
    monkeypatch.undo()
    assert list(blobs.addresses()) == []
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
    assert blobs.put(b"late") == hashlib.sha256(b"late").hexdigest()


def test_a_root_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        FileBlobs(tmp_path / "file")


def test_no_name_leads_out_of_the_folder(blobs: FileBlobs, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for address in ("../secret", "aa/../../secret", str(secret), "..%2fsecret"):
        blobs.delete(address)
        with pytest.raises(NotFound):
            blobs.get(address)
    assert secret.exists()
