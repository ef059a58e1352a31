"""Every online store keeps the promises of its port."""

from __future__ import annotations

from pathlib import Path

from treadle.backends.memory_online import MemoryOnline
from treadle.backends.postgres_online import PostgresOnline
from treadle.backends.redis_online import RedisOnline
from treadle.backends.sqlite_online import SqliteOnline
from treadle.testing import servers
from treadle.testing.online_contract import OnlineContract


class TestSqliteOnline(OnlineContract):
    def make(self, folder: Path) -> SqliteOnline:
        return SqliteOnline(folder / "online.db")


class TestMemoryOnline(OnlineContract):
    survives = False

    def make(self, folder: Path) -> MemoryOnline:
        return MemoryOnline()


class TestRedisOnline(OnlineContract):
    def make(self, folder: Path) -> RedisOnline:
        return RedisOnline(servers.redis_url(prefix=f"{servers.schema_of(folder)}:"))


class TestPostgresOnline(OnlineContract):
    def make(self, folder: Path) -> PostgresOnline:
        return PostgresOnline(servers.postgres_url(schema=servers.schema_of(folder)))
