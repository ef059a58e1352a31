"""Every ledger keeps the promises of its port."""

from __future__ import annotations

from pathlib import Path

from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.postgres_ledger import PostgresLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.testing.ledger_contract import LedgerContract
from treadle.testing.servers import postgres_url, schema_of


class TestSqliteLedger(LedgerContract):
    def make(self, folder: Path) -> SqliteLedger:
        return SqliteLedger(folder / "ledger.db")


class TestMemoryLedger(LedgerContract):
    survives = False

    def make(self, folder: Path) -> MemoryLedger:
        return MemoryLedger()


class TestPostgresLedger(LedgerContract):
    def make(self, folder: Path) -> PostgresLedger:
        return PostgresLedger(postgres_url(schema=schema_of(folder)))
