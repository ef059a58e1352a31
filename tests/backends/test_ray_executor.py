"""The Ray executor keeps the promises of the port, on one node and on two; and what happens when a node dies.

One Ray serves the tests of one node, which run in a pytest of their own (`treadle.testing.ray_apart`). The tests of two take minutes and are run by `make test-ray`. Their nodes are network namespaces with a cable between them, each with its own processes, ports and session
folder: as near to two machines as one machine comes.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import treadle as tr
from treadle.backends.catalog import open_backend
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.ray_executor import RayExecutor
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.clock import SystemClock
from treadle.core.errors import Unavailable, UsageError
from treadle.features.history import history, join_all
from treadle.features.large import Limits, join_on
from treadle.pipelines.graph import Step
from treadle.pipelines.run import Runner, steps_of
from treadle.ports.executor import Resources, Task, WorkerLost
from treadle.testing import ray_apart
from treadle.testing.executor_contract import WorkersContract, add, gone, span, wait_until

# Tests carry no token, and a busy machine takes its time.
_ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "300"}


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _ENVIRONMENT.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="class")
def on_one_node(environment: None) -> Iterator[RayExecutor]:
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    executor = RayExecutor()
    yield executor
    executor.close()
    assert ray.is_initialized()  # it was not the executor's to end
    ray.shutdown()


def test_on_one_node_it_keeps_every_promise_of_an_executor(request: pytest.FixtureRequest) -> None:
    ray_apart.run(request, f"{request.node.nodeid.partition('::')[0]}::TestRayOnOneNode")


class TestRayOnOneNode(WorkersContract):
    __test__ = ray_apart.here()

    @pytest.fixture
    def executor(self, on_one_node: RayExecutor) -> RayExecutor:
        return on_one_node

    def make(self, folder: Path) -> RayExecutor:
        return RayExecutor()

    def test_after_close_nothing_runs_any_more(self, on_one_node: RayExecutor, tmp_path: Path) -> None:  # type: ignore[override]
        super().test_after_close_nothing_runs_any_more(tmp_path)


@pytest.mark.parametrize("end", ["ctrl-c", "kill"])
def test_a_ray_that_was_started_here_ends_with_its_driver(tmp_path: Path, end: str) -> None:
    note = tmp_path / "pids"
    file = tmp_path / "driver.py"
    file.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            from treadle.backends.ray_executor import RayExecutor
            from treadle.ports.executor import Task
            from treadle.testing.executor_contract import sleep_with_child
            if __name__ == "__main__":
                executor = RayExecutor()
                executor.submit(Task(sleep_with_child, {{"note": {str(note)!r}, "seconds": 120}}))
                try:
                    time.sleep(120)
                except KeyboardInterrupt:
                    executor.close()
            """
        )
    )
    driver = subprocess.Popen([sys.executable, str(file)], start_new_session=True)
    assert wait_until(lambda: note.exists() and len(note.read_text().split()) == 2, 120)
    pids = [*map(int, note.read_text().split()), *of_session(driver.pid)]
    assert len(pids) > 10
    if end == "kill":  # Ray's two agents notice after a minute that they are alone
        pids = [pid for pid in pids if "Agent" not in Path(f"/proc/{pid}/cmdline").read_text()]
    if end == "ctrl-c":
        os.killpg(driver.pid, signal.SIGINT)  # as a terminal sends it: to all that Ray started in this group too
        assert driver.wait(60) == 0
    else:
        driver.kill()
        driver.wait()
    assert wait_until(lambda: all(map(gone, pids)), 30)


def of_session(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def test_a_cluster_that_is_not_there_is_said_within_the_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    executor = open_backend("executor", f"ray:127.0.0.1:{port}?wait=1")
    began = time.monotonic()
    with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port} \(waited 1 seconds\)"):
        executor.submit(Task(add, {"a": 1}))
    assert time.monotonic() - began < 10
    executor.close()


