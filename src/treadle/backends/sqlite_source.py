"""Rows of a SQLite file, opened so that it cannot be written, in one transaction.

A column is what it was declared as, which SQLite itself does not enforce; a value that does not fit is unparsed. A column of a query that was
declared nowhere is a whole number or a number if all its values are, else text.

| SQLite, declared | becomes |
|---|---|
| INT... | whole number |
| REAL, FLOAT, DOUBLE | number |
| DECIMAL, NUMERIC | decimal (text until the contract says otherwise) |
| BOOL... | boolean |
| DATE | date, from ISO 8601 text |
| DATETIME, TIMESTAMP | moment, from ISO 8601 text, of the zone it names or else of the declared one; numbers are unparsed |
| BLOB | text, hexadecimal |
| all others, JSON too | text |
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from treadle.backends.source_address import read_address
from treadle.backends.sql_source import SqlColumn, SqlSource, Tag
from treadle.backends.sql_words import literal, no_table, quoted, there, too_slow, writes
from treadle.core.canonical import digest
from treadle.core.declare.source import Source
from treadle.core.errors import DataError, TreadleError, Unavailable

_BATCH = 50_000  # rows made into columns at once
_BUSY_SECONDS = 10.0
_TYPES: dict[Tag, Any] = {"integer": pl.Int64, "number": pl.Float64}


class SqliteSource(SqlSource):
    """A table or query of a SQLite file, which is relative to the project folder."""

    def __init__(self, source: Source, folder: Path) -> None:
        address = read_address(source.options["url"])
        super().__init__(source, SqliteDialect(folder / address.path, address.shown))


class SqliteDialect:
    now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"

    def __init__(self, path: Path, shown: str) -> None:
        self._path, self.shown = path, shown

    @contextmanager
    def session(self, timeout: float) -> Iterator[SqliteSession]:
        address = f"file:{quote(str(there(self._path, self.shown).absolute()))}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)) as connection:
                end = time.monotonic() + timeout
                connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
                connection.execute("BEGIN")
                connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()  # the snapshot is taken by the first that is read
                yield SqliteSession(connection, self.shown)
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def quote(self, name: str) -> str:
        return quoted(name)

    def text(self, value: str) -> str:
        return literal(value)

    def as_text(self, expression: str) -> str:
        return f"CAST({expression} AS TEXT)"

    def state(self) -> str | None:
        """The counter in the file's head, and what may lie in its log."""
        said: list[Any] = []
        try:
            with self._path.open("rb") as handle:
                said.append(handle.read(100)[24:28].hex())
            for path in (self._path, self._path.with_name(self._path.name + "-wal")):
                if path.exists():
                    found = os.stat(path)
                    said.append([found.st_size, found.st_mtime_ns])
        except OSError:
            return None
        return digest(said)

    def _failure(self, error: sqlite3.Error) -> TreadleError:
        said = str(error).rstrip(".")
        if said == "interrupted":
            return too_slow(self.shown)
        if "locked" in said or "busy" in said:
            return Unavailable("The file is locked by somebody who writes it.", where=self.shown, hint="Try again in a moment.")
        if "not a database" in said or "malformed" in said:
            return DataError(
                f"This is no sound SQLite file ({said}).", where=self.shown, hint="Check that it is the file you mean; PRAGMA integrity_check."
            )
        if "unable to open" in said:
            return DataError("The file cannot be opened.", where=self.shown, hint="Check its permissions, and those of its folder.")
        if "decode to UTF-8" in said:
            return DataError(
                f"A text is not UTF-8: {said[said.index('column') :]}.",
                where=self.shown,
                hint="Correct it, or read the column as hex(column) in a query.",
            )
        if "readonly" in said:
            return writes(self.shown)
        return DataError(f"SQLite does not understand the query: {said}.", where=self.shown, hint="Try it in sqlite3.")


class SqliteSession:
    def __init__(self, connection: sqlite3.Connection, shown: str) -> None:
        self._connection, self._shown = connection, shown

    def shape(self, relation: str) -> list[SqlColumn]:
        try:
            # A view knows what the columns of a query were declared as; a temporary one lies outside the file.
            self._connection.execute(f"CREATE TEMP VIEW treadle_shape AS SELECT * FROM {relation}")
            found = self._connection.execute("PRAGMA temp.table_info(treadle_shape)").fetchall()
            self._connection.execute("DROP VIEW temp.treadle_shape")
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            raise no_table(str(error).partition("no such table: ")[2], self.columns_of(""), self._shown) from None
        columns = [SqlColumn(str(name), str(declared).lower(), _tag(str(declared).lower())) for _, name, declared, *_ in found]
        unknown = [c for c in columns if not c.type]
        if not unknown:
            return columns
        names = [quoted(c.name) for c in unknown]
        asked = ", ".join(f"MAX(typeof({q}) IN ('text', 'blob')), MAX(typeof({q}) = 'real'), MAX(typeof({q}) = 'integer')" for q in names)
        answers = self._connection.execute(f"SELECT {asked} FROM {relation}").fetchone()
        tags: dict[str, Tag] = {}
        for i, column in enumerate(unknown):
            other, real, whole = answers[3 * i : 3 * i + 3]
            tags[column.name] = "text" if other or not (real or whole) else "number" if real else "integer"
        return [c if c.type else SqlColumn(c.name, tags[c.name], tags[c.name]) for c in columns]

    def row(self, query: str) -> list[str | None]:
        found = self._connection.execute(query).fetchone()
        return [None if value is None else value.hex() if isinstance(value, bytes) else str(value) for value in found or ()]

    def batches(self, relation: str, columns: Sequence[SqlColumn], where: str) -> Iterator[pl.DataFrame]:
        cursor = self._connection.execute(f"SELECT * FROM {relation}{where}")
        while rows := cursor.fetchmany(_BATCH):
            yield pl.DataFrame([_series(c, values) for c, values in zip(columns, zip(*rows))])

    def columns_of(self, table: str) -> list[str]:
        found = self._connection.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name LIMIT 30"
        )
        return [str(name) for (name,) in found]


def _tag(declared: str) -> Tag:
    if "int" in declared and "interval" not in declared and "point" not in declared:
        return "integer"
    if "bool" in declared:
        return "boolean"
    if any(word in declared for word in ("real", "floa", "doub")):
        return "number"
    if "dec" in declared or "numeric" in declared:
        return "decimal"
    if "datetime" in declared or "timestamp" in declared:
        return "local"
    return "date" if declared == "date" else "text"


def _series(column: SqlColumn, values: tuple[Any, ...]) -> pl.Series:
    try:
        if column.tag in _TYPES:
            return pl.Series(column.name, values, dtype=_TYPES[column.tag])
        return pl.Series(column.name, values, dtype=pl.String)
    except (TypeError, OverflowError):
        return pl.Series(column.name, [_plain(value) for value in values], dtype=pl.String)


def _plain(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    return repr(value)
