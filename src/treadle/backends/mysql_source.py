"""Rows of MariaDB and MySQL: one consistent snapshot that may not write, fetched row by row from the server as it finds them.

| MariaDB, MySQL | becomes |
|---|---|
| tinyint to bigint, year, bit | whole number (there is no boolean: tinyint(1) holds 0 and 1, and reads as one if the contract says so) |
| bigint unsigned, decimal | exact decimal (text until the contract says otherwise) |
| float, double | number |
| date | date |
| timestamp | moment, UTC |
| datetime | moment of the declared zone; '0000-00-00' is unparsed |
| binary, varbinary, blob, geometry | text, hexadecimal |
| json, uuid, time, enum, set and all others | text, as the server prints it |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import polars as pl
import pymysql
from pymysql.constants import CR, ER, FIELD_TYPE, FLAG
from pymysql.cursors import SSCursor

from treadle.backends.source_address import SourceAddress, read_address
from treadle.backends.sql_source import SqlColumn, SqlSource, Tag
from treadle.backends.sql_words import no_table, writes
from treadle.core.declare.source import Source
from treadle.core.errors import DataError, TreadleError, Unavailable

CONNECT_SECONDS = 10
_BATCH = 50_000  # rows made into columns at once
_TAGS: dict[int, Tag] = {
    **dict.fromkeys((FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.LONG, FIELD_TYPE.INT24, FIELD_TYPE.LONGLONG), "integer"),
    FIELD_TYPE.YEAR: "integer", FIELD_TYPE.BIT: "integer",
    **dict.fromkeys((FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE), "number"),
    **dict.fromkeys((FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL), "decimal"),
    FIELD_TYPE.DATE: "date", FIELD_TYPE.NEWDATE: "date", FIELD_TYPE.TIMESTAMP: "moment", FIELD_TYPE.DATETIME: "local",
}  # fmt: skip
_NAMES = {number: name for name, number in vars(FIELD_TYPE).items() if name.isupper()}
_WRITES = 1792  # in a transaction that may only read
_SLOW = (1969, 3024, ER.QUERY_INTERRUPTED)  # MariaDB's and MySQL's timeouts


class MysqlSource(SqlSource):
    """A table or query of MariaDB or MySQL."""

    def __init__(self, source: Source, folder: object) -> None:
        super().__init__(source, MysqlDialect(read_address(source.options["url"])))


class MysqlDialect:
    now = "CAST(UTC_TIMESTAMP(6) AS CHAR)"

    def __init__(self, address: SourceAddress) -> None:
        self._address = address
        self.shown = address.shown

    @contextmanager
    def session(self, timeout: float) -> Iterator[MysqlSession]:
        try:
            with closing(self._connect(timeout)) as connection:
                with connection.cursor() as cursor:
                    # Statements of their own, for a MySQL does not know MariaDB's variable, nor the other way round.
                    for limit in (f"SET SESSION max_statement_time = {timeout}", f"SET SESSION max_execution_time = {int(timeout * 1000)}"):
                        try:
                            cursor.execute(limit)
                            break
                        except pymysql.err.OperationalError as error:
                            if error.args[0] != ER.UNKNOWN_SYSTEM_VARIABLE:
                                raise
                    cursor.execute("SET SESSION time_zone = '+00:00'")
                    cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
                yield MysqlSession(connection, self.shown)
        except pymysql.err.Error as error:
            raise self._failure(error) from None

    def quote(self, name: str) -> str:
        return "`" + name.replace("`", "``") + "`"

    def text(self, value: str) -> str:
        return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"

    def as_text(self, expression: str) -> str:
        return f"CAST({expression} AS CHAR)"

    def state(self) -> str | None:
        return None  # information_schema's update_time is lost in a restart, and partitions have none

    def _connect(self, timeout: float) -> Any:
        host, port = self._address.host(3306)
        known = {"ssl_ca", "ssl_cert", "ssl_key", "unix_socket", "charset"}
        unknown = sorted(set(self._address.query) - known)
        if unknown:
            raise DataError(f"The address has a setting {unknown[0]!r}.", where=self.shown, hint=f"Known are: {', '.join(sorted(known))}.")
        return pymysql.connect(
            **{
                "host": host,
                "port": port,
                "user": self._address.user or None,
                "password": self._address.password,
                "database": self._address.path or None,
                "charset": "utf8mb4",
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": timeout + 60,
                "conv": {},
                "cursorclass": SSCursor,
                "autocommit": True,
                **self._address.query,
            }
        )

    def _failure(self, error: Exception) -> TreadleError:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        said = self._address.safe(error.args[1] if len(error.args) > 1 else error).rstrip(".")
        if code == ER.ACCESS_DENIED_ERROR:
            given = "this user and password" if self._address.password else "this user without a password"
            return DataError(
                f"The server does not accept {given}.", where=self.shown, hint="Check the user in the address and the variable of its password."
            )
        if code in (ER.BAD_DB_ERROR, ER.DBACCESS_DENIED_ERROR):
            return DataError(f"The server has no such database for this user ({said}).", where=self.shown, hint="Check its name in the address.")
        if code in _SLOW:
            return Unavailable(
                "The server took longer than the source's timeout and was interrupted.", where=self.shown,
                hint="Read less (a watermark, a narrower query), add an index, or raise timeout.",
            )  # fmt: skip
        if code in (CR.CR_CONN_HOST_ERROR, CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_CONNECTION_ERROR, 0):
            host, port = self._address.host(3306)
            return Unavailable(
                f"The server at {host}:{port} does not answer: {said or type(error).__name__}.", where=self.shown, hint="Check that it runs there."
            )
        if code in (ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, ER.CON_COUNT_ERROR, ER.SERVER_SHUTDOWN, ER.OPTION_PREVENTS_STATEMENT, 1927):
            return Unavailable(f"The server cannot do it now ({said}).", where=self.shown, hint="Try again in a moment.")
        if code in (ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR):
            return DataError(f"The server does not allow it ({said}).", where=self.shown, hint="Its owner can say: GRANT SELECT ON ... TO user.")
        if code == _WRITES:
            return writes(self.shown, said)
        return DataError(f"The server does not understand the query: {said}.", where=self.shown, hint="Try it in the mariadb or mysql client.")


class MysqlSession:
    def __init__(self, connection: Any, shown: str) -> None:
        self._connection, self._shown = connection, shown

    def shape(self, relation: str) -> list[SqlColumn]:
        with self._connection.cursor() as cursor:
            try:
                cursor.execute(f"SELECT * FROM {relation} LIMIT 0")
            except pymysql.err.ProgrammingError as error:
                if error.args[0] != ER.NO_SUCH_TABLE:
                    raise
            else:
                return [self._column(field) for field in cursor._result.fields]
        known = self.columns_of("")
        raise no_table(relation, known, self._shown)

    def row(self, query: str) -> list[str | None]:
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            found = cursor.fetchone()
            return [None if v is None else v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in found or []]

    def batches(self, relation: str, columns: Sequence[SqlColumn], where: str) -> Iterator[pl.DataFrame]:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {relation}{where}")
            while rows := cursor.fetchmany(_BATCH):
                yield pl.DataFrame([_series(c, values) for c, values in zip(columns, zip(*rows))])

    def columns_of(self, table: str) -> list[str]:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY table_name LIMIT 30")
            return [str(name) for (name,) in cursor.fetchall()]

    def _column(self, field: Any) -> SqlColumn:
        unsigned = bool(field.flags & FLAG.UNSIGNED)
        tag = _TAGS.get(field.type_code, "text")
        if field.type_code == FIELD_TYPE.LONGLONG and unsigned:
            tag = "decimal"
        return SqlColumn(str(field.name), _NAMES.get(field.type_code, str(field.type_code)).lower() + (" unsigned" if unsigned else ""), tag)


def _series(column: SqlColumn, values: tuple[Any, ...]) -> pl.Series:
    if column.type.startswith("bit"):
        return pl.Series(column.name, [None if v is None else int.from_bytes(v, "big") for v in values], dtype=pl.Int64, strict=False)
    try:
        return pl.Series(column.name, values, dtype=pl.String)
    except TypeError:
        return pl.Series(column.name, [v.hex() if isinstance(v, bytes) else v for v in values], dtype=pl.String)
