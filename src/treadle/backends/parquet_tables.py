"""Lone tables as Parquet files in a blob store: the address of a table is the hash of its file, so equal tables are stored once.

Equal means equal rows, order, names and types, written by the same Polars version: a newer Polars may spell the same rows
in other bytes, which costs a second copy and never a wrong answer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from treadle.backends.os_errors import storage_error
from treadle.core.errors import Corrupt, DataError, StorageError

if TYPE_CHECKING:
    import polars as pl

    from treadle.ports.blobs import Blobs

_ROW_GROUP = 1 << 17  # small enough to skip by statistics, and fixed so that the bytes depend on the rows alone


def write_parquet(frame: pl.DataFrame, file: Path, **notes: str) -> None:
    """One spelling for all our Parquet files. Raises DataError for types it cannot hold, StorageError when the disk refuses."""
    import polars as pl

    try:
        # Rechunked, so that in no version of Polars the pieces a frame happens to be in show in the bytes.
        frame.rechunk().write_parquet(
            file, compression="zstd", compression_level=3, statistics=True, row_group_size=_ROW_GROUP, metadata=notes or None
        )
    except pl.exceptions.PolarsError as error:
        if "os error" in str(error) or "transport error" in str(error):  # Polars' words for a footer that could not be written
            raise StorageError(
                f"A table cannot be written: {str(error).splitlines()[0]}.", where=str(file.parent), hint="Is the disk full? Make room and try again."
            ) from error
        raise DataError(f"The table cannot be written as Parquet: {error}.", hint="Cast the column to a plain type.") from error
    except OSError as error:
        raise storage_error(error, file.parent) from error


class ParquetTables:
    """Immutable tables over any blob store."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def put(self, frame: pl.DataFrame) -> str:
        """Store the rows and return their address. Raises DataError for column types Parquet cannot hold."""
        with tempfile.TemporaryDirectory(prefix="treadle-table-") as folder:
            file = Path(folder) / "table.parquet"
            write_parquet(frame, file)
            return self._blobs.put(file)

    def scan(self, address: str) -> pl.LazyFrame:
        import polars as pl

        # The path holds no pattern and no partitions, whatever the folder above it is called.
        return pl.scan_parquet(self._blobs.path(address), glob=False, hive_partitioning=False)

    def files(self, address: str) -> list[Path]:
        return [self._blobs.path(address)]

    def exists(self, address: str) -> bool:
        return self._blobs.exists(address)

    def verify(self, address: str) -> None:
        self._blobs.verify(address)

    def discard(self, address: str) -> int:
        try:
            self._blobs.verify(address)
        except Corrupt:
            self._blobs.delete(address)
            return 1
        return 0
