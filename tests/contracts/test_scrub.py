"""Every ledger forgets for good what was replaced."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.postgres_ledger import PostgresLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.testing.scrub_contract import ScrubContract
from treadle.testing.servers import postgres, postgres_url, schema_of


class TestSqlite(ScrubContract):
    def make(self, folder: Path) -> SqliteLedger:
        return SqliteLedger(folder / "ledger.db")

    def files(self, folder: Path) -> list[Path]:
        found = sorted(folder.glob("ledger.db*"))
        assert found
        return found


class TestPostgres(ScrubContract):
    """Where the server may not keep old files of its log for reuse: with `wal_recycle` on, they stay until they are written over."""

    @pytest.fixture(autouse=True)
    def _no_recycling(self) -> None:
        with psycopg.connect(postgres_url(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET wal_recycle = off")
            connection.execute("SELECT pg_reload_conf()")

    def make(self, folder: Path) -> PostgresLedger:
        return PostgresLedger(postgres_url(schema=schema_of(folder)))

    def files(self, folder: Path) -> list[Path]:
        found = [p for p in (postgres().folder / "data").rglob("*") if p.is_file()]
        assert len(found) > 100
        return found


class TestMemory(ScrubContract):
    made: MemoryLedger | None = None

    def make(self, folder: Path) -> MemoryLedger:
        self.made = self.made or MemoryLedger()
        return self.made

    def files(self, folder: Path) -> list[Path]:
        return []


def test_a_user_who_may_not_cut_off_the_servers_log_is_told_what_is_left_to_do(tmp_path: Path) -> None:
    name = schema_of(tmp_path)
    with psycopg.connect(postgres_url(), autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name} AUTHORIZATION guest")
    url = postgres_url(schema=name).replace("treadle@", "guest:secret%20%25%40%2F@")
    ledger = PostgresLedger(url)
    ledger.put("run", "r-1", {"note": "a"})
    [said] = ledger.scrub()
    assert "could not be cut off" in said
    assert "pg_switch_wal(); CHECKPOINT" in said
    assert "secret" not in said
    assert ledger.get("run", "r-1") is not None
