"""Every blob store keeps the promises of its port."""

from __future__ import annotations

from pathlib import Path

from treadle.backends.file_blobs import FileBlobs
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.ports.blobs import Blobs
from treadle.testing.blobs_contract import BlobsContract


class TestFileBlobs(BlobsContract):
    def make(self, folder: Path) -> FileBlobs:
        return FileBlobs(folder / "blobs")

    def damage(self, blobs: Blobs, address: str) -> None:
        path = blobs.path(address)
        path.chmod(0o644)
        path.write_bytes(b"L" + path.read_bytes()[1:])


class TestMemoryBlobs(BlobsContract):
    survives = False

    def make(self, folder: Path) -> MemoryBlobs:
        return MemoryBlobs()

    def damage(self, blobs: Blobs, address: str) -> None:
        assert isinstance(blobs, MemoryBlobs)
        blobs._held[address] = b"Late"
