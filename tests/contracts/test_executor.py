"""Every executor keeps the promises of its port."""

from __future__ import annotations

from pathlib import Path

from treadle.backends.inprocess import InProcessExecutor
from treadle.testing.executor_contract import ExecutorContract


class TestInProcessExecutor(ExecutorContract):
    stops = False

    def make(self, folder: Path) -> InProcessExecutor:
        return InProcessExecutor()
