"""Rows of PostgreSQL: one REPEATABLE READ snapshot that may not write, and COPY, whose text is split into columns many rows at a time.

| PostgreSQL | becomes |
|---|---|
| smallint, integer, bigint | whole number |
| real, double precision | number; NaN stays NaN, infinity is unparsed |
| numeric | exact decimal (text until the contract says otherwise) |
| boolean | boolean |
| date | date |
| timestamp with time zone | moment, UTC |
| timestamp | moment of the declared zone |
| bytea | text, hexadecimal |
| json, jsonb, uuid, time, interval, arrays, enums, ranges and all others | text, as PostgreSQL prints it |
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import polars as pl
import psycopg
from psycopg.conninfo import conninfo_to_dict

from treadle.backends.source_address import SourceAddress, read_address
from treadle.backends.sql_source import SqlColumn, SqlSource, Tag
from treadle.backends.sql_words import quoted, writes
from treadle.core.declare.source import Source
from treadle.core.errors import DataError, TreadleError, Unavailable

CONNECT_SECONDS = 10
_BATCH = 16 << 20  # bytes of text made into columns at once
_TAGS: dict[int, Tag] = {
    16: "boolean", 20: "integer", 21: "integer", 23: "integer", 26: "integer", 700: "number", 701: "number", 1700: "decimal", 1082: "date",
    1114: "local", 1184: "moment",
}  # fmt: skip
_ESCAPES = (("\\b", "\b"), ("\\f", "\f"), ("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t"), ("\\v", "\v"))
_REFUSED = {
    "password authentication failed": ("does not accept this user and password", "Check the user in the address and the variable of its password."),
    "no password supplied": ("asks for a password and was given none", "Write postgresql://user:${PASSWORD}@host/database."),
    "no pg_hba.conf entry": (
        "does not let this user connect from this machine",
        "Its administrator can add one to pg_hba.conf; or try ?sslmode=require.",
    ),
    "role ": ("does not know this user", "Check the user in the address."),
    "database ": ("has no such database", "Check its name in the address."),
}


class PostgresSource(SqlSource):
    """A table or query of PostgreSQL."""

    def __init__(self, source: Source, folder: object) -> None:
        super().__init__(source, PostgresDialect(read_address(source.options["url"])))


class PostgresDialect:
    now = "to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"

    def __init__(self, address: SourceAddress) -> None:
        self._address = address
        self.shown = address.shown

    @contextmanager
    def session(self, timeout: float) -> Iterator[PostgresSession]:
        try:
            with self._connect() as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
                connection.read_only = True
                # Set here and not as connection options, which a pooler would refuse.
                connection.execute(
                    f"SET LOCAL statement_timeout = {int(timeout * 1000)}; SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD';"
                    "SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL intervalstyle = 'iso_8601'"
                )
                yield PostgresSession(connection, self.shown)
                connection.rollback()
        except psycopg.Error as error:
            raise self._failure(error) from None

    def quote(self, name: str) -> str:
        return quoted(name)

    def text(self, value: str) -> str:
        return "'" + value.replace("'", "''") + "'" if "\\" not in value else "E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"

    def as_text(self, expression: str) -> str:
        return f"{expression}::text"

    def state(self) -> str | None:
        return None  # the counters of pg_stat are late, and forget in a crash

    def _connect(self) -> psycopg.Connection:
        try:
            told = conninfo_to_dict(self._address.url)
        except psycopg.Error:  # its text may quote the password
            raise DataError("The address cannot be read.", where=self.shown, hint="Write postgresql://user:${PASSWORD}@host:5432/database.") from None
        return psycopg.connect(**{"connect_timeout": CONNECT_SECONDS, "application_name": "treadle", **told, "client_encoding": "UTF8"})  # type: ignore[arg-type]

    def _failure(self, error: psycopg.Error) -> TreadleError:
        code, said = error.sqlstate or "", self._address.safe(error.diag.message_primary or str(error)).rstrip(".")
        hint = self._address.safe(error.diag.message_hint or "")
        if not code and isinstance(error, psycopg.OperationalError):
            for sign, (what, do) in _REFUSED.items():
                if sign in said and (not sign.endswith(" ") or "does not exist" in said):
                    return DataError(f"PostgreSQL {what}.", where=self.shown, hint=do)
            why = " ".join(said.removeprefix("connection failed: ").partition("Is the server running")[0].split())
            return Unavailable(
                f"PostgreSQL does not answer: {why}.", where=self.shown, hint="Check that the server runs there and can be reached from here."
            )
        if code == "57014":
            return Unavailable(
                "PostgreSQL took longer than the source's timeout and was interrupted.", where=self.shown,
                hint="Read less (a watermark, a narrower query), add an index, or raise timeout.",
            )  # fmt: skip
        if code.startswith(("08", "57P", "40", "53", "55")):
            return Unavailable(f"PostgreSQL cannot do it now ({said}).", where=self.shown, hint="Try again in a moment.")
        if code == "42501":
            return DataError(f"PostgreSQL does not allow it ({said}).", where=self.shown, hint="Its owner can say: GRANT SELECT ON ... TO user.")
        if code == "25006":
            return writes(self.shown, said)
        if code.startswith("42"):
            return DataError(f"PostgreSQL does not understand the query: {said}.", where=self.shown, hint=hint or "Try it in psql.")
        return DataError(f"PostgreSQL refused to read: {said}.", where=self.shown, hint=hint or "Try the query in psql.")


class PostgresSession:
    def __init__(self, connection: psycopg.Connection, shown: str) -> None:
        self._connection, self._shown = connection, shown

    def shape(self, relation: str) -> list[SqlColumn]:
        try:
            found = self._connection.execute(f"SELECT * FROM {relation} LIMIT 0").description or []  # type: ignore[arg-type]
        except psycopg.errors.UndefinedTable:
            self._connection.rollback()
            raise DataError(f"There is no table {relation}.", where=self._shown, hint=_known(self.columns_of(""))) from None
        return [SqlColumn(c.name, c.type_display, _TAGS.get(c.type_code, "text")) for c in found]

    def row(self, query: str) -> list[str | None]:
        found = self._connection.execute(query).fetchone()  # type: ignore[arg-type]
        return [None if value is None else str(value) for value in found or []]

    def batches(self, relation: str, columns: Sequence[SqlColumn], where: str) -> Iterator[pl.DataFrame]:
        parts: list[bytes] = []
        size = 0
        with self._connection.cursor().copy(f"COPY (SELECT * FROM {relation}{where}) TO STDOUT") as copy:  # type: ignore[arg-type]
            for part in copy:
                parts.append(bytes(part))
                size += len(part)
                if size >= _BATCH and parts[-1].endswith(b"\n"):
                    yield self._split(b"".join(parts), columns)
                    parts, size = [], 0
        if parts:
            yield self._split(b"".join(parts), columns)

    def columns_of(self, table: str) -> list[str]:
        found = self._connection.execute(
            "SELECT CASE WHEN schemaname = current_schema() THEN '' ELSE schemaname || '.' END || tablename FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY schemaname <> current_schema(), tablename LIMIT 30"
        )
        return [str(name) for (name,) in found]

    def _split(self, data: bytes, columns: Sequence[SqlColumn]) -> pl.DataFrame:
        """COPY's text: a line a row, a tab between fields, \\N for null, and what could be mistaken for these behind a backslash."""
        names = [c.name for c in columns]
        try:
            if len(names) == 1:  # a line that holds nothing is an empty text here, which a CSV reader would skip
                lines = pl.Series(names[0], data.decode().split("\n")[:-1], dtype=pl.String)
                frame = lines.to_frame().with_columns(pl.when(lines != "\\N").then(lines).alias(names[0]))
            else:
                frame = pl.read_csv(
                    io.BytesIO(data), separator="\t", quote_char=None, has_header=False, new_columns=names, infer_schema=False
                ).select(pl.when(pl.all() != "\\N").then(pl.all()).when(pl.all().is_null()).then(pl.lit("")))  # an empty field is an empty text here
        except (UnicodeDecodeError, pl.exceptions.ComputeError) as error:
            raise DataError(
                f"The rows do not read as UTF-8 ({str(error).splitlines()[0]}).", where=self._shown,
                hint="Is the database of encoding SQL_ASCII? Convert the column in the query with convert_from(...).",
            ) from None  # fmt: skip
        return frame.with_columns(_plain(frame[c.name], c.type) for c in columns)


def _plain(values: pl.Series, type_: str) -> pl.Series:
    if values.str.contains("\\", literal=True).any():
        values = values.str.replace_all("\\\\", "\0", literal=True)  # PostgreSQL's texts cannot hold a NUL
        for written, meant in _ESCAPES:
            values = values.str.replace_all(written, meant, literal=True)
        values = values.str.replace_all("\0", "\\", literal=True)
    if type_ == "bytea":
        return values.str.strip_prefix("\\x")
    return values


def _known(tables: Sequence[str]) -> str:
    return f"There are: {', '.join(tables)}." if tables else "There are no tables that this user may see."
