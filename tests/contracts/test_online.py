"""Every online store keeps the promises of its port."""

from __future__ import annotations

from pathlib import Path

from treadle.backends.memory_online import MemoryOnline
from treadle.backends.sqlite_online import SqliteOnline
from treadle.testing.online_contract import OnlineContract


class TestSqliteOnline(OnlineContract):
    def make(self, folder: Path) -> SqliteOnline:
        return SqliteOnline(folder / "online.db")


class TestMemoryOnline(OnlineContract):
    survives = False

    def make(self, folder: Path) -> MemoryOnline:
        return MemoryOnline()
