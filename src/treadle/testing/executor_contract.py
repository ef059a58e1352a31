"""What every executor must do: the promises of `treadle.ports.executor`, one test each.

The functions stand at the top level of this file, so that an executor in another process can find them.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from treadle.core.errors import Cancelled, DataError, UsageError
from treadle.ports.executor import Executor, Resources, Task, WorkerLost


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


def write_below_python() -> None:
    import ctypes

    os.write(1, "from descriptor 1, grün\n".encode())
    os.write(2, b"from descriptor 2\n")
    ctypes.CDLL(None).puts(b"from the C library")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)


def fail() -> None:
    print("before")
    raise DataError("There are no rows.", where="flights", hint="Load some.")


def stop() -> None:
    raise KeyError("carrier")


class Odd(Exception):
    """Cannot be pickled: it is made from two things and remembers one."""

    def __init__(self, what: str, lock: Any) -> None:
        super().__init__(what)
        self.lock = lock


def fail_oddly() -> None:
    raise Odd("the lock is stuck", threading.Lock())


def leave() -> None:
    sys.exit(3)


def sleep(seconds: float) -> str:
    print("going to sleep", flush=True)
    time.sleep(seconds)
    return "awake"


def sleep_with_child(note: str, seconds: float) -> None:
    """Starts a child, writes both process ids into `note`, and sleeps."""
    child = subprocess.Popen(["sleep", str(seconds)])
    Path(note).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(seconds)


def die(note: str, number: int = signal.SIGKILL) -> str:
    """Dies by a signal, unless `note` says that it did so before."""
    if Path(note).exists():
        return "alive"
    Path(note).touch()
    print("dying", flush=True)
    os.kill(os.getpid(), number)
    time.sleep(30)
    return "not reached"


def eat(size: int, seconds: float = 30.0) -> int:
    held = bytearray(os.urandom(1 << 20) * (size >> 20))
    time.sleep(seconds)
    return len(held)


def span(seconds: float) -> tuple[float, float]:
    """When it began and ended."""
    began = time.time()
    time.sleep(seconds)
    return began, time.time()


def make(size: int) -> bytes:
    return bytes(size)


def measure(data: bytes) -> int:
    return len(data)


def give_a_lock() -> Any:
    return threading.Lock()


def where() -> str:
    return os.getcwd()


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """How many of the spans overlap where most do."""
    moments = sorted([(began, 1) for began, _ in spans] + [(ended, -1) for _, ended in spans])
    now = most = 0
    for _, change in moments:
        now += change
        most = max(most, now)
    return most


def wait_until(true: Callable[[], bool], seconds: float = 120) -> bool:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    """Whether no process with this number runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class ExecutorContract:
    """Inherit, and say in `make` how to start one. Override the fixture `executor` where starting takes long and all tests can share one."""

    def make(self, folder: Path) -> Executor:
        raise NotImplementedError

    @pytest.fixture
    def executor(self, tmp_path: Path) -> Iterator[Executor]:
        executor = self.make(tmp_path)
        yield executor
        executor.close()

    # What a function gives

    def test_it_returns_what_the_function_returned(self, executor: Executor) -> None:
        assert executor.submit(Task(add, {"a": 2, "b": 3})).result() == 5
        assert executor.submit(Task(add, {"a": 2})).result() == 3

    def test_it_raises_what_the_function_raised(self, executor: Executor) -> None:
        with pytest.raises(KeyError, match="carrier") as caught:
            executor.submit(Task(stop)).result()
        assert type(caught.value) is KeyError

    def test_the_traceback_names_the_line_that_raised(self, executor: Executor) -> None:
        error = executor.submit(Task(stop)).exception()
        assert error is not None
        assert 'raise KeyError("carrier")' in "".join(traceback.format_exception(error))

    def test_an_error_of_the_house_keeps_its_place_and_hint(self, executor: Executor) -> None:
        lines: list[str] = []
        with pytest.raises(DataError) as caught:
            executor.submit(Task(fail), log=lines.append).result()
        assert (type(caught.value), caught.value.where, caught.value.hint) == (DataError, "flights", "Load some.")
        assert "before" in lines

    def test_an_exit_in_a_function_is_its_own_error_and_ends_nothing_else(self, executor: Executor) -> None:
        error = executor.submit(Task(leave)).exception()
        assert isinstance(error, SystemExit)
        assert executor.submit(Task(add, {"a": 1})).result() == 2

    def test_it_goes_on_after_a_failure(self, executor: Executor) -> None:
        with pytest.raises(KeyError):
            executor.submit(Task(stop)).result()
        assert executor.submit(Task(add, {"a": 1})).result() == 2

    def test_arguments_the_function_does_not_take_are_its_own_error(self, executor: Executor) -> None:
        with pytest.raises(TypeError):
            executor.submit(Task(add, {"wrong": 1})).result()

    def test_large_arguments_and_results_arrive_whole(self, executor: Executor) -> None:
        data = executor.submit(Task(make, {"size": 20_000_000})).result()
        assert executor.submit(Task(measure, {"data": data})).result() == 20_000_000

    def test_relative_paths_mean_the_same(self, executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert executor.submit(Task(where)).result() == str(tmp_path)

    # What it says

    def test_output_and_log_lines_arrive_line_by_line(self, executor: Executor) -> None:
        lines: list[str] = []
        assert executor.submit(Task(talk), log=lines.append).result() == "done"
        assert [line for line in lines if line in ("one", "two", "three")] == ["one", "two", "three"]
        assert "to stderr" in lines
        assert sum("careful: hot" in line for line in lines) == 1
        assert "100 %" in lines
        assert not any("\n" in line or "\r" in line for line in lines)

    def test_each_run_has_its_own_lines(self, executor: Executor) -> None:
        first: list[str] = []
        second: list[str] = []
        executor.submit(Task(talk), log=first.append).result()
        executor.submit(Task(talk), log=second.append).result()
        assert first == second

    def test_without_a_log_it_runs_all_the_same(self, executor: Executor) -> None:
        assert executor.submit(Task(talk)).result() == "done"

    def test_a_log_that_fails_fails_the_task(self, executor: Executor) -> None:
        def full(line: str) -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(OSError, match="No space left"):
            executor.submit(Task(talk), log=full).result()
        assert executor.submit(Task(add, {"a": 1})).result() == 2

    # Room

    def test_more_than_the_slots_wait_and_all_are_done(self, executor: Executor) -> None:
        futures = [executor.submit(Task(span, {"seconds": 0.1})) for _ in range(2 * executor.slots + 1)]
        assert most_at_once([future.result() for future in futures]) <= executor.slots

    # Limits

    def test_a_function_that_stays_in_its_limits_is_not_stopped(self, executor: Executor) -> None:
        assert executor.submit(Task(add, {"a": 1}, timeout=60, resources=Resources(memory=2_000_000_000))).result() == 2

    def test_a_finished_task_cannot_be_cancelled(self, executor: Executor) -> None:
        future = executor.submit(Task(add, {"a": 1}))
        assert future.result() == 2
        assert not future.cancel()
        assert future.result() == 2

    # The end

    def test_closing_twice_is_closing(self, tmp_path: Path) -> None:
        executor = self.make(tmp_path)
        executor.close()
        executor.close()


class WorkersContract(ExecutorContract):
    """What executors with other processes promise beyond that: they are `apart`, they `stop`, and `make` gives them two slots or more."""

    def test_it_says_what_it_is(self, executor: Executor) -> None:
        assert (executor.apart, executor.stops) == (True, True)
        assert executor.slots >= 2

    # What it says

    def test_output_below_python_is_a_line_too(self, executor: Executor) -> None:
        lines: list[str] = []
        executor.submit(Task(write_below_python), log=lines.append).result()
        assert {"from descriptor 1, grün", "from descriptor 2", "from the C library", "from a child"} <= set(lines)

    def test_lines_arrive_while_the_function_runs(self, executor: Executor) -> None:
        lines: list[str] = []
        future = executor.submit(Task(sleep, {"seconds": 60}), log=lines.append)
        assert wait_until(lambda: "going to sleep" in lines)
        assert not future.done()
        future.cancel()

    # Room

    def test_as_many_as_there_are_slots_run_side_by_side(self, executor: Executor) -> None:
        futures = [executor.submit(Task(span, {"seconds": 2.0})) for _ in range(executor.slots)]
        assert most_at_once([future.result() for future in futures]) == executor.slots

    def test_a_task_that_wants_all_cores_runs_alone(self, executor: Executor) -> None:
        futures = [executor.submit(Task(span, {"seconds": 0.3}, resources=Resources(cores=cores))) for cores in (1, executor.slots, 1)]
        one, all_of_them, another = (future.result() for future in futures)
        assert most_at_once([one, all_of_them]) == most_at_once([all_of_them, another]) == 1

    def test_a_task_that_wants_more_than_there_is_is_told_so(self, executor: Executor) -> None:
        with pytest.raises(UsageError, match=r"'wide'.* 1000 cores.* 2"):
            executor.submit(Task(add, {"a": 1}, name="wide", resources=Resources(cores=1000))).result(60)

    # Limits

    def test_a_function_that_runs_too_long_is_stopped(self, executor: Executor, tmp_path: Path) -> None:
        note = tmp_path / "pids"
        began = time.monotonic()
        with pytest.raises(Cancelled, match=r"'nap'.* 2\.5 seconds"):
            executor.submit(Task(sleep_with_child, {"note": str(note), "seconds": 120}, name="nap", timeout=2.5)).result()
        assert time.monotonic() - began < 60
        pids = note.read_text().split() if note.exists() else []  # a worker that was slow to start had not come to its note
        assert wait_until(lambda: all(gone(int(pid)) for pid in pids))

    def test_a_function_that_holds_too_much_memory_is_stopped(self, executor: Executor) -> None:
        began = time.monotonic()
        task = Task(eat, {"size": 400_000_000, "seconds": 60}, name="hungry", resources=Resources(memory=200_000_000))
        with pytest.raises(Cancelled, match=r"'hungry'.* \d+ MB.* 200 MB"):
            executor.submit(task).result()
        assert time.monotonic() - began < 30

    def test_cancelling_stops_a_task_that_runs(self, executor: Executor, tmp_path: Path) -> None:
        note = tmp_path / "pids"
        future = executor.submit(Task(sleep_with_child, {"note": str(note), "seconds": 120}, name="nap"))
        assert wait_until(lambda: note.exists() and len(note.read_text().split()) == 2)
        assert future.cancel()
        with pytest.raises(Cancelled, match="'nap'"):
            future.result(20)
        assert wait_until(lambda: all(gone(int(pid)) for pid in note.read_text().split()))
        assert executor.submit(Task(add, {"a": 1})).result() == 2

    def test_cancelling_takes_back_a_task_that_waits(self, executor: Executor, tmp_path: Path) -> None:
        running = [executor.submit(Task(sleep, {"seconds": 120})) for _ in range(executor.slots)]
        waiting = executor.submit(Task(die, {"note": str(tmp_path / "ran")}, name="late"))
        assert waiting.cancel()
        with pytest.raises(Cancelled, match="'late'"):
            waiting.result(20)
        for future in running:
            future.cancel()
        assert executor.submit(Task(add, {"a": 1})).result() == 2
        assert not (tmp_path / "ran").exists()

    # Loss

    def test_a_worker_that_dies_is_a_passing_error_and_the_task_can_be_given_again(self, executor: Executor, tmp_path: Path) -> None:
        task = Task(die, {"note": str(tmp_path / "died")}, name="frail")
        lines: list[str] = []
        with pytest.raises(WorkerLost, match=r"'frail'.*SIGKILL.*memory") as caught:
            executor.submit(task, log=lines.append).result()
        assert caught.value.transient
        assert "dying" in lines
        assert executor.submit(task).result() == "alive"

    def test_the_signal_a_worker_died_of_is_named(self, executor: Executor, tmp_path: Path) -> None:
        with pytest.raises(WorkerLost, match="SIGSEGV"):
            executor.submit(Task(die, {"note": str(tmp_path / "died"), "number": int(signal.SIGSEGV)})).result()

    def test_the_death_of_one_worker_leaves_the_others_alone(self, executor: Executor, tmp_path: Path) -> None:
        other = executor.submit(Task(sleep, {"seconds": 2.0}))
        with pytest.raises(WorkerLost):
            executor.submit(Task(die, {"note": str(tmp_path / "died")})).result()
        assert other.result() == "awake"

    # What cannot travel

    def test_a_function_that_cannot_be_sent_is_named(self, executor: Executor) -> None:
        with pytest.raises(UsageError, match=r"function of step 'local'"):
            executor.submit(Task(lambda: 1, name="local")).result()

    def test_an_argument_that_cannot_be_sent_is_named(self, executor: Executor) -> None:
        with pytest.raises(UsageError, match=r"argument 'b' of step 'sum'"):
            executor.submit(Task(add, {"a": 1, "b": threading.Lock()}, name="sum")).result()

    def test_a_result_that_cannot_be_sent_is_named(self, executor: Executor) -> None:
        with pytest.raises(UsageError, match=r"step 'guard' returned.*lock"):
            executor.submit(Task(give_a_lock, name="guard")).result()
        assert executor.submit(Task(add, {"a": 1})).result() == 2

    def test_in_place_of_an_error_that_cannot_be_sent_stands_its_name_and_message(self, executor: Executor) -> None:
        with pytest.raises(Exception, match=r"Odd: the lock is stuck") as caught:
            executor.submit(Task(fail_oddly)).result()
        assert "fail_oddly" in "".join(traceback.format_exception(caught.value))

    # The end

    def test_after_close_nothing_runs_any_more(self, tmp_path: Path) -> None:
        executor = self.make(tmp_path)
        note = tmp_path / "pids"
        idle = executor.submit(Task(os.getpid)).result()
        futures: list[Future[Any]] = [executor.submit(Task(sleep_with_child, {"note": str(note), "seconds": 120}))]
        futures += [executor.submit(Task(sleep, {"seconds": 120})) for _ in range(executor.slots)]  # the last of them waits
        assert wait_until(lambda: note.exists() and len(note.read_text().split()) == 2)
        executor.close()
        for future in futures:
            assert isinstance(future.exception(20), Cancelled)
        assert wait_until(lambda: all(gone(int(pid)) for pid in [idle, *note.read_text().split()]))
