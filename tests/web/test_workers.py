"""An endpoint of several processes: one address, one log, one set of counts; who dies, hangs or grows is replaced, and who asks meanwhile is answered."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import Workspace
from treadle.client import Endpoint
from treadle.data.write_project import write_blank
from treadle.live.deploy import running_endpoint
from treadle.ports.blobs import Blobs
from treadle.registry import packages, versions
from treadle.serving.address import free_port
from treadle.serving.loaded import Loaded
from treadle.settings import read_settings

ROW = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7}
# A format whose models do what a row's distance says: the real worker, with a model that misbehaves. It sleeps so long a call, or below 0 so long a row.
MISBEHAVING = """
import sys, time
import numpy as np
from treadle.web import following, server

class Scorer:
    width = 0
    def __init__(self, inner): self.inner, self.width, self.held = inner, inner.width, []
    def score(self, matrix):
        distances = [round(float(d)) for d in matrix[:, COLUMN] * SCALE + MEAN]
        if 1001 in distances: time.sleep(3600)
        if 1002 in distances: raise ZeroDivisionError("the password is swordfish")
        if 1003 in distances: return np.full((len(matrix), 2), np.nan)
        if 1004 in distances: return np.zeros((len(matrix), 5))
        if 1005 in distances: self.held.append(np.ones(60_000_000))
        if SLEEP: time.sleep(SLEEP if SLEEP > 0 else -SLEEP * len(matrix))
        return self.inner.score(matrix)

class Format:
    def load(self, folder, info):
        from treadle.backends.onnx_format import OnnxFormat
        global COLUMN, MEAN, SCALE
        entry = next(e for e in info["encoder"] if e["name"] == "distance")
        COLUMN = next(i for i, e in enumerate(info["encoder"]) if e["name"] == "distance")
        MEAN, SCALE = entry["mean"], entry["scale"]
        return Scorer(OnnxFormat().load(folder, info))

