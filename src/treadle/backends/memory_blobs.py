"""Blobs in memory, for tests and for trying things out; `path` writes a copy into a private folder that goes with the store."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

from treadle.backends.hashed_file import fill
from treadle.core.errors import Corrupt, NotFound
from treadle.ports.blobs import Content


class MemoryBlobs:
    """A blob store for the threads of one process."""

    def __init__(self) -> None:
        self._held: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._folder: Path | None = None

    def put(self, data: Content) -> str:
        out = io.BytesIO()
        address = fill(data, out, Path("memory:"))
        self._held.setdefault(address, out.getvalue())
        return address

    def get(self, address: str) -> bytes:
        self.verify(address)
        return self._held[address]

    def path(self, address: str) -> Path:
        content = self._content(address)
        with self._lock:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="treadle-blobs-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            path = self._folder / address
            if not path.exists():
                pending = path.with_suffix(".tmp")
                pending.write_bytes(content)
                pending.chmod(0o444)
                pending.replace(path)
        return path

    def exists(self, address: str) -> bool:
        return address in self._held

    def verify(self, address: str) -> None:
        if hashlib.sha256(self._content(address)).hexdigest() != address:
            raise Corrupt(f"Blob {address} is damaged: its bytes have another hash.")

    def delete(self, address: str) -> None:
        with self._lock:
            if self._held.pop(address, None) is not None and self._folder is not None:
                (self._folder / address).unlink(missing_ok=True)

    def addresses(self) -> Iterator[str]:
        return iter(sorted(self._held))

    def sweep(self, older_than_seconds: float = 3600.0) -> int:
        """Memory keeps no left-overs."""
        return 0

    def _content(self, address: str) -> bytes:
        content = self._held.get(address)
        if content is None:
            raise NotFound(f"There is no blob {address[:64]!r}.")
        return content
