"""Every blob store keeps the promises of its port."""

from __future__ import annotations

from pathlib import Path

import obstore

from treadle.backends.file_blobs import FileBlobs
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.s3_blobs import S3Blobs
from treadle.ports.blobs import Blobs
from treadle.testing.blobs_contract import BlobsContract
from treadle.testing.servers import s3, schema_of


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


class TestS3Blobs(BlobsContract):
    def make(self, folder: Path) -> S3Blobs:
        s3()
        return S3Blobs(f"s3://treadle/{schema_of(folder)}?cache={folder}/cache")

    def damage(self, blobs: Blobs, address: str) -> None:
        assert isinstance(blobs, S3Blobs)
        obstore.put(blobs._store, f"{address[:2]}/{address[2:]}", b"Late")
