"""A binary file that is hashed while it is written, for contents that say themselves into a file: no second reading, no copy in memory."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

from treadle.backends.os_errors import storage_error
from treadle.core.errors import NotFound, StorageError

_CHUNK = 1 << 20


class HashedFile(io.RawIOBase):
    """Takes bytes and hands them to `out`, a file open for writing. It goes forward only: no seeking, no reading.

    Buffers are taken as they are (memoryview, NumPy, Arrow): large ones go from the writer to the file without being copied.
    Hashing in a second thread was tried: on two cores it brought nothing, because compressing and writing use them already.
    Closing it closes nothing; whoever opened `out` finishes it.
    """

    def __init__(self, out: BinaryIO, place: Path) -> None:
        super().__init__()
        self._out, self._place = out, place
        self._hash = hashlib.sha256()
        self._size = 0
        self.failure: StorageError | None = None

    def write(self, data: Any) -> int:
        """All of `data`. Raises StorageError when the disk refuses; it is kept in `failure` too, because libraries swallow or rename errors."""
        view = memoryview(data)
        if not view.nbytes:
            return 0
        view = view.cast("B")
        self._hash.update(view)
        try:
            self._out.write(view)
        except OSError as error:
            self.failure = storage_error(error, self._place)
            raise self.failure from error
        self._size += view.nbytes
        return view.nbytes

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def address(self) -> str:
        """SHA-256 of everything written so far, in hexadecimal."""
        return self._hash.hexdigest()


def fill(data: bytes | Path | Callable[[BinaryIO], object], out: BinaryIO, place: Path) -> str:
    """Write `data` (bytes, the content of a file, or what a function writes) to `out`, and return its SHA-256.

    Raises NotFound for a file that is not there, StorageError for a disk (`place`) that refuses, and whatever the function raises.
    """
    file = HashedFile(out, place)
    if isinstance(data, Path):
        _copy(data, file)
    elif callable(data):
        _ask(data, file)
    else:
        file.write(data)
    return file.address()


def _ask(write: Callable[[BinaryIO], object], file: HashedFile) -> None:
    try:
        write(cast(BinaryIO, file))
    except Exception as error:
        if file.failure is not None and error is not file.failure:
            raise file.failure from error
        raise
    if file.failure is not None:
        raise file.failure


def _copy(source: Path, file: HashedFile) -> None:
    """In pieces, because a file may be too large to hold in memory; hashed as it is copied, because it may change meanwhile."""
    buffer = memoryview(bytearray(_CHUNK))
    try:
        with source.open("rb", buffering=0) as opened:
            while count := opened.readinto(buffer):
                file.write(buffer[:count])
    except FileNotFoundError:
        raise NotFound(f"There is no file {source}.") from None
    except OSError as error:
        raise storage_error(error, source) from error


def finish(out: BinaryIO, *, durable: bool) -> None:
    """Make the file read-only and hand it to the operating system, or to the disk if `durable`. Raises OSError."""
    out.flush()
    os.fchmod(out.fileno(), 0o444)
    if durable:
        os.fsync(out.fileno())
