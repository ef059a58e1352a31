"""Every kind of source keeps the promises of its port, against a real server or the emulator of one."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import obstore
import polars as pl
import psycopg
import pymysql
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

import treadle as tr
from treadle.core.declare.source import Source
from treadle.testing import servers
from treadle.testing.source_contract import (
    SECRET,
    TYPES,
    AnsweringSource,
    GuardedSource,
    LooseSource,
    Row,
    SourceContract,
    WatermarkedSource,
    WrittenSource,
)

COLUMNS = tuple(TYPES)


def words(row: Row) -> dict[str, Any]:
    """A row as JSON writes it."""
    return {k: v.isoformat() if isinstance(v, date | datetime) else v for k, v in row.items()}


# Files


class CsvFiles:
    """A new file each time, as a nightly export writes it."""

    def __init__(self, folder: Path, store: Any = None, pattern: str = "part-*.csv") -> None:
        self.folder, self._count, self._store = folder, 0, store
        self.source = tr.csv(pattern)

    def put(self, rows: Sequence[Row]) -> None:
        self._count += 1
        self.write(f"part-{self._count:03d}.csv", pl.DataFrame([words(r) for r in rows], infer_schema_length=None).write_csv().encode())

    def write(self, name: str, data: bytes) -> None:
        (self.folder / name).write_bytes(data)


class JsonFiles(CsvFiles):
    def __init__(self, folder: Path, pattern: str = "part-*.jsonl") -> None:
        super().__init__(folder)
        self.source = tr.jsonl(pattern)

    def put(self, rows: Sequence[Row]) -> None:
        self._count += 1
        self.write(f"part-{self._count:03d}.jsonl", "".join(json.dumps(words(r)) + "\n" for r in rows).encode())


class ParquetFiles(CsvFiles):
    def __init__(self, folder: Path, pattern: str = "part-*.parquet") -> None:
        super().__init__(folder)
        self.source = tr.parquet(pattern)

    def put(self, rows: Sequence[Row]) -> None:
        self._count += 1
        schema = {**TYPES, "day": pl.Date}
        path = self.folder / f"part-{self._count:03d}.parquet"
        pl.DataFrame(rows, schema=schema).write_parquet(path)


class FilesContract(SourceContract):
    changes = False  # a changed file is read with all others; see tests/data

    def absent(self, folder: Path) -> tuple[Source, str]:
        return tr.csv("nowhere/*.csv"), r"There is no file 'nowhere/\*\.csv'"


class TestCsv(FilesContract, LooseSource):
    def make(self, folder: Path, **options: Any) -> CsvFiles:
        return CsvFiles(folder)


class TestJsonLines(FilesContract, LooseSource):
    def make(self, folder: Path, **options: Any) -> JsonFiles:
        return JsonFiles(folder)


class TestParquet(FilesContract):
    def make(self, folder: Path, **options: Any) -> ParquetFiles:
        return ParquetFiles(folder)


# Object stores: the same files behind another door


def put_google(name: str, data: bytes) -> None:
    """As Google's own API puts it: the emulator does not know the one that obstore writes by."""
    url = f"http://127.0.0.1:{servers.gcs().port}/upload/storage/v1/b/treadle/o?uploadType=media&name={quote(name, safe='')}"
    urllib.request.urlopen(urllib.request.Request(url, data=data, headers={"Content-Type": "application/octet-stream"}), timeout=60).close()


class S3Json(JsonFiles):
    def __init__(self, folder: Path) -> None:
        servers.s3()
        self.prefix = servers.schema_of(folder)
        super().__init__(folder, f"s3://treadle/{self.prefix}/**/part-*.jsonl")

    def write(self, name: str, data: bytes) -> None:
        from obstore.store import S3Store

        obstore.put(S3Store("treadle", client_options={"allow_http": True}), f"{self.prefix}/deep/{name}", data)


class GoogleJson(S3Json):
    def __init__(self, folder: Path) -> None:
        servers.gcs()
        self.prefix = servers.schema_of(folder)
        JsonFiles.__init__(self, folder, f"gs://treadle/{self.prefix}/deep/*.jsonl")

    def write(self, name: str, data: bytes) -> None:
        put_google(f"{self.prefix}/deep/{name}", data)


class AzureJson(S3Json):
    def __init__(self, folder: Path) -> None:
        servers.azure()
        self.prefix = servers.schema_of(folder)
        JsonFiles.__init__(self, folder, f"az://treadle/{self.prefix}/deep/part-*.jsonl")

    def write(self, name: str, data: bytes) -> None:
        from obstore.store import AzureStore

        obstore.put(AzureStore("treadle", client_options={"allow_http": True}), f"{self.prefix}/deep/{name}", data)


