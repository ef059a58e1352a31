"""Every executor keeps the promises of its port. The cluster of two machines is in `tests/backends/test_ray_executor.py`."""

from __future__ import annotations

from pathlib import Path

from treadle.backends.inprocess import InProcessExecutor
from treadle.backends.process_pool import ProcessPool
from treadle.testing.executor_contract import ExecutorContract, WorkersContract


class TestInProcessExecutor(ExecutorContract):
    def make(self, folder: Path) -> InProcessExecutor:
        return InProcessExecutor()


class TestProcessPool(WorkersContract):
    def make(self, folder: Path) -> ProcessPool:
        return ProcessPool(2)
