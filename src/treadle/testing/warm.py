"""A Python that has imported what commands import, and forks a process for each command, which then costs what it does and not what importing costs.
Everything else is as it is from a shell: arguments, environment, folder, output, exit code, an interpreter that ends in order.

What differs: modules are there already, memory is shared with the parent at first, and all commands of one test process hash texts alike. Whoever
tests one of these starts a fresh process instead (`command.treadle(..., fresh=True)`).
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

# What commands import that starts no thread: a thread would not be there after a fork. So nothing that imports polars, onnxruntime or deltalake.
_IMPORTED = (
    "click", "duckdb", "httpx", "jinja2", "lightgbm", "numpy", "onnx", "optuna", "pandera", "scipy.optimize", "scipy.stats", "sklearn.calibration",
    "sklearn.compose", "sklearn.ensemble", "sklearn.inspection", "sklearn.linear_model", "sklearn.model_selection", "sklearn.pipeline",
    "sklearn.preprocessing", "treadle", "treadle.cli.main",
)  # fmt: skip
_EARLY = ("PYTHON", "LD_", "LC_", "LANG", "OMP_", "OPENBLAS_", "MKL_")
_ENVIRONMENT = dict(os.environ)


def fits(environment: Mapping[str, str]) -> bool:
    """Whether a command with this environment can be forked: what is read when Python starts or a library is imported must be as it was then."""
    def early(variables: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in variables.items() if name.startswith(_EARLY)}

    return environment.get("TREADLE_THREADS") == "1" and early(environment) == early(_ENVIRONMENT)


def run(
    arguments: Sequence[str], env: Mapping[str, str], *, cwd: str | Path = "", days: float = 0, input: str = "", timeout: float = 240
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """One command, `treadle ...`. Raises: TimeoutExpired, after the command was killed."""
    said = {"arguments": [*arguments], "cwd": str(cwd or os.getcwd()), "env": dict(env), "days": days}
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(input.encode())
        given.seek(0)
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with mine:
            with its:
                socket.send_fds(_warm(), [json.dumps(said).encode()], [given.fileno(), out.fileno(), err.fileno(), its.fileno()])
            pid = int(mine.recv(100))
            mine.settimeout(timeout)
            try:
                code = int(mine.recv(100))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(["treadle", *arguments], timeout) from None
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(["treadle", *arguments], code, *texts)


@functools.cache
def _warm() -> socket.socket:
    """The process that forks, started when first needed; it ends when this one does."""
    door, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # With more, OpenBLAS would start its threads when it is imported.
    environment = {**_ENVIRONMENT, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    with its:
        subprocess.Popen(
            [sys.executable, "-m", "treadle.testing.warm", str(its.fileno())], pass_fds=[its.fileno()], env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return door


def _serve(door: socket.socket) -> dict[str, object] | None:
    """Fork for each command; in the fork, what it is to do. None when nobody is there any more to ask for one."""
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # what is here already is not looked at again, and stays shared
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"{len(threads)} threads before a fork"
    heard, tells = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(tells)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: dict[int, socket.socket] = {}
    while True:
        ready = select.select([door.fileno(), heard], [], [])[0]
        if heard in ready:
            with suppress(BlockingIOError):
                os.read(heard, 4096)
            for pid, status in _ended():
                with running.pop(pid) as reply, suppress(OSError):
                    reply.send(str(os.waitstatus_to_exitcode(status)).encode())
        if door.fileno() not in ready:
            continue
        message, files, _, _ = socket.recv_fds(door, 1 << 20, 4)
        if not message:
            return None
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            for number, file in enumerate(files[:3]):
                os.dup2(file, number)
            for descriptor in (*files, heard, tells, door.detach(), *(reply.detach() for reply in running.values())):
                os.close(descriptor)
            return json.loads(message)  # type: ignore[no-any-return]
        running[pid] = socket.socket(fileno=files[3])
        for file in files[:3]:
            os.close(file)
        running[pid].send(str(pid).encode())


def _ended() -> list[tuple[int, int]]:
    found = []
    with suppress(ChildProcessError):
        while (one := os.waitpid(-1, os.WNOHANG))[0]:
            found.append(one)
    return found


def _become(said: dict[str, object]) -> None:
    """Go on as the process that a shell would have started."""
    for name in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(said["env"])  # type: ignore[call-overload]
    os.chdir(str(said["cwd"]))
    sys.path[0] = str(said["cwd"])
    sys.argv = ["treadle", *said["arguments"]]  # type: ignore[misc]
    warnings.resetwarnings()
    import numpy as np

    np.random.seed()  # as a process of its own draws
    if said["days"]:
        from treadle.core import clock

        ahead, now = timedelta(days=float(said["days"])), clock.SystemClock.now  # type: ignore[arg-type]
        clock.SystemClock.now = lambda self: now(self) + ahead  # type: ignore[method-assign]


def _do() -> int:
    """The command; its exit code, as Python would give it."""
    from treadle.cli.main import main

    try:
        main()
    except SystemExit as left:
        if left.code is None or isinstance(left.code, int):
            return left.code or 0
        print(left.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    code = 0
    if asked is not None:
        _become(asked)
        code = _do()
        threading._shutdown()  # type: ignore[attr-defined]  # as an interpreter ends; but it would also take every module apart
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    os._exit(code)
