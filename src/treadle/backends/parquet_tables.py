"""Tables as Parquet files in a blob store: the address of a table is the hash of its file, so equal tables are stored once.

Equal means equal rows, order, names and types, written by the same Polars version: a newer Polars may spell the same rows
in other bytes, which costs a second copy and never a wrong answer.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from treadle.backends.os_errors import storage_error
from treadle.core.errors import DataError

if TYPE_CHECKING:
    import polars as pl

    from treadle.ports.blobs import Blobs

_ROW_GROUP = 1 << 17  # small enough to skip by statistics, and fixed so that the bytes depend on the rows alone


class ParquetTables:
    """Immutable tables over any blob store."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def write(self, frame: pl.DataFrame) -> str:
        """Store the rows and return their address. Raises DataError for column types Parquet cannot hold."""
        import polars as pl

        try:
            with tempfile.TemporaryDirectory(prefix="treadle-table-") as folder:
                file = Path(folder) / "table.parquet"
                # Rechunked, so that in no version of Polars the pieces a frame happens to be in show in the bytes.
                frame.rechunk().write_parquet(file, compression="zstd", compression_level=3, statistics=True, row_group_size=_ROW_GROUP)
                return self._blobs.put(file)
        except pl.exceptions.PolarsError as error:
            raise DataError(f"The table cannot be written as Parquet: {error}.", hint="Cast the column to a plain type.") from error
        except OSError as error:
            raise storage_error(error, Path(tempfile.gettempdir())) from error

    def scan(self, address: str) -> pl.LazyFrame:
        import polars as pl

        # The path holds no pattern and no partitions, whatever the folder above it is called.
        return pl.scan_parquet(self._blobs.path(address), glob=False, hive_partitioning=False)

    def exists(self, address: str) -> bool:
        return self._blobs.exists(address)
