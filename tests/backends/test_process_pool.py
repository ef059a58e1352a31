"""What the pool of worker processes promises beyond the port: warm workers, their share of threads, and nothing left behind whatever ends the driver."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from treadle.backends.catalog import open_backend
from treadle.backends.process_pool import ProcessPool
from treadle.core.errors import Unavailable, UsageError
from treadle.ports.executor import Resources, Task, WorkerLost
from treadle.project_file import load_project
from treadle.testing.executor_contract import add, eat, gone, wait_until


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    pool = ProcessPool(1)
    yield pool
    pool.close()


def children() -> set[int]:
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread of another test that ended at this moment
            found |= {int(pid) for pid in (thread / "children").read_text().split()}
    return found


def descriptors() -> set[tuple[str, str]]:
    return {(fd.name, os.readlink(fd)) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and os.path.lexists(fd)}


def run_driver(folder: Path, body: str) -> subprocess.Popen[str]:
    """A process of its own that has a pool and does what `body` says; it prints what it does."""
    file = folder / "driver.py"
    file.write_text(
        "import os, sys, time\nfrom treadle.backends.process_pool import ProcessPool\nfrom treadle.ports.executor import Task\n"
        "from treadle.testing.executor_contract import sleep_with_child\n"
        f"def main(pool):\n{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        "if __name__ == '__main__':\n    main(ProcessPool(1))\n"
    )
    return subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, process_group=0)


def pids_in(note: Path) -> list[int]:
    assert wait_until(lambda: note.exists() and len(note.read_text().split()) == 2)
    return [int(pid) for pid in note.read_text().split()]


@pytest.mark.parametrize(("address", "slots"), [("processes:3", 3), ("processes:", len(os.sched_getaffinity(0)))])
def test_the_address_says_how_many_workers(address: str, slots: int) -> None:
    assert open_backend("executor", address).slots == slots


@pytest.mark.parametrize("address", ["processes:many", "processes:0", "processes:-1"])
def test_a_number_of_workers_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="worker processes"):
        open_backend("executor", address)


def test_no_worker_is_started_before_one_is_needed_and_it_stays_warm(pool: ProcessPool) -> None:
    before = children()
    assert ProcessPool(4).slots == 4
    assert children() == before
    first, second = (pool.submit(Task(os.getpid)).result() for _ in range(2))
    assert first == second != os.getpid()
    assert children() - before == {first}


def test_a_worker_imports_nothing_heavy() -> None:
    code = "import sys, treadle.backends.worker, treadle.backends.calls, treadle.backends.lines; print(*sys.modules)"
    plain, loaded = (
        set(subprocess.run([sys.executable, "-c", c], capture_output=True, text=True, check=True).stdout.split()) for c in ("import sys; print(*sys.modules)", code)
    )
    others = {name for name in loaded - plain if name.partition(".")[0] not in {*sys.stdlib_module_names, "treadle"}}
    assert others == set()
    assert not {"asyncio", "multiprocessing", "email", "http", "inspect"} & (loaded - plain)


def test_a_task_costs_little() -> None:
    """CPU of this process and the worker together; 0.2 ms is usual on an idle machine, and a new worker takes 0.07 s."""
    before = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    pool = ProcessPool(1)
    pool.submit(Task(add, {"a": 0})).result()
    began = resource.getrusage(resource.RUSAGE_SELF)
    for future in [pool.submit(Task(add, {"a": number})) for number in range(500)]:
        future.result()
    driver = resource.getrusage(resource.RUSAGE_SELF)
    pool.close()
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (driver.ru_utime + driver.ru_stime - began.ru_utime - began.ru_stime) / 500 < 0.0015
    assert workers.ru_utime + workers.ru_stime - before[1].ru_utime - before[1].ru_stime < 5.0


def threads_here() -> tuple[str, str]:
    return os.environ["OMP_NUM_THREADS"], os.environ["POLARS_MAX_THREADS"]


def test_the_threads_of_libraries_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("POLARS_MAX_THREADS", "5")
    pool = ProcessPool(4)
    assert pool.submit(Task(threads_here)).result() == ("3", "5")
    assert pool.submit(Task(threads_here, resources=Resources(cores=2))).result() == ("6", "5")
    pool.close()


def test_a_task_that_wants_gpus_is_sent_elsewhere(pool: ProcessPool) -> None:
    with pytest.raises(UsageError, match=r"'train'.* 1 GPU"):
        pool.submit(Task(add, {"a": 1}, name="train", resources=Resources(gpus=1))).result()


def keep(size: int) -> int:
    globals()["kept"] = os.urandom(1 << 20) * (size >> 20)
    return os.getpid()


def test_what_an_earlier_task_left_is_not_held_against_one_with_a_limit(pool: ProcessPool) -> None:
    before = pool.submit(Task(keep, {"size": 400_000_000})).result()
    after = pool.submit(Task(os.getpid, resources=Resources(memory=300_000_000))).result()
    assert before != after


def test_memory_of_children_counts(pool: ProcessPool) -> None:
    error = pool.submit(Task(eat_in_a_child, resources=Resources(memory=250_000_000))).exception()
    assert error is not None
    assert "memory" in str(error)


def eat_in_a_child() -> None:
    code = "from treadle.testing.executor_contract import eat; eat(400_000_000)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_code_is_found_where_the_driver_finds_it(pool: ProcessPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_alone.py").write_text("def five():\n    return 5\n")
    monkeypatch.syspath_prepend(tmp_path)
    import mine_alone  # type: ignore[import-not-found]

    assert pool.submit(Task(mine_alone.five)).result() == 5


def test_functions_of_a_project_file_are_found(pool: ProcessPool, tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(
        "import treadle as tr\nproject = tr.Project('p', owner='me', goal='g')\nclass Pair:\n    def __init__(self, a): self.a = a\n"
        "def double(pair):\n    return Pair(2 * pair.a)\n"
    )
    load_project(tmp_path)
    module = next(module for name, module in sys.modules.items() if name.startswith("treadle_project_") and module.__file__ == str(tmp_path / "project.py"))
    assert pool.submit(Task(module.double, {"pair": module.Pair(4)})).result().a == 8


def test_functions_of_a_script_are_found(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(
        "from treadle.backends.process_pool import ProcessPool\nfrom treadle.ports.executor import Task\n"
        "class Pair:\n    def __init__(self, a): self.a = a\n"
        "def double(pair):\n    return Pair(2 * pair.a)\n"
        "if __name__ == '__main__':\n    pool = ProcessPool(1)\n"
        "    print(pool.submit(Task(double, {'pair': Pair(4)})).result().a)\n    pool.close()\n"
    )
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "8\n"


def test_after_close_there_is_no_child_and_no_descriptor_more_than_before() -> None:
    processes, open_before = children(), descriptors()
    pool = ProcessPool(2)
    for future in [pool.submit(Task(time.sleep, {}, name="wrong")) for _ in range(4)]:
        future.exception()
    pool.submit(Task(eat, {"size": 1 << 20}, timeout=0.3)).exception()
    pool.submit(Task(os.abort)).exception()
    pool.submit(Task(os.getpid)).result()
    pool.close()
    assert children() == processes
    assert descriptors() == open_before
    with pytest.raises(Unavailable, match="closed"):
        pool.submit(Task(os.getpid))


def test_a_child_that_a_finished_task_left_behind_ends_with_the_pool(pool: ProcessPool) -> None:
    left = pool.submit(Task(leave_a_child)).result()
    assert not gone(left)
    pool.close()
    assert wait_until(lambda: gone(left))


def leave_a_child() -> int:
    return subprocess.Popen(["sleep", "120"]).pid


def test_ctrl_c_reaches_the_driver_alone_and_leaves_no_worker(tmp_path: Path) -> None:
    """As in a terminal, the interrupt goes to the driver's process group; the worker is not in it."""
    note = tmp_path / "pids"
    driver = run_driver(
        tmp_path,
        f"""
        future = pool.submit(Task(sleep_with_child, {{"note": {str(note)!r}, "seconds": 120}}, name="nap"))
        try:
            future.result()
        except KeyboardInterrupt:
            print("interrupted", future.done())
            pool.close()
            print(future.exception())
        """,
    )
    pids = pids_in(note)
    os.killpg(driver.pid, signal.SIGINT)
    said, _ = driver.communicate(timeout=30)
    assert said.splitlines() == ["interrupted False", "Step 'nap' was stopped: the executor was closed."]
    assert wait_until(lambda: all(map(gone, pids)))