SLEEP = float(sys.argv.pop(1))
following.formats = lambda: {"onnx": Format}
server.main()
"""


@pytest.fixture
def registered(tmp_path: Path, make_loaded: Callable[..., Loaded]) -> Workspace:
    """A project folder with one deployed version."""
    folder = tmp_path / "project"
    write_blank(folder, "tiny")
    ws = Workspace(folder, read_settings(folder))
    loaded = make_loaded(1)
    package = packages.store(loaded.folder, {k: v for k, v in loaded.manifest.items() if k != "files"}, _blobs(ws))
    ws.ledger.put(versions.KIND, versions.version_id("late", 1), {"model": "late", "number": 1, "status": "approved", "package": package, "evaluation": {}})
    ws.ledger.put(versions.DEPLOYMENT, "late", {"champion": 1, "challenger": None, "stage": "none", "share": 0.0, "since": "", "previous": []})
    return ws


def _blobs(ws: Workspace) -> Blobs:
    return ws.blobs


class Running:
    """The real processes."""

    def __init__(self, ws: Workspace, workers: int, sleep: float | None, *options: str) -> None:
        self.ws, self.port = ws, free_port("127.0.0.1")
        given = ["--folder", str(ws.folder), "--model", "late", "--port", str(self.port), "--workers", str(workers), *options]
        starter = "import sys; from treadle.web import workers; workers.main(sys.argv[1:])"
        if sleep is not None:
            script = ws.folder / "misbehaving.py"
            script.write_text(MISBEHAVING)
            starter = (
                "import sys; from treadle.web import workers\n"
                "class Mine(workers.Workers):\n"
                "    def __init__(self, host, port, count, command, *more):\n"
                f"        super().__init__(host, port, count, [sys.executable, {str(script)!r}, {str(sleep)!r}, *command[3:]], *more)\n"
                "workers.Workers = Mine\nworkers.main(sys.argv[1:])"
            )
        self.log = (ws.folder / "log.txt").open("w+b")
        self.process = subprocess.Popen([sys.executable, "-c", starter, *given], stdout=self.log, stderr=self.log)
        self.client = Endpoint(f"http://127.0.0.1:{self.port}")
        end = time.monotonic() + 60
        while not self.client.ready():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < end, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return Path(self.log.name).read_text()

    def pids(self) -> list[int]:
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def ask(self, method: str = "POST", path: str = "/predict", timeout: float = 60, **fields: Any) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, json.dumps({**ROW, **fields}) if method == "POST" else None, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
            return response.status, json.loads(content) if "json" in response.headers["content-type"] else content.decode()
        finally:
            connection.close()

    def eventually(self, check: Callable[[], Any], seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if found := check():
                    return found
            assert time.monotonic() < end, self.said()
            time.sleep(0.1)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(60)
        self.log.close()
        return code


Start = Callable[..., Running]


@pytest.fixture
def start(registered: Workspace) -> Iterator[Start]:
    running: list[Running] = []

    def begin(workers: int = 1, sleep: float | None = None, *options: str) -> Running:
        running.append(Running(registered, workers, sleep, *options))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.stop()


@pytest.mark.story
def test_two_workers_share_one_address_one_log_and_one_count_and_a_killed_one_is_replaced(start: Start) -> None:
    endpoint = start(2)
    endpoint.eventually(lambda: len(endpoint.pids()) == 2)
    ids = [endpoint.ask()[1]["id"] for _ in range(60)]
    total = 'treadle_predictions_total{model="late",model_version="1",variant="champion"} 60'
    endpoint.eventually(lambda: total in endpoint.ask("GET", "/metrics")[1])
    record = running_endpoint(endpoint.ws, "late")
    assert record is None or record["pid"] == endpoint.process.pid
    victim = endpoint.pids()[0]
    os.kill(victim, signal.SIGKILL)
    answered = [endpoint.eventually(lambda: endpoint.ask()[0]) for _ in range(20)]
    assert answered == [200] * 20
    endpoint.eventually(lambda: len(endpoint.pids()) == 2 and victim not in endpoint.pids())
    assert endpoint.stop() == 0
    assert all(endpoint.ws.predictions.get(id) is not None for id in ids)


@pytest.mark.story
def test_stopping_under_load_fails_no_request_that_was_taken_and_loses_none_from_the_log(start: Start) -> None:
    endpoint = start(1, None, "--buffered")
    ids: list[str] = []
    failed: list[Any] = []
    gone = threading.Event()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
        while not gone.is_set():
            try:
                connection.request("POST", "/predict", json.dumps(ROW), {"Content-Type": "application/json"})
            except OSError:
                return  # nobody took it
            try:
                response = connection.getresponse()
                body = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, http.client.RemoteDisconnected | ConnectionError):
                    return  # closed before it was taken
                failed.append(error)
                return
            if response.status != 200:
                failed.append(body)
            ids.append(body["id"])

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    assert endpoint.stop() == 0
    gone.set()
    for thread in threads:
        thread.join(30)
    assert not failed
    assert ids
    assert all(endpoint.ws.predictions.get(id) is not None for id in ids)


@pytest.mark.story
def test_a_model_that_raises_or_answers_nonsense_is_500_and_other_requests_are_answered(start: Start) -> None:
    endpoint = start(1, 0.0)
    for distance in (1002, 1003, 1004):
        status, said = endpoint.ask(distance=distance)
        assert status == 500
        assert "swordfish" not in json.dumps(said)
        assert endpoint.ask()[0] == 200


@pytest.mark.story
def test_a_quick_model_that_hangs_is_504_and_its_process_is_replaced(start: Start) -> None:
    endpoint = start(1, 0.0, "--seconds", "1")
    (before,) = endpoint.pids()
    status, said = endpoint.ask(distance=1001)
    assert (status, said["error"]) == (504, "timed_out")
    assert endpoint.eventually(lambda: endpoint.ask()[0] == 200)
    assert endpoint.pids() != [before]


@pytest.mark.story
def test_a_slow_model_that_hangs_is_504_and_the_process_is_replaced_and_rows_that_wait_are_answered_together(start: Start) -> None:
    endpoint = start(1, 0.05, "--seconds", "2")
    (before,) = endpoint.pids()
    endpoint.ask()
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(endpoint.ask()[0])) for _ in range(30)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    assert endpoint.ask("GET", "/health/live")[0] == 200  # while the model is busy
    for thread in threads:
        thread.join(60)
    assert answers == [200] * 30
    assert time.monotonic() - begun < 30 * 0.05 + 20
    assert endpoint.ask(distance=1001)[0] == 504
    assert endpoint.eventually(lambda: endpoint.ask()[0] == 200)
    endpoint.eventually(lambda: endpoint.pids() and before not in endpoint.pids())


@pytest.mark.story
def test_a_model_that_leaks_is_replaced_before_it_takes_the_machine(start: Start) -> None:
    endpoint = start(1, 0.0, "--worker-memory", "400000000")
    (before,) = endpoint.pids()
    assert endpoint.ask(distance=1005)[0] == 200
    endpoint.eventually(lambda: endpoint.pids() and before not in endpoint.pids())
    assert endpoint.eventually(lambda: endpoint.ask()[0] == 200)


@pytest.mark.story
def test_workers_leave_when_the_process_around_them_is_killed(start: Start) -> None:
    endpoint = start(2)
    endpoint.eventually(lambda: len(endpoint.pids()) == 2)
    pids = endpoint.pids()
    endpoint.process.kill()
    endpoint.process.wait()
    endpoint.eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


@pytest.mark.story
def test_an_address_in_use_and_a_model_nobody_deployed_are_told_in_one_sentence(registered: Workspace, start: Start) -> None:
    endpoint = start(1)
    for given, code, sentence in (
        (["--model", "late", "--port", str(endpoint.port)], 6, "cannot be listened on"),
        (["--model", "nothing", "--port", str(free_port("127.0.0.1"))], 8, "Model 'nothing' is not deployed"),
    ):
        done = subprocess.run([sys.executable, "-m", "treadle.web.workers", "--folder", str(registered.folder), *given], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code
        assert sentence in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