class TestS3(FilesContract, LooseSource):
    def make(self, folder: Path, **options: Any) -> S3Json:
        return S3Json(folder)

    def absent(self, folder: Path) -> tuple[Source, str]:
        servers.s3()
        return tr.jsonl("s3://no-such-bucket/part.jsonl"), "s3://no-such-bucket does not exist"


class TestGoogle(FilesContract, LooseSource):
    def make(self, folder: Path, **options: Any) -> GoogleJson:
        return GoogleJson(folder)

    def absent(self, folder: Path) -> tuple[Source, str]:
        servers.gcs()
        return tr.jsonl("gs://treadle/nowhere/part.jsonl"), "There is no file 'gs://treadle/nowhere/part.jsonl'"


class TestAzure(FilesContract, LooseSource, GuardedSource):
    def make(self, folder: Path, **options: Any) -> AzureJson:
        return AzureJson(folder)

    def absent(self, folder: Path) -> tuple[Source, str]:
        servers.azure()
        return tr.jsonl("az://no-such-container/*.jsonl"), "az://no-such-container does not exist"

    def forbidden(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Source, str]:
        servers.azure()
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
        return tr.jsonl("az://treadle/*.jsonl"), "does not allow it"


# Databases

TABLE = """CREATE TABLE orders (
    id bigint PRIMARY KEY, name {text}, amount double precision, price decimal(12, 2), paid boolean, day date, seen_at {moment}, updated_at {moment})"""


class PostgresOrders:
    def __init__(self, folder: Path, **options: Any) -> None:
        schema = servers.schema_of(folder)
        self._connection = psycopg.connect(servers.postgres_url(), autocommit=True)
        self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}; SET search_path = {schema}; SET client_min_messages = error")
        self._connection.execute("DROP TABLE IF EXISTS orders")
        self._connection.execute(TABLE.format(text="text", moment="timestamptz"))
        url = servers.postgres_url(options=f"-csearch_path%3D{schema}")
        self.source = tr.sql(url, **{"table": "orders", "watermark": "updated_at", **options})

    def put(self, rows: Sequence[Row]) -> None:
        sets = ", ".join(f"{c} = excluded.{c}" for c in COLUMNS[1:])
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO orders VALUES ({', '.join(['%s'] * len(COLUMNS))}) ON CONFLICT (id) DO UPDATE SET {sets}",
                [tuple(r[c] for c in COLUMNS) for r in rows],
            )

    def alter(self) -> None:
        self._connection.execute("ALTER TABLE orders ADD COLUMN extra integer DEFAULT 7")


class TestPostgres(WatermarkedSource, WrittenSource, AnsweringSource, GuardedSource):
    def make(self, folder: Path, **options: Any) -> PostgresOrders:
        return PostgresOrders(folder, **options)

    def absent(self, folder: Path) -> tuple[Source, str]:
        PostgresOrders(folder)
        return tr.sql(servers.postgres_url(options=f"-csearch_path%3D{servers.schema_of(folder)}"), table="order"), 'There is no table "order"'

    def unreachable(self, folder: Path) -> tuple[Source, str]:
        port = servers.free_port()
        return tr.sql(f"postgresql://treadle@127.0.0.1:{port}/postgres", table="t", watermark="x"), f"PostgreSQL does not answer.*{port}"

    def forbidden(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Source, str]:
        monkeypatch.setenv("SHOP_PASSWORD", SECRET)
        url = f"postgresql://guest:${{SHOP_PASSWORD}}@127.0.0.1:{servers.postgres().port}/postgres"
        return tr.sql(url, table="t"), "does not accept this user and password"


