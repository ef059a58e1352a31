"""Every table store keeps the promises of its port, over every blob store."""

from __future__ import annotations

from pathlib import Path

from treadle.backends.file_blobs import FileBlobs
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.parquet_tables import ParquetTables
from treadle.testing.tables_contract import TablesContract


class TestParquetTablesInFiles(TablesContract):
    def make(self, folder: Path) -> ParquetTables:
        return ParquetTables(FileBlobs(folder / "year=2013 [*]"))  # a folder that looks like a pattern and a partition


class TestParquetTablesInMemory(TablesContract):
    def make(self, folder: Path) -> ParquetTables:
        return ParquetTables(MemoryBlobs())
