"""Rows of a DuckDB file, opened so that it cannot be written, or of any query DuckDB can answer without one: `duckdb:` reads files of the project
folder, however large they are.

| DuckDB | becomes |
|---|---|
| TINYINT to BIGINT, UTINYINT to UINTEGER | whole number |
| HUGEINT, UHUGEINT, UBIGINT, DECIMAL | exact decimal (text until the contract says otherwise) |
| FLOAT, DOUBLE | number; NaN stays NaN |
| BOOLEAN | boolean |
| DATE | date |
| TIMESTAMP WITH TIME ZONE | moment, UTC |
| TIMESTAMP, of any precision | moment of the declared zone, to the microsecond |
| BLOB | text, hexadecimal |
| LIST, STRUCT, MAP | text, JSON |
| JSON, UUID, TIME, INTERVAL, ENUM and all others | text |
"""

from __future__ import annotations

import atexit
import gc
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import duckdb
import polars as pl

from treadle.backends.source_address import read_address
from treadle.backends.sql_source import SqlColumn, SqlSource, Tag
from treadle.backends.sql_words import literal, no_table, quoted, there, too_slow, writes
from treadle.core.canonical import digest
from treadle.core.declare.source import Source
from treadle.core.errors import DataError, TreadleError, Unavailable

_TAGS: dict[str, Tag] = {
    **dict.fromkeys(("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"), "integer"),
    **dict.fromkeys(("HUGEINT", "UHUGEINT", "UBIGINT", "BIGNUM", "VARINT"), "decimal"),
    **dict.fromkeys(("FLOAT", "DOUBLE"), "number"),
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"), "local"),
    "BOOLEAN": "boolean", "DATE": "date", "TIMESTAMP WITH TIME ZONE": "moment",
}  # fmt: skip


class DuckdbSource(SqlSource):
    """A table or query of a DuckDB file; paths are relative to the project folder."""

    def __init__(self, source: Source, folder: Path) -> None:
        address = read_address(source.options["url"])
        super().__init__(source, DuckdbDialect(folder / address.path if address.path else None, folder, address.shown))


class DuckdbDialect:
    now = "strftime(now() AT TIME ZONE 'UTC', '%Y-%m-%d %H:%M:%S.%f')"

    def __init__(self, path: Path | None, folder: Path, shown: str) -> None:
        self._path, self._folder, self.shown = path, folder, shown

    @contextmanager
    def session(self, timeout: float) -> Iterator[DuckdbSession]:
        if self._path is not None:
            there(self._path, self.shown)
        try:
            with closing(duckdb.connect(str(self._path or ":memory:"), read_only=self._path is not None)) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                connection.execute("SET autoinstall_known_extensions = false")
                connection.execute(f"SET file_search_path = {literal(str(self._folder))}")
                if self._path is not None:
                    connection.execute("BEGIN TRANSACTION")
                timer = threading.Timer(timeout, connection.interrupt)
                timer.daemon = True
                timer.start()
                try:
                    yield DuckdbSession(connection, self.shown)
                finally:
                    timer.cancel()
        except duckdb.Error as error:
            raise self._failure(error) from None

    def quote(self, name: str) -> str:
        return quoted(name)

    def text(self, value: str) -> str:
        return literal(value)

    def as_text(self, expression: str) -> str:
        return f"CAST({expression} AS VARCHAR)"

    def state(self) -> str | None:
        if self._path is None:
            return None  # only the query knows what it reads
        try:
            paths = [path for path in (self._path, self._path.with_name(self._path.name + ".wal")) if path.exists()]
            return digest([[path.name, (found := path.stat()).st_size, found.st_mtime_ns] for path in paths])
        except OSError:
            return None

    def _failure(self, error: duckdb.Error) -> TreadleError:
        said = str(error).partition("\n")[0].partition(": ")[2] or str(error)
        said = said.removeprefix("Error: ").rstrip(".!")
        if isinstance(error, duckdb.InterruptException):
            return too_slow(self.shown)
        if "lock" in said.lower() or "different configuration" in said:
            return Unavailable(
                "Another process has the file open to write it.", where=self.shown, hint="DuckDB lets one process in: close that one first."
            )
        if isinstance(error, duckdb.OutOfMemoryException):
            return DataError(f"The query does not fit into memory ({said}).", where=self.shown, hint="Ask for fewer columns or rows.")
        if "not a valid DuckDB" in said:
            return DataError("This is no DuckDB file.", where=self.shown, hint="Check that it is the file you mean, and which version wrote it.")
        if "read-only" in said:
            return writes(self.shown)
        if isinstance(error, duckdb.IOException):
            return DataError(f"A file cannot be read: {said}.", where=self.shown, hint="Paths are relative to the project folder.")
        return DataError(f"DuckDB does not understand the query: {said}.", where=self.shown, hint="Try it in duckdb.")


@atexit.register
def _let_go() -> None:
    """Once a result went out as Arrow, DuckDB's modules are kept to the end of the process, where some forty lines about leaks are printed for it."""
    for name in [module for module in sys.modules if module.partition(".")[0] in ("duckdb", "_duckdb")]:
        vars(sys.modules.pop(name)).clear()
    gc.collect()


class DuckdbSession:
    def __init__(self, connection: duckdb.DuckDBPyConnection, shown: str) -> None:
        self._connection, self._shown = connection, shown

    def shape(self, relation: str) -> list[SqlColumn]:
        try:
            found = self._connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        except duckdb.CatalogException as error:
            if "Table with name" not in str(error):
                raise
            with suppress(duckdb.TransactionException):  # there is none without a file
                self._connection.execute("ROLLBACK")
            known = self.columns_of("")
            name = str(error).partition("Table with name ")[2].partition(" does not")[0]
            raise no_table(name, known, self._shown) from None
        return [SqlColumn(str(name), str(type_), _tag(str(type_))) for name, type_, *_ in found]

    def row(self, query: str) -> list[str | None]:
        found = next(iter(self._connection.execute(query).fetchall()), ())
        return [None if value is None else str(value) for value in found]

    def batches(self, relation: str, columns: Sequence[SqlColumn], where: str) -> Iterator[pl.DataFrame]:
        asked = ", ".join(f"{_plain(c)} AS {quoted(c.name)}" for c in columns)
        # Arrow, which Polars takes over without a copy.
        yield pl.DataFrame(self._connection.sql(f"SELECT {asked} FROM {relation}{where}"))

    def columns_of(self, table: str) -> list[str]:
        found = self._connection.execute("SELECT table_name FROM information_schema.tables ORDER BY table_name LIMIT 30").fetchall()
        return [str(name) for (name,) in found]


def _tag(type_: str) -> Tag:
    return "decimal" if type_.startswith("DECIMAL") and not type_.endswith("]") else _TAGS.get(type_, "text")


def _plain(column: SqlColumn) -> str:
    name = quoted(column.name)
    if column.type == "BLOB":
        return f"lower(hex({name}))"
    if column.type.endswith("]") or column.type.startswith(("STRUCT", "MAP", "UNION")):
        return f"CAST(to_json({name}) AS VARCHAR)"
    if column.tag == "text" or column.tag == "decimal":
        return f"CAST({name} AS VARCHAR)"
    if column.tag == "local" and column.type != "TIMESTAMP":
        return f"CAST({name} AS TIMESTAMP)"
    return name