class MariaOrders:
    def __init__(self, folder: Path, **options: Any) -> None:
        self.name = servers.schema_of(folder)
        server = servers.mariadb()
        self._connect = {"host": "127.0.0.1", "port": server.port, "user": "treadle", "password": "secret %@/", "database": "treadle", "charset": "utf8mb4"}
        self._lock = threading.Lock()
        self._connection = pymysql.connect(**self._connect, init_command="SET time_zone = '+00:00'")
        with self._connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {self.name}")
            cursor.execute(TABLE.format(text="text", moment="datetime(6)").replace("orders", self.name))
        os.environ["MARIA_PASSWORD"] = "secret %@/"
        url = f"mariadb://treadle:${{MARIA_PASSWORD}}@127.0.0.1:{server.port}/treadle"
        self.source = tr.sql(url, **{"table": self.name, "watermark": "updated_at", **options})

    def put(self, rows: Sequence[Row]) -> None:
        def plain(value: Any) -> Any:
            return value.replace(tzinfo=None) if isinstance(value, datetime) else value

        with self._lock, self._connection.cursor() as cursor:
            cursor.executemany(
                f"REPLACE INTO {self.name} VALUES ({', '.join(['%s'] * len(COLUMNS))})", [tuple(plain(r[c]) for c in COLUMNS) for r in rows]
            )
            self._connection.commit()

    def alter(self) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {self.name} ADD COLUMN extra integer DEFAULT 7")


class TestMariaDb(WatermarkedSource, WrittenSource, AnsweringSource, GuardedSource):
    def make(self, folder: Path, **options: Any) -> MariaOrders:
        return MariaOrders(folder, **options)

    def absent(self, folder: Path) -> tuple[Source, str]:
        origin = MariaOrders(folder)
        return tr.sql(origin.source.options["url"], table="order"), "There is no table `order`"

    def unreachable(self, folder: Path) -> tuple[Source, str]:
        port = servers.free_port()
        return tr.sql(f"mysql://treadle@127.0.0.1:{port}/treadle", table="t", watermark="x"), f"127.0.0.1:{port} does not answer"

    def forbidden(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Source, str]:
        monkeypatch.setenv("SHOP_URL", f"mysql://treadle:{quote(SECRET)}@127.0.0.1:{servers.mariadb().port}/treadle")
        return tr.sql("env:SHOP_URL", table="t"), "does not accept this user and password"


class SqliteOrders:
    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "shop.db"
        self._connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=30)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(TABLE.format(text="text", moment="timestamp"))
        self.source = tr.sql("sqlite:shop.db", **{"table": "orders", "watermark": "updated_at", **options})

    def put(self, rows: Sequence[Row]) -> None:
        def plain(value: Any) -> Any:
            return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat() if isinstance(value, date) else value

        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            f"INSERT OR REPLACE INTO orders ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",
            [tuple(plain(r[c]) for c in COLUMNS) for r in rows],
        )
        self._connection.execute("COMMIT")

    def alter(self) -> None:
        self._connection.execute("ALTER TABLE orders ADD COLUMN extra integer DEFAULT 7")


class TestSqlite(WatermarkedSource, WrittenSource, LooseSource):
    def make(self, folder: Path, **options: Any) -> SqliteOrders:
        return SqliteOrders(folder, **options)

    def absent(self, folder: Path) -> tuple[Source, str]:
        SqliteOrders(folder)
        return tr.sql("sqlite:shop.db", table="order"), "There is no table order"


class DuckdbOrders:
    def __init__(self, folder: Path, **options: Any) -> None:
        self.path = folder / "shop.duckdb"
        self._run([TABLE.format(text="text", moment="timestamptz")])
        self.source = tr.sql("duckdb:shop.duckdb", **{"table": "orders", "watermark": "updated_at", **options})

    def put(self, rows: Sequence[Row]) -> None:
        sent = pl.DataFrame(rows, schema={**TYPES, "day": pl.Date})
        self._run([f"INSERT OR REPLACE INTO orders BY NAME SELECT {', '.join(COLUMNS)} FROM sent"], sent=sent)

    def alter(self) -> None:
        self._run(["ALTER TABLE orders ADD COLUMN extra integer DEFAULT 7"])

    def _run(self, statements: list[str], **frames: pl.DataFrame) -> None:
        with duckdb.connect(str(self.path)) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            for name, frame in frames.items():
                frame.write_parquet(self.path.with_name(f"{name}.parquet"))
                connection.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM '{self.path.with_name(f'{name}.parquet')}'")
            for statement in statements:
                connection.execute(statement)


class TestDuckdb(WatermarkedSource):  # DuckDB itself lets one process write, or several read
    def make(self, folder: Path, **options: Any) -> DuckdbOrders:
        return DuckdbOrders(folder, **options)

    def absent(self, folder: Path) -> tuple[Source, str]:
        DuckdbOrders(folder)
        return tr.sql("duckdb:shop.duckdb", table="order"), "There is no table order"


# Streams


