"""A ledger with one run, and a clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> ReplayClock:
    return ReplayClock(NOW)


@pytest.fixture
def ledger() -> MemoryLedger:
    ledger = MemoryLedger()
    ledger.put("run", "run-1", {"status": "done", "cause": {"kind": "person"}, "by": "rosa"})
    return ledger
