"""Each database's types become ours as its page says, and each mistake in a query or an address has one sentence."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import polars as pl
import psycopg
import pymysql
import pytest

import treadle as tr
from treadle.backends.catalog import open_source
from treadle.core.errors import DataError, Unavailable
from treadle.data import sources
from treadle.data.sources import Extract
from treadle.testing import servers

MOMENT = datetime(2024, 3, 31, 1, 30, 0, 123456, tzinfo=UTC)


class Shop:
    """A database of its own for a test: `run` says something to it, `source` declares what is read there."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        name = servers.schema_of(folder)
        if kind == "postgresql":
            self.url = servers.postgres_url(options=f"-csearch_path%3D{name}")
            self._connection: Any = psycopg.connect(servers.postgres_url(), autocommit=True)
            self.run(f"CREATE SCHEMA {name}", f"SET search_path = {name}")
        elif kind == "mariadb":
            port = servers.mariadb().port
            with pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True) as root, root.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {name}")
                cursor.execute(f"GRANT ALL ON {name}.* TO treadle@'127.0.0.1'")
            self._connection = pymysql.connect(
                host="127.0.0.1", port=port, user="treadle", password="secret %@/", database=name, autocommit=True, init_command="SET time_zone='+00:00'"
            )
            self.url = f"mariadb://treadle:${{MARIA_PASSWORD}}@127.0.0.1:{port}/{name}"
            os.environ["MARIA_PASSWORD"] = "secret %@/"
        elif kind == "sqlite":
            self._connection = sqlite3.connect(folder / "shop.db", isolation_level=None)
            self.url = "sqlite:shop.db"
        else:
            self._connection = None
            self.url = "duckdb:shop.duckdb"
            self.run("SELECT 1")

    def run(self, *statements: str) -> None:
        if self._connection is None:
            with duckdb.connect(str(self.folder / "shop.duckdb")) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                for statement in statements:
                    connection.execute(statement)
            return
        with closing(self._connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)

    def extract(self, since: Any = None, *, key: str = "id", contract: tr.Contract | None = None, **declared: Any) -> Extract:
        dataset = tr.Project("p").dataset("orders", source=tr.sql(self.url, **declared), key=key, contract=contract)
        return sources.extract(dataset, self.folder, since, lambda source: open_source(source, self.folder))

    def fingerprint(self, since: Any = None, **declared: Any) -> str | None:
        dataset = tr.Project("p").dataset("orders", source=tr.sql(self.url, **declared), key="id")
        return sources.fingerprint(dataset, self.folder, lambda source: open_source(source, self.folder), since)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Callable[[str], Shop]]:
    opened: list[Shop] = []

    def make(kind: str) -> Shop:
        opened.append(Shop(kind, tmp_path))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


