"""What the in-process executor promises beyond the port: it captures its own thread and leaves the world as it was."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref

import pytest

from treadle.backends.inprocess import InProcessExecutor
from treadle.backends.lines import Lines
from treadle.ports.executor import Task


def test_the_standard_streams_and_handlers_are_as_before_even_after_an_error() -> None:
    before = (sys.stdout, sys.stderr, list(logging.getLogger().handlers))
    with pytest.raises(ZeroDivisionError):
        InProcessExecutor().submit(Task(lambda: 1 / 0), log=lambda line: None).result()
    assert (sys.stdout, sys.stderr, list(logging.getLogger().handlers)) == before


def test_a_run_inside_a_run_keeps_its_lines_to_itself() -> None:
    executor = InProcessExecutor()
    outer: list[str] = []
    inner: list[str] = []

    def work() -> None:
        print("outer before")
        executor.submit(Task(print, {"sep": ""}), log=inner.append)
        print("outer after")

    executor.submit(Task(work), log=outer.append)
    assert outer == ["outer before", "outer after"]
    assert inner == [""]


def test_runs_that_overlap_in_time_do_not_mix_and_restore_the_streams(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    executor = InProcessExecutor()
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()
    lines: dict[str, list[str]] = {"first": [], "second": []}

    def first() -> None:
        first_in.set()
        second_in.wait(10)
        print("first")
        logging.getLogger("x").warning("first")

    def second() -> None:
        first_in.wait(10)
        second_in.set()
        first_out.wait(10)
        print("second")
        logging.getLogger("x").warning("second")

    def run_first() -> None:
        executor.submit(Task(first), log=lines["first"].append)
        first_out.set()

    threads = [threading.Thread(target=run_first), threading.Thread(target=executor.submit, args=(Task(second),), kwargs={"log": lines["second"].append})]
    for thread in threads:
        thread.start()
    first_in.wait(10)
    second_in.wait(10)
    print("from the main thread")
    for thread in threads:
        thread.join()
    assert lines == {"first": ["first", "WARNING x: first"], "second": ["second", "WARNING x: second"]}
    assert sys.stdout is before
    assert capsys.readouterr().out == "from the main thread\n"


def test_the_future_is_finished_when_submit_returns_and_all_ran_in_this_thread() -> None:
    future = InProcessExecutor().submit(Task(threading.get_ident))
    assert future.done()
    assert future.result() == threading.get_ident()


def test_ctrl_c_leaves_submit() -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        InProcessExecutor().submit(Task(stopped))


def test_what_a_failed_step_held_is_freed_with_its_error() -> None:
    class Table:
        pass

    seen: list[weakref.ref[Table]] = []

    def fail() -> None:
        table = Table()
        seen.append(weakref.ref(table))
        raise ValueError("no")

    gc.disable()
    try:
        InProcessExecutor().submit(Task(fail)).exception()
        assert seen[0]() is None
    finally:
        gc.enable()


def test_a_bar_that_redraws_itself_often_keeps_its_last_state_alone() -> None:
    seen: list[str] = []
    lines = Lines(seen.append)
    for number in range(100_000):
        lines.write(f"\r{number} rows")
    lines.write("\r\nnext\r")
    lines.write("\n")
    lines.finish()
    assert seen == ["99999 rows", "next"]
