"""What the tests of this room share: a ledger, a clock that can be set, and hashes that cost little."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from treadle.access.passwords import Hashing
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock

QUICK = Hashing(passes=1, memory_kib=64, lanes=1)
PASSWORD = "blue horses run far"


class SetClock(ReplayClock):
    def on(self, **span: float) -> None:
        self.set(self.now() + timedelta(**span))


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def clock() -> SetClock:
    return SetClock(datetime(2026, 3, 1, 12, tzinfo=UTC))
