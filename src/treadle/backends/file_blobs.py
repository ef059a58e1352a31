"""Blobs as files named by their SHA-256: forced to the disk under a temporary name, then renamed, so a blob is whole or not there."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from treadle.backends.hashed_file import fill, finish
from treadle.backends.os_errors import storage_error
from treadle.core.errors import Corrupt, NotFound
from treadle.core.ids import new_id
from treadle.ports.blobs import Content

_ADDRESS = re.compile(r"[0-9a-f]{64}")  # also what keeps '../../etc/passwd' from ever becoming a path
_BUFFER = 1 << 20  # gathers small writes; larger ones go past it


class FileBlobs:
    """A blob store in a folder: `root/ab/cdef...` for the blobs, `root/tmp` for writes under way.

    Any number of threads and processes may share the folder. It must be one file system, because renames are atomic only within one.
    """

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).absolute()
        self._tmp = self._root / "tmp"
        try:
            self._tmp.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self._root) from error

    def __reduce__(self) -> tuple[object, ...]:
        return (FileBlobs, (self._root,))

    def put(self, data: Content) -> str:
        if not isinstance(data, bytes):
            return self._write(lambda out: fill(data, out, self._root))
        address = hashlib.sha256(data).hexdigest()
        if self._held(address):
            return address

        def write(out: BinaryIO) -> str:
            with _errors_of(self._root):
                out.write(data)
            return address

        return self._write(write)

    def get(self, address: str) -> bytes:
        path = self.path(address)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise _unknown(address) from None
        except OSError as error:
            raise storage_error(error, path) from error
        if hashlib.sha256(data).hexdigest() != address:
            raise _corrupt(address, path)
        return data

    def path(self, address: str) -> Path:
        path = self._place(address)
        if path is None or not path.is_file():
            raise _unknown(address)
        return path

    def exists(self, address: str) -> bool:
        path = self._place(address)
        return path is not None and path.is_file()

    def verify(self, address: str) -> None:
        path = self.path(address)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise _unknown(address) from None
        except OSError as error:
            raise storage_error(error, path) from error
        if found != address:
            raise _corrupt(address, path)

    def delete(self, address: str) -> None:
        path = self._place(address)
        if path is None:
            return
        try:
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                _sync_folder(path.parent)
        except OSError as error:
            raise storage_error(error, path) from error

    def addresses(self) -> Iterator[str]:
        for shard in sorted(self._root.glob("[0-9a-f][0-9a-f]")):
            for path in sorted(shard.iterdir()):
                if _ADDRESS.fullmatch(shard.name + path.name):
                    yield shard.name + path.name

    def sweep(self, older_than_seconds: float = 3600.0) -> int:
        limit = time.time() - older_than_seconds
        removed = 0
        for path in list(self._tmp.iterdir()):
            with suppress(FileNotFoundError):  # finished, or swept by somebody else, in the meantime
                if path.stat().st_mtime <= limit:
                    path.unlink()
                    removed += 1
        return removed

    def _place(self, address: str) -> Path | None:
        return self._root / address[:2] / address[2:] if _ADDRESS.fullmatch(address) else None

    def _held(self, address: str) -> bool:
        """Whether the blob is there; its name is then durable too, though another process may have given it this very moment."""
        path = self._place(address)
        if path is None or not path.is_file():
            return False
        try:
            _sync_folder(path.parent)
        except OSError as error:
            raise storage_error(error, path) from error
        return True

    def _write(self, write: Callable[[BinaryIO], str]) -> str:
        """Let `write` write into a temporary file, and give that the name which `write` returns."""
        pending = self._tmp / new_id("blob")
        try:
            with _errors_of(self._root):
                out = pending.open("xb", buffering=_BUFFER)
            with _closing(out):
                address = write(out)
                with _errors_of(self._root):
                    finish(out, durable=True)
            with _errors_of(self._root):
                return self._name(pending, address)
        finally:
            with suppress(OSError):
                pending.unlink(missing_ok=True)

    def _name(self, pending: Path, address: str) -> str:
        if self._held(address):
            return address
        path = self._root / address[:2] / address[2:]
        if not path.parent.is_dir():
            path.parent.mkdir(exist_ok=True)
            _sync_folder(self._root)
        os.replace(pending, path)
        _sync_folder(path.parent)
        return address


@contextmanager
def _closing(out: BinaryIO) -> Iterator[None]:
    """Close it, and let the error of a last write that a full disk refuses not hide the one that is already on its way."""
    try:
        yield
    finally:
        with suppress(OSError):
            out.close()


@contextmanager
def _errors_of(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, place) from error


def _sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk; without it a power cut may forget a rename."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unknown(address: str) -> NotFound:
    shown = address if len(address) <= 64 else address[:61] + "..."
    return NotFound(f"There is no blob {shown!r}.")


def _corrupt(address: str, path: Path) -> Corrupt:
    hint = "Restore the file from a backup, or delete it and make it again."
    return Corrupt(f"Blob {address} is damaged: its bytes have another hash.", where=str(path), hint=hint)