def test_a_port_where_something_else_listens_is_said_within_the_wait(tmp_path: Path) -> None:
    """In a process of its own: Ray goes on trying in the background, and must not keep the program from ending."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}?wait=3"
        code = f"""
        from treadle.backends.ray_executor import RayExecutor
        from treadle.core.errors import Unavailable
        try:
            RayExecutor({address!r}).slots
        except Unavailable as error:
            print(error.code)
        """
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, timeout=100, check=False)
    assert done.stdout == "unavailable\n"
    assert time.monotonic() - began < 40


@pytest.mark.parametrize("address", ["ray:somewhere", "ray:10.0.0.5:6379?patience=3", "ray:10.0.0.5:6379?wait=long"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="Ray cluster"):
        open_backend("executor", address).submit(Task(add, {"a": 1}))


# Two nodes

HEAD, OTHER, PORT = "10.211.55.1", "10.211.55.2", 6379


@dataclass
class Cluster:
    """Two nodes with two cores each. `other` starts the second node, and gives its name."""

    name: str
    folder: Path
    nodes: dict[str, subprocess.Popen[bytes]]

    def start(self, node: str, *options: str) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=2", "--disable-usage-stats", *options]
        # Its own session folder, as on a machine of its own: the nodes would overwrite each other's notes in one.
        private = "" if node == "a" else f"mount -t tmpfs tmpfs {self.folder} && "
        self.nodes[node] = subprocess.Popen(
            ["ip", "netns", "exec", self.name + node, "unshare", "-m", "sh", "-c", private + 'exec "$@"', "sh", *command],
            stdin=subprocess.DEVNULL, stdout=(self.folder.parent / f"{self.folder.name}.{node}.log").open("wb"), stderr=subprocess.STDOUT,
            start_new_session=True, env={**os.environ, **_ENVIRONMENT},
        )  # fmt: skip

    def kill(self, node: str) -> None:
        """All processes of a node at once, as if its power were cut."""
        for _ in range(3):
            for pid in subprocess.run(["ip", "netns", "pids", self.name + node], capture_output=True, text=True, check=True).stdout.split():
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self.nodes.pop(node).wait()

    def start_other(self) -> None:
        self.start("b", f"--address={HEAD}:{PORT}", f"--node-ip-address={OTHER}")


@pytest.fixture(scope="module")
def cluster(environment: None) -> Iterator[Cluster]:
    name = f"tr{os.getpid()}"
    folder = Path(tempfile.mkdtemp(prefix="tr", dir="/tmp"))  # short: it holds sockets, whose names may have 107 characters
    cluster = Cluster(name, folder, {})

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    try:
        for node in "ab":
            ip("netns", "add", name + node)
        ip("link", "add", "cable", "netns", name + "a", "type", "veth", "peer", "name", "cable", "netns", name + "b")
        for node, address in (("a", HEAD), ("b", OTHER)):
            ip("-n", name + node, "link", "set", "lo", "up")
            ip("-n", name + node, "address", "add", f"{address}/24", "dev", "cable")
            ip("-n", name + node, "link", "set", "cable", "up")
        cluster.start(
            "a", "--head", f"--port={PORT}", f"--node-ip-address={HEAD}", "--ray-client-server-port=10001", "--include-dashboard=false", f"--temp-dir={folder}"
        )
        with inside(name + "a"):
            assert wait_until(lambda: answers(HEAD, PORT), 120)
            assert wait_until(lambda: answers(HEAD, 10001), 120)
            cluster.start_other()
            yield cluster
    finally:
        for node in list(cluster.nodes):
            cluster.kill(node)
        for node in "ab":
            subprocess.run(["ip", "netns", "del", name + node], check=False)
        shutil.rmtree(folder, ignore_errors=True)
        for log in folder.parent.glob(f"{folder.name}.?.log"):
            log.unlink()


class inside:
    """This thread, and those it starts, in a network namespace."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._enter(os.open(f"/run/netns/{self._name}", os.O_RDONLY))

    def __exit__(self, *_: object) -> None:
        self._enter(self._before)

    def _enter(self, descriptor: int) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        if library.setns(descriptor, 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def node_here(note: str = "", seconds: float = 0.0) -> str:
    """Which node it runs on; with `note`, writes that down first and waits."""
    from pathlib import Path

    name = "a" if HEAD in Path("/proc/net/fib_trie").read_text() else "b"
    if note:
        with open(note, "a") as file:
            file.write(name)
    time.sleep(seconds)
    return name


def total_so_far(rows: pl.LazyFrame, note: str = "") -> pl.LazyFrame:
    """A view's function; with `note` it writes down which node it runs on."""
    if note:
        node_here(note)
    return rows.with_columns(total=pl.col("x").cum_sum().over("who"))


@pytest.fixture(scope="class")
def on_two_nodes(cluster: Cluster) -> Iterator[RayExecutor]:
    executor = RayExecutor(f"{HEAD}:{PORT}?wait=120")
    assert wait_until(lambda: executor.slots == 4, 120)
    yield executor
    executor.close()


@pytest.mark.root
@pytest.mark.slow
class TestRayOnTwoNodes(WorkersContract):
    @pytest.fixture
    def executor(self, on_two_nodes: RayExecutor) -> RayExecutor:
        return on_two_nodes

    def make(self, folder: Path) -> RayExecutor:
        return RayExecutor(f"{HEAD}:{PORT}")

    def test_after_close_nothing_runs_any_more(self, on_two_nodes: RayExecutor, tmp_path: Path) -> None:  # type: ignore[override]
        super().test_after_close_nothing_runs_any_more(tmp_path)

    def test_a_task_that_wants_all_cores_runs_alone(self, executor: RayExecutor) -> None:  # type: ignore[override]
        """All of a node: two such run, one on each node, and a third waits."""
        futures = [executor.submit(Task(span, {"seconds": 1.0}, resources=Resources(cores=2))) for _ in range(3)]
        assert len({future.result()[0] for future in futures}) == 3
        with pytest.raises(UsageError, match=r"asks for 3 cores, and no node .* more than 2"):
            executor.submit(Task(add, {"a": 1}, resources=Resources(cores=3))).result()

    def test_a_join_cut_by_entity_runs_on_both_nodes_and_says_what_one_machine_says(self, executor: RayExecutor, tmp_path: Path) -> None:
        note = tmp_path / "nodes"
        note.touch()
        count, people = 200_000, 2_000
        at = (pl.int_range(count, eager=True) * 1_000_000).cast(pl.Datetime("us", "UTC"))
        who = pl.int_range(count, eager=True) * 2_654_435_761 % people
        pl.DataFrame({"id": pl.int_range(count, eager=True), "who": who, "at": at, "x": who * 3 % 97 + 0.5}).write_parquet(tmp_path / "facts.parquet")
        pl.DataFrame({"who": who.reverse(), "asked": at}).write_parquet(tmp_path / "rows.parquet")
        project = tr.Project("p")
        facts = project.dataset("facts", source=tr.rows(list), key="id", event_time="at")
        plain = project.view("v", source=facts, entity="who", features=["total"])
        noting = replace(plain, function=partial(total_so_far, note=str(note)))
        windows = project.view("w", source=facts, entity="who", window="5h", every="1h", features={"top": pl.col("x").max(), "n": pl.len()})
        views = [(noting, [tmp_path / "facts.parquet"]), (windows, [tmp_path / "facts.parquet"])]
        limits = Limits(300_000_000, 1, tmp_path / "spill")
        assert join_on(executor, [tmp_path / "rows.parquet"], "asked", views, tmp_path / "out.parquet", limits, parts=8) == count
        assert set(note.read_text()) == {"a", "b"}
        source = pl.read_parquet(tmp_path / "facts.parquet")
        here = replace(plain, function=total_so_far)
        expected = join_all(pl.read_parquet(tmp_path / "rows.parquet"), "asked", [(v, history(v, source)) for v in (here, windows)])
        assert pl.read_parquet(tmp_path / "out.parquet").select(expected.columns).equals(expected)
        assert expected["total"].null_count() < count / 2

    def test_a_node_that_dies_loses_its_tasks_alone_and_they_run_on_the_other_when_given_again(
        self, executor: RayExecutor, cluster: Cluster, tmp_path: Path
    ) -> None:
        note = tmp_path / "nodes"
        note.touch()
        tasks = [Task(node_here, {"note": str(note), "seconds": 8.0}, name=f"part[{number}]") for number in range(4)]
        began = time.monotonic()
        futures: list[Future[Any]] = [executor.submit(task) for task in tasks]
        assert wait_until(lambda: len(note.read_text()) == 4, 60)
        assert sorted(note.read_text()) == ["a", "a", "b", "b"]
        cluster.kill("b")
        errors = [future.exception(120) for future in futures]
        print(f"lost after {time.monotonic() - began:.1f} s")
        assert [type(error) for error in errors if error is not None] == [WorkerLost, WorkerLost]
        assert all(future.result() == "a" for future, error in zip(futures, errors, strict=True) if error is None)
        again = [executor.submit(task) for task, error in zip(tasks, errors, strict=True) if error is not None]
        assert [future.result(120) for future in again] == ["a", "a"]
        assert wait_until(lambda: executor.slots == 2, 60)
        cluster.start_other()
        assert wait_until(lambda: executor.slots == 4, 120)

    def test_a_run_goes_on_when_a_node_dies_in_its_middle(self, executor: RayExecutor, cluster: Cluster, tmp_path: Path) -> None:
        note = tmp_path / "nodes"
        note.touch()
        ledger, blobs = SqliteLedger(tmp_path / "ledger.db"), FileBlobs(tmp_path / "blobs")
        fixed = {"note": str(note), "seconds": 6.0}
        steps = [
            Step("part", part_here, {}, {"number": [1, 2, 3, 4, 5, 6]}, fixed, over="number"), Step("total", total, {"numbers": "part"}),
        ]  # fmt: skip

        def killer() -> None:
            assert wait_until(lambda: len(note.read_text()) >= 4, 60)
            cluster.kill("b")

        thread = threading.Thread(target=killer)
        thread.start()
        outcome = Runner(ledger, blobs, executor, SystemClock()).run("p.m", steps, cause={"kind": "person", "id": "", "text": ""})
        thread.join()
        assert outcome["total"] == 91
        tasks = [s for s in steps_of(outcome.run.id, ledger) if s.get("of") == "part"]
        assert [s["status"] for s in tasks] == ["done"] * 6
        lost = [s for s in tasks if s.get("failures")]
        assert 1 <= len(lost) <= 2
        assert all(s["attempt"] == 2 for s in lost)
        cluster.start_other()
        assert wait_until(lambda: executor.slots == 4, 120)


def part_here(number: int, note: str, seconds: float) -> int:
    with open(note, "a") as file:
        file.write(".")
    time.sleep(seconds)
    return number * number


def total(numbers: list[int]) -> int:
    return sum(numbers)


@pytest.mark.root
@pytest.mark.slow
def test_through_ray_client_it_is_the_same_but_lines_come_at_the_end(cluster: Cluster, tmp_path: Path) -> None:
    executor = RayExecutor(f"ray://{HEAD}:10001?wait=120")
    contract: Callable[[str], Callable[..., None]] = lambda name: getattr(TestRayOnTwoNodes(), name)  # noqa: E731
    for name in ("test_it_returns_what_the_function_returned", "test_an_error_of_the_house_keeps_its_place_and_hint", "test_output_and_log_lines_arrive_line_by_line"):
        contract(name)(executor)
    for name in ("test_cancelling_stops_a_task_that_runs", "test_a_function_that_runs_too_long_is_stopped"):
        (tmp_path / name).mkdir()
        contract(name)(executor, tmp_path / name)
    executor.close()
