"""Every ledger keeps the promises of its port."""

from __future__ import annotations

from pathlib import Path

from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.testing.ledger_contract import LedgerContract


class TestSqliteLedger(LedgerContract):
    def make(self, folder: Path) -> SqliteLedger:
        return SqliteLedger(folder / "ledger.db")


class TestMemoryLedger(LedgerContract):
    survives = False

    def make(self, folder: Path) -> MemoryLedger:
        return MemoryLedger()
