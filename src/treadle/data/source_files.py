"""Rows from files: CSV, Parquet and JSON lines, in a folder or in an object store, by one path of code.

A pattern is read file by file: new files are new rows; a file that changed or went means that everything is read again.
"""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.canonical import digest
from treadle.core.declare.source import Source
from treadle.core.errors import DataError, Unavailable
from treadle.data import json_rows
from treadle.data.csv_text import read_strings
from treadle.data.memory import enough_memory
from treadle.ports.files import Files, Listed
from treadle.ports.source import Rows

_TRIES = 3  # of a file that is being written while it is read
_GROWTH = {"csv": 4.0, "jsonl": 5.0, "parquet": 3.0}  # bytes in memory for a byte of a file, about


class LocalFiles:
    """Files of this machine, relative to a folder. The tag is the hash of the contents."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def paths(self, pattern: str) -> list[Path]:
        named = self._folder / pattern  # a file may be called 'rows[1].csv'
        found = [named] if named.exists() else sorted(self._folder / p for p in glob.glob(pattern, root_dir=self._folder, recursive=True))
        return found if len(found) == 1 else [path for path in found if not path.is_dir()]

    def listed(self, pattern: str) -> list[Listed]:
        found = self.paths(pattern)
        if found and found[0].is_dir():
            raise DataError(f"{pattern!r} is a folder.", where=str(self._folder), hint="Name a file, or a pattern like 'data/*.parquet'.")
        return [self._look(path) for path in found]

    @contextmanager
    def fetched(self, file: Listed) -> Iterator[Path]:
        path = self._folder / file.name
        before = _state(path)
        yield path
        if _state(path) != before or self._look(path).tag != file.tag:
            raise Unavailable("The file was written while it was read.", where=file.name, hint="Try again when its writer has finished.")

    def _look(self, path: Path) -> Listed:
        name = os.path.relpath(path, self._folder) if path.is_relative_to(self._folder) else str(path)
        try:
            with path.open("rb") as handle:
                tag = hashlib.file_digest(handle, "sha256").hexdigest()
            return Listed(name, path.stat().st_size, tag)
        except FileNotFoundError:
            raise Unavailable("The file was removed while it was read.", where=name, hint="Try again.") from None
        except OSError as error:
            raise DataError(f"The file cannot be read: {error.strerror}.", where=name, hint="Check its permissions.") from None


class FileConnector:
    """The files that a source names, as a connector."""

    forgets = False

    def __init__(self, source: Source, files: Files, place: str) -> None:
        self._source, self._files, self._place = source, files, place

    @property
    def shown(self) -> str:
        return self._source.path

    def fingerprint(self, since: Mapping[str, Any] | None = None) -> str | None:
        return digest([[file.name, file.size, file.tag] for file in self._listed()])

    def read(self, since: Mapping[str, Any] | None = None) -> Rows:
        for left in reversed(range(_TRIES)):
            try:
                return self._read(self._listed(), since)
            except Unavailable:
                if not left:
                    raise
        raise AssertionError

    def _listed(self) -> list[Listed]:
        found = list(self._files.listed(self._source.path))
        if not found:
            hint = "The path is relative to the project folder." if "://" not in self._source.path else "Check the bucket and the path."
            raise DataError(f"There is no file {self._source.path!r}.", where=self._place, hint=hint)
        return found

    def _read(self, listed: list[Listed], since: Mapping[str, Any] | None) -> Rows:
        position: dict[str, Any] = {"files": {file.name: [file.size, file.tag] for file in listed}}
        known = dict(since["files"]) if since else {}
        kept = {name: tag for name, tag in known.items() if position["files"].get(name) == tag}
        since = since if known and len(kept) == len(known) else None
        # With nothing new the last file is read once more: it adds nothing, and says what the columns are.
        wanted = [file for file in listed if since is None or file.name not in kept] or listed[-1:]
        enough_memory(sum(file.size for file in wanted), _GROWTH[self._source.kind], self._source.path)
        shapes, frames = [], []
        for file in wanted:
            with self._files.fetched(file) as path:
                frame = _READ[self._source.kind](path, self._source, file.name)
            shapes.append((file.name, frame.schema))
            frames.append(frame)
        if self._source.kind == "jsonl":
            frame = json_rows.together(frames)
        else:
            before = [("the files read before", pl.Schema(_schema(since["columns"], frames[0].schema)))] if since else []
            _same_columns([*before, *shapes], types=self._source.kind == "parquet")
            frame = pl.concat([f.select(frames[0].columns) for f in frames]) if len(frames) > 1 else frames[0]
        position["columns"] = [[name, str(dtype)] for name, dtype in frame.schema.items()]
        if since and self._source.kind == "jsonl" and position["columns"] != since["columns"]:
            return self._read(listed, None)  # the new lines say more, or otherwise, than the old ones did
        return Rows(frame, position, full=since is None)


def _state(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_size, found.st_mtime_ns, found.st_ino)


def _schema(columns: list[list[str]], like: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The columns of a position. Their types are texts there; one that reads as the present type is taken as it, any other is not."""
    return [(name, like[name] if name in like and str(like[name]) == text else pl.Unknown()) for name, text in columns]


def _same_columns(shapes: list[tuple[str, pl.Schema]], *, types: bool) -> None:
    first, schema = shapes[0]
    for name, other in shapes[1:]:
        lacks, more = [c for c in schema if c not in other], [c for c in other if c not in schema]
        differ = [c for c in schema if c in other and other[c] != schema[c]] if types else []
        if lacks or more or differ:
            said = [f"lacks {', '.join(map(repr, lacks[:5]))}"] if lacks else []
            said += [f"has also {', '.join(map(repr, more[:5]))}"] if more else []
            said += [f"holds {other[differ[0]]} in {differ[0]!r} where the other has another type"] if differ else []
            raise DataError(
                f"{name} has other columns than {first}: it {' and '.join(said)}.",
                where=name,
                hint="Files of one pattern must have the same columns.",
            )


def _csv(path: Path, source: Source, name: str) -> pl.DataFrame:
    options = source.options
    return read_strings(path, separator=options["separator"], null_values=options["null_values"], encoding=options.get("encoding", ""), name=name)


def _parquet(path: Path, source: Source, name: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"The file does not parse: {str(error).splitlines()[0]}", where=name) from None


def _jsonl(path: Path, source: Source, name: str) -> pl.DataFrame:
    return json_rows.read_lines(path, name)


_READ: dict[str, Callable[[Path, Source, str], pl.DataFrame]] = {"csv": _csv, "parquet": _parquet, "jsonl": _jsonl}
