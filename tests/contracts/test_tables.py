"""Every table store keeps the promises of its port: Delta Lake in a folder, and in a bucket."""

from __future__ import annotations

import os
from pathlib import Path

from treadle.backends.delta_tables import DeltaTables
from treadle.backends.file_blobs import FileBlobs
from treadle.ports.tables import Tables
from treadle.testing.servers import s3, schema_of
from treadle.testing.tables_contract import TablesContract


class TestDeltaTablesInAFolder(TablesContract):
    def make(self, folder: Path) -> DeltaTables:
        root = folder / "year=2013 [*]"  # a folder that looks like a pattern and a partition
        return DeltaTables(root / "tables", FileBlobs(root / "blobs"))

    def leave(self, tables: Tables, table: str) -> None:
        assert isinstance(tables, DeltaTables)
        (Path(tables._place.shown) / table / f"{'a' * 64}.parquet").write_bytes(b"half")


class TestDeltaTablesInABucket(TablesContract):
    def make(self, folder: Path) -> DeltaTables:
        if "AWS_ENDPOINT_URL" not in os.environ:  # another process of the same test is told
            s3()
        return DeltaTables(f"s3://treadle/tables/{schema_of(folder)}?cache={folder / 'cache'}", FileBlobs(folder / "blobs"))

    def leave(self, tables: Tables, table: str) -> None:
        assert isinstance(tables, DeltaTables)
        tables._place.replace(f"{table}/{'a' * 64}.parquet", b"half")

    def damage(self, tables: Tables, address: str) -> None:
        assert isinstance(tables, DeltaTables)
        path = tables.files(address)[0]
        table = address.partition("@")[0]
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        tables._place.remove(f"{table}/{path.name}.parquet")
        tables._place.replace(f"{table}/{path.name}.parquet", bytes(data))