class RedisMessages:
    field = "json"

    def __init__(self, folder: Path, **options: Any) -> None:
        import redis

        self.topic = servers.schema_of(folder)
        self.client = redis.Redis(port=servers.redis().port)
        self.client.delete(self.topic)
        self.source = tr.stream(f"redis://127.0.0.1:{servers.redis().port}/0", topic=self.topic, field=self.field, **options)

    def put(self, rows: Sequence[Row]) -> None:
        pipeline = self.client.pipeline()
        for r in rows:
            pipeline.xadd(self.topic, {"json": json.dumps(words(r))})
        pipeline.execute()


class RedisFields(RedisMessages):
    """Entries whose fields are the columns."""

    field = ""

    def put(self, rows: Sequence[Row]) -> None:
        for r in rows:
            said: Mapping[str, Any] = {k: str(v).lower() if isinstance(v, bool) else v for k, v in words(r).items() if v is not None}
            self.client.xadd(self.topic, dict(said))


class TestRedis(LooseSource, AnsweringSource, GuardedSource):
    def make(self, folder: Path, **options: Any) -> RedisMessages:
        return RedisMessages(folder, **options)

    def absent(self, folder: Path) -> tuple[Source, str]:
        return tr.stream(f"redis://127.0.0.1:{servers.redis().port}/0", topic="nowhere"), "There is no stream 'nowhere'"

    def unreachable(self, folder: Path) -> tuple[Source, str]:
        port = servers.free_port()
        return tr.stream(f"redis://127.0.0.1:{port}/0", topic="t"), f"Redis at 127.0.0.1:{port} does not answer"

    def forbidden(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Source, str]:
        monkeypatch.setenv("REDIS_PASSWORD", SECRET)
        return tr.stream(f"redis://somebody:${{REDIS_PASSWORD}}@127.0.0.1:{servers.redis().port}/0", topic="t"), "does not accept this user and password"


class TestRedisFields(TestRedis):
    def make(self, folder: Path, **options: Any) -> RedisFields:
        return RedisFields(folder, **options)


class KafkaMessages:
    def __init__(self, folder: Path, **options: Any) -> None:
        self.topic, self.broker = servers.schema_of(folder), f"127.0.0.1:{servers.kafka().port}"
        self._admin = AdminClient({"bootstrap.servers": self.broker})
        made = self._admin.create_topics([NewTopic(self.topic, num_partitions=3, replication_factor=1)])
        made[self.topic].result(60)
        # One message a batch: of larger ones this broker gives the start as the end of what it has.
        self.producer = Producer({"bootstrap.servers": self.broker, "batch.num.messages": 1})
        self.source = tr.stream(f"kafka://{self.broker}", topic=self.topic, **options)

    def put(self, rows: Sequence[Row]) -> None:
        for r in rows:
            self.producer.produce(self.topic, key=str(r["id"]), value=json.dumps(words(r)))
        assert self.producer.flush(60) == 0


class TestKafka(LooseSource, AnsweringSource):
    def make(self, folder: Path, **options: Any) -> KafkaMessages:
        return KafkaMessages(folder, **options)

    def absent(self, folder: Path) -> tuple[Source, str]:
        return tr.stream(f"kafka://127.0.0.1:{servers.kafka().port}", topic="nowhere"), "There is no topic 'nowhere'"

    def unreachable(self, folder: Path) -> tuple[Source, str]:
        port = servers.free_port()
        return tr.stream(f"kafka://127.0.0.1:{port}", topic="t"), f"No broker at 127.0.0.1:{port} answers"


class BatchedMessages(KafkaMessages):
    """The broker that comes with the client library, over TCP: messages in compressed batches, four partitions."""

    cluster: Producer | None = None

    def __init__(self, folder: Path, **options: Any) -> None:
        if BatchedMessages.cluster is None:
            BatchedMessages.cluster = Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": 2})
        found = BatchedMessages.cluster.list_topics(timeout=60).brokers.values()
        self.topic, self.broker = servers.schema_of(folder), ",".join(f"{b.host}:{b.port}" for b in found)
        self.producer = Producer({"bootstrap.servers": self.broker, "compression.type": "zstd", "linger.ms": 5})
        self.producer.list_topics(self.topic, timeout=60)
        self.source = tr.stream(f"kafka://{self.broker}", topic=self.topic, **options)


class TestKafkaBatches(LooseSource):
    def make(self, folder: Path, **options: Any) -> KafkaMessages:
        return BatchedMessages(folder, **options)

    def absent(self, folder: Path) -> tuple[Source, str]:
        broker = BatchedMessages(folder).broker
        return tr.stream(f"kafka://{broker}", topic="nowhere"), "There is no topic 'nowhere'"