@pytest.mark.parametrize("running", [True, False])
def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path, running: bool) -> None:
    note = tmp_path / "pids"
    body = f"""
        future = pool.submit(Task(sleep_with_child, {{"note": {str(note)!r}, "seconds": {120 if running else 0}}}))
        {"pass" if running else "future.result()"}
        print("ready", flush=True)
        time.sleep(120)
        """
    driver = run_driver(tmp_path, body)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "ready\n"
    pids = pids_in(note)
    driver.kill()
    driver.wait()
    assert wait_until(lambda: all(map(gone, pids)), 10)


def test_a_driver_that_forgets_to_close_leaves_no_worker(tmp_path: Path) -> None:
    driver = run_driver(tmp_path, "print(pool.submit(Task(os.getpid)).result())")
    said, _ = driver.communicate(timeout=30)
    assert wait_until(lambda: gone(int(said)))


def test_when_no_process_can_be_started_that_is_said(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Unavailable, match="No worker process could be started: No such file"):
        pool.submit(Task(os.getpid)).result()


def test_a_worker_that_is_stopped_is_given_up_and_its_task_can_be_done_by_another(pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("treadle.backends.process_pool.HUNG", 0.5)
    before = children()
    future = pool.submit(Task(nap, {}, "nap"))
    assert wait_until(lambda: bool(children() - before))
    (worker,) = children() - before
    os.kill(worker, signal.SIGSTOP)
    with pytest.raises(WorkerLost, match=r"has been stopped for 0\.5 seconds"):
        future.result(60)
    assert wait_until(lambda: gone(worker))
    assert pool.submit(Task(add, {"a": 1, "b": 2})).result(60) == 3


def nap() -> None:
    time.sleep(600)
