"""Looking for a text in bytes by other means than the product's own: what `treadle erase` says is gone is searched for again, independently.

Raw bytes as UTF-8 and UTF-16, and every value and every column statistic of Parquet files as DuckDB reads them.
"""

from __future__ import annotations

import gzip
import io
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path


def holding(folder: Path, texts: Iterable[str], *, leave_out: Iterable[str] = ()) -> list[str]:
    """The files beneath a folder that hold any of the texts, with which: 'path: text'."""
    out = tuple(leave_out)
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(out) if out else path.is_file():
            found += [f"{path.relative_to(folder)}: {text}" for text in in_bytes(path.read_bytes(), texts)]
    return found


def in_bytes(data: bytes, texts: Iterable[str]) -> list[str]:
    """The texts that bytes hold, also inside Parquet pages, zip and gzip."""
    wanted = list(texts)
    found = {t for t in wanted if any(t.encode(e) in data for e in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"))}
    if data[:4] == b"PAR1":
        values = "\n".join(_parquet(data))
        found |= {t for t in wanted if t in values}
    elif data[:2] == b"\x1f\x8b":
        found.update(in_bytes(gzip.decompress(data), wanted))
    elif data[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                found.update(in_bytes(archive.read(name), wanted))
    return sorted(found)


def _parquet(data: bytes) -> list[str]:
    import duckdb

    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        file.write(data)
        file.flush()
        with duckdb.connect() as database:
            values = [str(row) for row in database.execute("SELECT COLUMNS(*)::VARCHAR FROM read_parquet(?)", [file.name]).fetchall()]
            return values + [str(row) for row in database.execute("SELECT COLUMNS(*)::VARCHAR FROM parquet_metadata(?)", [file.name]).fetchall()]
