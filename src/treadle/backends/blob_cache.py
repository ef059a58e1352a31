"""Copies of blobs that lie elsewhere, as read-only files in a folder of about a given size; the ones that were not asked for longest go first."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from treadle.backends.hashed_file import fill, finish
from treadle.backends.os_errors import storage_error
from treadle.core.ids import new_id
from treadle.ports.blobs import Content

GRACE_SECONDS = 600.0  # somebody who was just told the path has not opened it yet
_BUFFER = 1 << 20


class BlobCache:
    """A folder of files named by the SHA-256 of their content. Any number of processes may share it.

    Args:
        limit: bytes it may hold. It may hold more while everything in it was asked for within the last minutes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._tmp, self._limit = folder, folder / "tmp", limit
        self._lock = threading.Lock()
        self._added = limit  # since the folder was last measured; at first nothing is known of it
        try:
            self._tmp.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder) from error

    @contextmanager
    def writing(self, data: Content) -> Iterator[tuple[Path, str]]:
        """A temporary file with the content, and its SHA-256; gone afterwards unless it was kept. Raises what `fill` raises."""
        pending = self._tmp / new_id("blob")
        try:
            try:
                out = pending.open("xb", buffering=_BUFFER)
            except OSError as error:
                raise storage_error(error, self._folder) from error
            try:
                address = fill(data, out, self._folder)
                try:
                    finish(out, durable=False)
                except OSError as error:
                    raise storage_error(error, self._folder) from error
            finally:
                with suppress(OSError):
                    out.close()
            yield pending, address
        finally:
            with suppress(OSError):
                pending.unlink(missing_ok=True)

    def keep(self, pending: Path, address: str) -> Path:
        """Give a temporary file its name, unless there is one of that name, and make room if needed."""
        place = self._folder / address
        try:
            if not place.exists():
                size = pending.stat().st_size
                os.replace(pending, place)
                self._make_room(size)
            _touch(place)
        except OSError as error:
            raise storage_error(error, self._folder) from error
        return place

    def path(self, address: str) -> Path | None:
        """The file, if it is here; it stays for some minutes at least."""
        place = self._folder / address
        try:
            _touch(place)
        except OSError:
            return None
        return place

    def read(self, address: str) -> bytes | None:
        """Its bytes, if they are here and what they were."""
        try:
            data = (self._folder / address).read_bytes()
        except (OSError, ValueError):
            return None
        return data if hashlib.sha256(data).hexdigest() == address else None

    def remove(self, address: str) -> None:
        with suppress(OSError):
            (self._folder / address).unlink(missing_ok=True)

    def sweep(self, older_than_seconds: float) -> int:
        """Remove temporary files that nobody finished; returns how many."""
        limit, removed = time.time() - older_than_seconds, 0
        for path in list(self._tmp.iterdir()):
            with suppress(OSError):
                if path.stat().st_mtime <= limit:
                    path.unlink()
                    removed += 1
        return removed

    def _make_room(self, size: int) -> None:
        with self._lock:
            self._added += size
            if self._added <= self._limit // 20:  # measuring takes a while, so not for every file
                return
            self._added = 0
        held: list[tuple[float, int, Path]] = []
        for path in self._folder.iterdir():
            with suppress(OSError):
                if path != self._tmp:
                    found = path.stat()
                    held.append((found.st_atime, found.st_size, path))
        excess = sum(size for _, size, _ in held) - self._limit
        for asked, size, path in sorted(held):
            if excess <= 0 or asked > time.time() - GRACE_SECONDS:
                return
            with suppress(OSError):
                path.unlink()
                excess -= size


def _touch(path: Path) -> None:
    """Note that it was asked for. The time of change stays."""
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