KINDS = ["postgresql", "mariadb", "sqlite", "duckdb"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def one(found: Extract) -> dict[str, Any]:
    assert found.frame.height == 1
    return found.frame.row(0, named=True)


# What types become


def test_postgresql_types(shop: Callable[[str], Shop]) -> None:
    db = shop("postgresql")
    db.run(
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        """CREATE TABLE t (id bigint, small smallint, num real, nan double precision, price numeric(20, 4), big numeric(30), ok boolean, day date,
            moment timestamptz, local timestamp, doc jsonb, raw bytea, tags text[], mood mood, uid uuid, clock time, span interval, blank text, gone text)""",
        """INSERT INTO t VALUES (9007199254740993, -5, 2.5, 'NaN', 1234567890123456.7891, 123456789012345678901234567890, true, '2024-02-29',
            '2024-03-31 03:30:00.123456+02', '2024-03-31 02:30:00', '{"a": [1, "ü"]}', '\\x00ff', '{a,"b c"}', 'ok',
            'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '10:00', '1 day 2 hours', '', NULL)""",
    )
    contract = tr.Contract({"price": tr.text(), "big": tr.text(), "num": tr.number()})
    found = one(db.extract(table="t", contract=contract))
    assert found == {
        "id": 9007199254740993, "small": -5, "num": 2.5, "nan": pytest.approx(float("nan"), nan_ok=True), "price": "1234567890123456.7891",
        "big": "123456789012345678901234567890", "ok": True, "day": date(2024, 2, 29), "moment": MOMENT,
        "local": datetime(2024, 3, 31, 2, 30, tzinfo=UTC), "doc": '{"a": [1, "ü"]}', "raw": "00ff", "tags": '{a,"b c"}', "mood": "ok",
        "uid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "clock": "10:00:00", "span": "P1DT2H", "blank": "", "gone": None,
    }  # fmt: skip
    assert db.extract(table="t").frame.schema["price"] == pl.Float64  # nobody says what it is


def test_mariadb_types(shop: Callable[[str], Shop]) -> None:
    db = shop("mariadb")
    db.run(
        """CREATE TABLE t (id bigint unsigned, small tinyint, ok boolean, num float, price decimal(20, 4), day date, moment timestamp(6),
            local datetime(6), doc json, raw varbinary(9), mood enum('sad', 'ok'), bits bit(3), made year, clock time, blank text, gone text)""",
        """INSERT INTO t VALUES (18446744073709551615, -5, true, 2.5, 1234567890123456.7891, '2024-02-29', '2024-03-31 01:30:00.123456',
            '2024-03-31 02:30:00', '{"a": [1, "ü"]}', x'00ff', 'ok', b'101', 2024, '10:00', '', NULL)""",
    )
    found = one(db.extract(table="t", contract=tr.Contract({"price": tr.text(), "ok": tr.boolean()})))
    assert found == {
        "id": "18446744073709551615", "small": -5, "ok": True, "num": 2.5, "price": "1234567890123456.7891", "day": date(2024, 2, 29), "moment": MOMENT,
        "local": datetime(2024, 3, 31, 2, 30, tzinfo=UTC), "doc": '{"a": [1, "ü"]}', "raw": "00ff", "mood": "ok", "bits": 5, "made": 2024,
        "clock": "10:00:00", "blank": "", "gone": None,
    }  # fmt: skip


def test_sqlite_types(shop: Callable[[str], Shop]) -> None:
    db = shop("sqlite")
    db.run(
        "CREATE TABLE t (id INTEGER, num REAL, price DECIMAL(20, 4), ok BOOLEAN, day DATE, moment TIMESTAMP, local DATETIME, doc JSON, raw BLOB, any, gone TEXT)",
        """INSERT INTO t VALUES (9007199254740993, 2.5, '12.3456', 1, '2024-02-29', '2024-03-31T03:30:00.123456+02:00', '2024-03-31 02:30', '{"a":1}',
            x'00ff', 7, NULL)""",
    )
    assert one(db.extract(table="t")) == {
        "id": 9007199254740993, "num": 2.5, "price": 12.3456, "ok": True, "day": date(2024, 2, 29), "moment": MOMENT,
        "local": datetime(2024, 3, 31, 2, 30, tzinfo=UTC), "doc": '{"a":1}', "raw": "00ff", "any": 7, "gone": None,
    }  # fmt: skip


def test_duckdb_types(shop: Callable[[str], Shop]) -> None:
    db = shop("duckdb")
    db.run(
        """CREATE TABLE t AS SELECT 9007199254740993::bigint AS id, 5::utinyint AS small, 'nan'::double AS nan, 1234567890123456.7891::decimal(20, 4) AS price,
            123456789012345678901234567890::hugeint AS big, true AS ok, date '2024-02-29' AS day, '2024-03-31 03:30:00.123456+02'::timestamptz AS moment,
            timestamp_s '2024-03-31 02:30:00' AS local, '{"a":1}'::json AS doc, '\\x00\\xff'::blob AS raw, ['a', 'b'] AS tags, {'x': 1} AS point,
            time '10:00' AS clock, interval 1 day AS span, '' AS blank, NULL::varchar AS gone""",
    )
    contract = tr.Contract({"price": tr.text(), "big": tr.text()})
    assert one(db.extract(table="t", contract=contract)) == {
        "id": 9007199254740993, "small": 5, "nan": pytest.approx(float("nan"), nan_ok=True), "price": "1234567890123456.7891",
        "big": "123456789012345678901234567890", "ok": True, "day": date(2024, 2, 29), "moment": MOMENT,
        "local": datetime(2024, 3, 31, 2, 30, tzinfo=UTC), "doc": '{"a":1}', "raw": "00ff", "tags": '["a","b"]', "point": '{"x":1}',
        "clock": "10:00:00", "span": "1 day", "blank": "", "gone": None,
    }  # fmt: skip


@every_kind
def test_a_moment_without_a_zone_is_of_the_declared_one(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    type_ = {"postgresql": "timestamp", "mariadb": "datetime", "sqlite": "datetime", "duckdb": "timestamp"}[kind]
    db.run(f"CREATE TABLE t (id integer, local {type_})")
    db.run(*(f"INSERT INTO t VALUES ({i}, '{text}')" for i, text in enumerate(["2024-01-01 12:00:00", "2024-07-01 12:00:00", "2024-10-27 02:30:00"])))
    found = db.extract(table="t", tz="Europe/Warsaw").frame.sort("id")["local"]
    assert [m.hour for m in found] == [11, 10, 0]  # winter, summer, and of the hour that comes twice the first
    db.run("INSERT INTO t VALUES (3, '2024-03-31 02:30:00')")  # an hour that was left out
    more = db.extract(table="t", tz="Europe/Warsaw")
    assert [(more.frame["id"][u.row], u.column) for u in more.unparsed] == [(3, "local")]


def test_what_no_calendar_has_is_named_and_stops_nothing(shop: Callable[[str], Shop]) -> None:
    db = shop("postgresql")
    db.run("CREATE TABLE t (id integer, at timestamptz)", "INSERT INTO t VALUES (1, 'infinity'), (2, '0044-03-15 BC'), (3, '2024-01-01')")
    found = db.extract(table="t")
    assert [(u.row, u.column, u.text) for u in found.unparsed] == [(0, "at", "infinity"), (1, "at", "0044-03-15 00:00:00+00 BC")]
    other = shop("mariadb")
    other.run("SET sql_mode = ''", "CREATE TABLE t (id integer, at datetime)", "INSERT INTO t VALUES (1, '0000-00-00'), (2, '2024-01-01')")
    assert [(u.row, u.text) for u in other.extract(table="t").unparsed] == [(0, "0000-00-00 00:00:00")]


def test_a_sqlite_value_that_is_not_of_its_columns_type_is_named(shop: Callable[[str], Shop]) -> None:
    db = shop("sqlite")
    db.run("CREATE TABLE t (id INTEGER, n INTEGER, at TIMESTAMP)", "INSERT INTO t VALUES (1, 'many', 1700000000), (2, 5, '2024-01-01')")
    assert [(u.row, u.column, u.text) for u in db.extract(table="t").unparsed] == [(0, "n", "many"), (0, "at", "1700000000")]


def test_texts_survive_whatever_stands_in_them(shop: Callable[[str], Shop]) -> None:
    texts = ["\\N", "\\", "\\\\n", "a\tb", "a\nb", "a\r\nb", "'", '"', "", " ", "\\.", "NULL", "\x01", "żółw 🚲"]
    db = shop("postgresql")
    db.run("CREATE TABLE t (id integer, one text, two text)", "CREATE TABLE single (one text)")
    with closing(db._connection.cursor()) as cursor:
        cursor.executemany("INSERT INTO t VALUES (%s, %s, %s)", [(i, text, texts[-1 - i]) for i, text in enumerate(texts)])
        cursor.executemany("INSERT INTO single VALUES (%s)", [(text,) for text in [*texts, None]])
    assert db.extract(table="t").frame.sort("id").rows() == [(i, text, texts[-1 - i]) for i, text in enumerate(texts)]
    assert {*db.extract(table="single", key="one").frame["one"]} == {*texts, None}


# Reading on


@every_kind
def test_rows_without_a_watermark_are_not_forgotten(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    db.run("CREATE TABLE t (id integer, v integer)", "INSERT INTO t VALUES (1, 10), (2, NULL)")
    first = db.extract(table="t", watermark="v")
    db.run("INSERT INTO t VALUES (3, NULL), (4, 5)")
    more = db.extract(first.position, table="t", watermark="v")
    assert sorted(more.frame["id"]) == [1, 2, 3]  # 4 lies before what was read: what grows must grow
    assert db.fingerprint(more.position, table="t", watermark="v") is None


@every_kind
def test_a_number_may_overlap_by_a_number(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    db.run("CREATE TABLE t (id integer, v integer)", "INSERT INTO t VALUES " + ", ".join(f"({n}, {n})" for n in range(100)))
    first = db.extract(table="t", watermark="v", overlap=5)
    assert sorted(db.extract(first.position, table="t", watermark="v", overlap=5).frame["id"]) == [94, 95, 96, 97, 98, 99]
    with pytest.raises(DataError, match="The overlap does not fit the watermark 'v', which holds '99'"):
        db.extract(table="t", watermark="v", overlap="10m")


@every_kind
def test_a_query_is_read_on_as_a_table_is(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    db.run("CREATE TABLE t (id integer, v integer)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    query = "SELECT id, v * 2 AS twice FROM t WHERE id > 0 -- all of them\n;"
    first = db.extract(query=query, watermark="twice")
    assert sorted(first.frame.rows()) == [(1, 2), (2, 4)]
    db.run("INSERT INTO t VALUES (3, 3)")
    assert sorted(db.extract(first.position, query=query, watermark="twice").frame.rows()) == [(2, 4), (3, 6)]


@every_kind
def test_deleted_rows_go_when_everything_is_read_again(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    db.run("CREATE TABLE t (id integer, v integer)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    declared: dict[str, Any] = {"table": "t", "watermark": "v", "whole_every": "1d"}
    first = db.extract(**declared)
    db.run("DELETE FROM t WHERE id = 1")
    assert not db.extract(first.position, **declared).full
    old = {**first.position, "at": {**first.position["at"], "whole_at": "2020-01-01T00:00:00.000000Z"}}
    assert db.fingerprint(old, **declared) is None
    again = db.extract(old, **declared)
    assert (again.full, again.frame["id"].to_list()) == (True, [2])


@every_kind
def test_the_fingerprint_without_a_watermark_is_the_files_or_a_declared_query(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    db.run("CREATE TABLE t (id integer, v integer)", "INSERT INTO t VALUES (1, 1)")
    first = db.fingerprint(table="t")
    assert (first is None) == (kind in ("postgresql", "mariadb"))
    asked = db.fingerprint(table="t", changed="SELECT max(v), count(*) FROM t")
    assert asked is not None
    assert asked == db.fingerprint(table="t", changed="SELECT max(v), count(*) FROM t")
    db.run("INSERT INTO t VALUES (2, 2)")
    assert asked != db.fingerprint(table="t", changed="SELECT max(v), count(*) FROM t")
    assert first is None or first != db.fingerprint(table="t")


@every_kind
def test_a_watermark_that_was_just_written_is_not_trusted_yet(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    db.run(f"CREATE TABLE t (id integer, seen {'timestamptz' if kind in ('postgresql', 'duckdb') else 'datetime'})")
    now, before = (f"{datetime.now(UTC) - timedelta(minutes=m):%Y-%m-%d %H:%M:%S}" for m in (0, 5))
    db.run(f"INSERT INTO t VALUES (1, '{before}')")
    position = db.extract(table="t", watermark="seen").position
    assert db.fingerprint(position, table="t", watermark="seen") is not None
    assert db.fingerprint(position, table="t", watermark="seen", overlap="10m") is None
    db.run(f"INSERT INTO t VALUES (2, '{now}')")
    assert db.fingerprint(table="t", watermark="seen") is not None


# Mistakes


@every_kind
def test_a_watermark_that_is_no_column_is_named_with_those_there_are(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    db.run("CREATE TABLE t (id integer, changed integer)")
    with pytest.raises(DataError, match="There is no column 'changed_at', the watermark") as caught:
        db.extract(table="t", watermark="changed_at")
    assert caught.value.hint == "It has: id, changed."


@every_kind
def test_a_query_that_does_not_parse_or_names_a_wrong_column_says_so(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    db.run("CREATE TABLE t (id integer)")
    for query in ("SELECT colour FROM t", "SELECT FROM WHERE", "SELECT id FROM t; DROP TABLE t"):
        with pytest.raises(DataError, match="does not understand the query") as caught:
            db.extract(query=query)
        assert "colour" in str(caught.value) or "colour" not in query


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_two_columns_of_one_name_are_refused(shop: Callable[[str], Shop], kind: str) -> None:
    with pytest.raises(DataError, match=r"Two columns of the query are called 'id'|Duplicate column name 'id'"):
        shop(kind).extract(query="SELECT 1 AS id, 2 AS id")


@every_kind
def test_nothing_can_be_written_through_a_source(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    db.run("CREATE TABLE t (id integer)", "INSERT INTO t VALUES (1)")
    with pytest.raises(DataError):
        db.extract(query="WITH gone AS (DELETE FROM t RETURNING id) SELECT id FROM gone")
    assert db.extract(table="t").frame.height == 1


def test_a_function_that_writes_is_refused_by_postgresql(shop: Callable[[str], Shop]) -> None:
    db = shop("postgresql")
    db.run("CREATE TABLE t (id integer)", "CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING id'")
    with pytest.raises(DataError, match="The query writes"):
        db.extract(query="SELECT f() AS id")


def test_a_table_one_may_not_read_says_what_its_owner_can_do(shop: Callable[[str], Shop], monkeypatch: pytest.MonkeyPatch) -> None:
    db = shop("postgresql")
    name = servers.schema_of(db.folder)
    db.run("CREATE TABLE t (id integer)", f"GRANT USAGE ON SCHEMA {name} TO guest")
    monkeypatch.setenv("GUEST", "secret %@/")
    db.url = f"postgresql://guest:${{GUEST}}@127.0.0.1:{servers.postgres().port}/postgres"
    with pytest.raises(DataError, match="permission denied for table t") as caught:
        db.extract(table=f"{name}.t")
    assert "GRANT SELECT" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("postgresql", "SELECT 1 AS id FROM pg_sleep(60)"),
        ("mariadb", "SELECT SLEEP(60) + 1 AS id"),
        ("sqlite", "WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT sum(id) AS id FROM n"),
        ("duckdb", "SELECT sum(a.range * b.range) AS id FROM range(100000000) a, range(100000) b"),
    ],
)
def test_a_statement_that_takes_too_long_is_interrupted(shop: Callable[[str], Shop], kind: str, query: str) -> None:
    with pytest.raises(Unavailable, match=r"longer than the source's timeout"):
        shop(kind).extract(query=query, timeout="1s")


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_file_that_is_missing_or_no_database_is_named(shop: Callable[[str], Shop], kind: str) -> None:
    db = shop(kind)
    db.url = f"{kind}:nowhere.db"
    with pytest.raises(DataError, match="There is no such file") as caught:
        db.extract(table="t")
    assert caught.value.where == f"data set 'orders' ({kind}:nowhere.db)"
    (db.folder / "nowhere.db").write_text("id,name\n1,a\n" * 1000)
    with pytest.raises(DataError, match=r"This is no (sound SQLite|DuckDB) file"):
        db.extract(table="t")


def test_a_sqlite_file_that_is_being_written_is_waited_for(shop: Callable[[str], Shop]) -> None:
    db = shop("sqlite")
    db.run("CREATE TABLE t (id integer)", "INSERT INTO t VALUES (1)")
    with closing(sqlite3.connect(db.folder / "shop.db", isolation_level=None, check_same_thread=False)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("INSERT INTO t VALUES (2)")
        timer = threading.Timer(1.0, lambda: writer.execute("COMMIT"))
        timer.start()
        assert sorted(db.extract(table="t").frame["id"]) == [1, 2]
        timer.join()


def test_a_duckdb_file_that_another_process_writes_is_said_so(shop: Callable[[str], Shop]) -> None:
    db = shop("duckdb")
    db.run("CREATE TABLE t (id integer)")
    with duckdb.connect(str(db.folder / "shop.duckdb")), pytest.raises(Unavailable, match="has the file open"):
        db.extract(table="t")


def test_duckdb_reads_files_of_the_project_without_a_database(shop: Callable[[str], Shop]) -> None:
    db = shop("duckdb")
    pl.DataFrame({"id": [1, 2, 3], "v": [1.5, 2.5, None]}).write_parquet(db.folder / "big.parquet")
    db.url = "duckdb:"
    assert db.extract(query="SELECT id, v FROM 'big.parquet' WHERE v > 2").frame.rows() == [(2, 2.5)]
    with pytest.raises(DataError, match=r"No files found that match the pattern|A file cannot be read"):
        db.extract(query="SELECT * FROM 'nowhere.parquet'")


def test_an_address_may_be_an_environment_variable_and_what_it_holds_is_nowhere_to_be_seen(
    shop: Callable[[str], Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = shop("mariadb")
    db.run("CREATE TABLE t (id integer)", "INSERT INTO t VALUES (1)")
    monkeypatch.setenv("SHOP_URL", f"mysql://treadle:{quote('secret %@/', safe='')}@127.0.0.1:{servers.mariadb().port}/{servers.schema_of(db.folder)}")
    db.url = "env:SHOP_URL"
    found = db.extract(table="t")
    assert found.frame["id"].to_list() == [1]
    assert "secret" not in str(found.position)
    monkeypatch.delenv("SHOP_URL")
    with pytest.raises(DataError, match="The environment variable SHOP_URL is not set"):
        db.extract(table="t")


def test_an_address_that_cannot_be_read_does_not_show_itself(shop: Callable[[str], Shop], monkeypatch: pytest.MonkeyPatch) -> None:
    db = shop("mariadb")
    monkeypatch.setenv("SHOP_URL", "mysql://treadle:se#cret@127.0.0.1/x")
    db.url = "env:SHOP_URL"
    with pytest.raises(DataError, match="The address in SHOP_URL cannot be read") as caught:
        db.extract(table="t")
    assert "cret@" not in str(caught.value)


@every_kind
def test_memory_stays_bounded_by_the_rows_themselves(shop: Callable[[str], Shop], kind: str) -> None:
    """Rows come in batches: a table that needs several of them is read whole and in order of its batches."""
    db = shop(kind)
    db.run("CREATE TABLE t (id integer, v double precision, word varchar(200))")
    series = {
        "postgresql": "INSERT INTO t SELECT n, n / 4.0, repeat('x', 190) FROM generate_series(0, 119999) n",
        "mariadb": "INSERT INTO t SELECT seq, seq / 4.0, repeat('x', 190) FROM seq_0_to_119999",
        "sqlite": "INSERT INTO t WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < 119999) SELECT n, n / 4.0, 'x' FROM s",
        "duckdb": "INSERT INTO t SELECT range, range / 4.0, repeat('x', 190) FROM range(120000)",
    }
    db.run(series[kind])
    found = db.extract(table="t").frame
    assert found.height == 120_000
    assert found["id"].sort().to_list() == list(range(120_000))
    assert found["v"].sum() == sum(n / 4 for n in range(120_000))


def test_a_connection_that_breaks_while_reading_is_unavailable(shop: Callable[[str], Shop]) -> None:
    with pytest.raises(Unavailable, match=r"cannot do it now|does not answer"):
        shop("postgresql").extract(query="SELECT n AS id, CASE WHEN n = 5000 THEN pg_terminate_backend(pg_backend_pid()) END AS gone FROM generate_series(1, 9000) n")
