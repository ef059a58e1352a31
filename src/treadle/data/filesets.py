"""File sets: files and images as a data set whose rows name them, and whose bytes lie in the blobs, each content once.

    >>> images = project.dataset("images", source=tr.files("images/**/*.png"), key="path")     # doctest: +SKIP
    >>> with open_file(tables, blobs, version.address, "images/cat.png") as file: ...          # doctest: +SKIP

A row has `path` (relative to the project folder), `address` (SHA-256 of the content), `bytes`, `media_type` and `modified` (when the content was
first seen to be so: touching a file changes nothing). A version of the set is a version of that table: it is compared, kept and dropped like any.
"""

from __future__ import annotations

import glob
import hashlib
import mimetypes
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from treadle.core.declare.data import Dataset
from treadle.core.errors import DataError, NotFound
from treadle.ports.blobs import Blobs
from treadle.ports.tables import Tables

KIND = "files"
SCHEMA: dict[str, Any] = {"path": pl.String, "address": pl.String, "bytes": pl.Int64, "media_type": pl.String, "modified": pl.Datetime("us", "UTC")}
_TIMES = 3  # a file that changes while it is read is read again
_TYPES = mimetypes.MimeTypes(filenames=())  # the same on every machine


def read(
    dataset: Dataset, folder: Path, blobs: Blobs, before: pl.DataFrame | None = None, leave_out: Callable[[str], bool] = lambda path: False
) -> pl.DataFrame:
    """The files there are now, their bytes stored.

    Args:
        before: the rows of the version before; a content that is the same keeps the time it had.
        leave_out: whether the file of a path is not to be read, because it is about a person who was erased.
    Raises: DataError when there is no file, or one that cannot be read or does not stand still.
    """
    known = {(row[0], row[1]): row[2] for row in before.select("path", "address", "modified").iter_rows()} if before is not None else {}
    rows: list[tuple[Any, ...]] = []
    for path in _paths(dataset, folder):
        name = path.relative_to(folder).as_posix()
        if leave_out(name):
            continue
        address, size, moment = _store(path, blobs, dataset)
        if not name.isprintable():
            raise DataError(f"The name of file {name!r} is no text.", where=f"data set {dataset.name!r}", hint="Give it another name.")
        rows.append((name, address, size, _TYPES.guess_type(name)[0] or "application/octet-stream", known.get((name, address), moment)))
    if not rows:
        where = f"data set {dataset.name!r} ({folder})"
        raise DataError(f"There is no file {dataset.source.path!r}.", where=where, hint="'**' reaches into folders.")
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def fingerprint(dataset: Dataset, folder: Path) -> str:
    """A digest of the names and contents of the files."""
    whole = hashlib.sha256()
    for path in _paths(dataset, folder):
        whole.update(path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape") + b"\0")
        try:
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise _unreadable(path, dataset, error) from None
    return whole.hexdigest()


def whole(tables: Tables, blobs: Blobs, address: str) -> bool:
    """Whether the bytes of every file of a version are there."""
    return all(blobs.exists(a) for a in tables.scan(address).select("address").unique().collect().to_series().to_list())


def open_file(tables: Tables, blobs: Blobs, address: str, path: str) -> BinaryIO:
    """A file of a version, opened for reading; its bytes are checked first. Raises NotFound, Corrupt."""
    found = tables.scan(address).filter(pl.col("path") == path).select("address").collect()
    if not found.height:
        raise NotFound(f"This version has no file {path!r}.", where=address, hint="Paths are relative to the project folder.")
    blobs.verify(found.item())
    return blobs.path(found.item()).open("rb")


def addresses(tables: Tables, address: str) -> set[str]:
    """The blobs of a version."""
    return set(tables.scan(address).select("address").unique().collect().to_series().to_list())


def _paths(dataset: Dataset, folder: Path) -> Iterator[Path]:
    named = folder / dataset.source.path
    found = [dataset.source.path] if named.is_file() else sorted(glob.glob(dataset.source.path, root_dir=folder, recursive=True))
    for name in found:
        if (folder / name).is_file():
            yield folder / name


def _store(path: Path, blobs: Blobs, dataset: Dataset) -> tuple[str, int, datetime]:
    for _ in range(_TIMES):
        try:
            before = path.stat()
            with path.open("rb") as file:
                address = hashlib.file_digest(file, "sha256").hexdigest()
            if not blobs.exists(address):
                address = blobs.put(path)
            after = os.stat(path)
        except OSError as error:
            raise _unreadable(path, dataset, error) from None
        if (before.st_size, before.st_mtime_ns, before.st_ino) == (after.st_size, after.st_mtime_ns, after.st_ino):
            return address, after.st_size, datetime.fromtimestamp(after.st_mtime_ns // 1000 / 1e6, UTC)
    raise DataError(f"{path.name} changes while it is read.", where=f"data set {dataset.name!r} ({path})", hint="Run again when it is written.")


def _unreadable(path: Path, dataset: Dataset, error: OSError) -> DataError:
    return DataError(f"{path.name} cannot be read: {error.strerror}.", where=f"data set {dataset.name!r} ({path})", hint="Give the right to read it.")

