"""What every executor must do: the promises of `treadle.ports.executor`, one test each.

The functions stand at the top level of this file, so that an executor in another process can find them.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from treadle.core.errors import Cancelled, DataError
from treadle.ports.executor import Executor


def add(a: int, b: int = 1) -> int:
    return a + b


def talk() -> str:
    print("one\ntwo")
    print("thr", end="")
    print("ee")
    print("to stderr", file=sys.stderr)
    logging.getLogger("treadle.step").warning("careful: %s", "hot")
    print("\r10 %\r99 %\r100 %", end="")
    return "done"


def fail() -> None:
    print("before")
    raise DataError("There are no rows.", where="flights", hint="Load some.")


def stop() -> None:
    raise KeyError("carrier")


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "awake"


class ExecutorContract:
    """Inherit, and say in `make` how to start one. `stops` is False where a function cannot be stopped by time."""

    stops = True

    def make(self, folder: Path) -> Executor:
        raise NotImplementedError

    @pytest.fixture
    def executor(self, tmp_path: Path) -> Iterator[Executor]:
        executor = self.make(tmp_path)
        yield executor
        executor.close()

    def test_it_returns_what_the_function_returned(self, executor: Executor) -> None:
        assert executor.run(add, {"a": 2, "b": 3}) == 5
        assert executor.run(add, {"a": 2}) == 3

    def test_it_raises_what_the_function_raised(self, executor: Executor) -> None:
        with pytest.raises(KeyError, match="carrier") as caught:
            executor.run(stop, {})
        assert type(caught.value) is KeyError

    def test_an_error_of_the_house_keeps_its_place_and_hint(self, executor: Executor) -> None:
        lines: list[str] = []
        with pytest.raises(DataError) as caught:
            executor.run(fail, {}, log=lines.append)
        assert (type(caught.value), caught.value.where, caught.value.hint) == (DataError, "flights", "Load some.")
        assert "before" in lines

    def test_output_and_log_lines_arrive_line_by_line(self, executor: Executor) -> None:
        lines: list[str] = []
        assert executor.run(talk, {}, log=lines.append) == "done"
        assert [line for line in lines if line in ("one", "two", "three")] == ["one", "two", "three"]
        assert "to stderr" in lines
        assert sum("careful: hot" in line for line in lines) == 1
        assert "100 %" in lines
        assert not any("\n" in line or "\r" in line for line in lines)

    def test_each_run_has_its_own_lines(self, executor: Executor) -> None:
        first: list[str] = []
        second: list[str] = []
        executor.run(talk, {}, log=first.append)
        executor.run(talk, {}, log=second.append)
        assert first == second

    def test_without_a_log_it_runs_all_the_same(self, executor: Executor) -> None:
        assert executor.run(talk, {}) == "done"

    def test_a_function_that_is_quick_enough_is_not_stopped(self, executor: Executor) -> None:
        assert executor.run(add, {"a": 1}, timeout=60) == 2

    def test_a_function_that_runs_too_long_is_stopped(self, executor: Executor) -> None:
        if not self.stops:
            pytest.skip("cannot stop a function, as it says")
        began = time.monotonic()
        with pytest.raises(Cancelled):
            executor.run(sleep, {"seconds": 30}, timeout=0.5)
        assert time.monotonic() - began < 20

    def test_it_goes_on_after_a_failure(self, executor: Executor) -> None:
        with pytest.raises(KeyError):
            executor.run(stop, {})
        assert executor.run(add, {"a": 1}) == 2

    def test_arguments_the_function_does_not_take_are_its_own_error(self, executor: Executor) -> None:
        arguments: dict[str, Any] = {"wrong": 1}
        with pytest.raises(TypeError):
            executor.run(add, arguments)
