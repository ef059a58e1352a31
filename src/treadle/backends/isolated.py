"""A model in a process of its own, with an interpreter of its own: what it does, it cannot do to the process that serves.

A call that takes too long, or a process that dies, is ended and started again; whoever asked is told, and the next call finds a fresh one. The
process gets no environment variables (so none of their secrets), a memory limit, and a folder of its own to write to. It is not shut off from the
network or from files that this user can read: a model that runs code must be trusted first.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from treadle.core.errors import Corrupt, TreadleError, Unavailable

WORKER = Path(__file__).with_name("isolated_worker.py")
START_SECONDS = 120.0
ROOM = "treadle-model-"
LARGEST = 1 << 30  # bytes of an answer


class Isolated:
    """One such process: `start` it; it is started again after it was ended.

    Args:
        python: the interpreter, with what the model needs.
        asked: the kind of model and where it lies, as `isolated_worker` takes them.
        seconds: how long a call may take.
        search: folders where the interpreter looks for modules, beside its own.
    """

    def __init__(self, python: Path, asked: Sequence[str], seconds: float, search: Sequence[str] = ()) -> None:
        self._command = [str(python), "-B", str(WORKER), *asked]
        self._seconds, self._search = seconds, search
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = False
        _sweep()
        self._room = Path(tempfile.mkdtemp(prefix=f"{ROOM}{os.getpid()}-"))
        self.restarts = -1

    def ask(self, header: Mapping[str, Any], content: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """One call. Raises Unavailable when it took too long or the process died or starts; TreadleError with what the model raised."""
        if self._starting:
            raise _started_again()
        if not self._lock.acquire(timeout=self._seconds):
            raise Unavailable(f"The model is busy for more than {self._seconds:g} s.", hint="Try again later.")
        try:
            if self.pid is None:
                self._start_again()
                raise _started_again()
            assert self._process is not None
            try:
                said, back = self._exchange(self._process, header, content)
            except Unavailable:
                self._start_again()
                raise
        finally:
            self._lock.release()
        if "error" in said:
            raise TreadleError(f"The model raised {said['error']}")
        return said, back

    def _start_again(self) -> None:
        """End the process, and start it in the background: whoever asks meanwhile is told at once."""
        self._starting = True
        self._end()

        def work() -> None:
            try:
                with self._lock, suppress(TreadleError):  # whoever asks next starts it once more, and is told
                    self._running()
            finally:
                self._starting = False

        threading.Thread(target=work, daemon=True, name="model starts").start()

    def start(self) -> None:
        """Start the process. Raises Corrupt when the model cannot be loaded, Unavailable when that takes too long."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()
            shutil.rmtree(self._room, ignore_errors=True)

    def __del__(self) -> None:
        if hasattr(self, "_room"):
            self._end()
            shutil.rmtree(self._room, ignore_errors=True)

    @property
    def pid(self) -> int | None:
        """The process, if one runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        self._room.mkdir(exist_ok=True)
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self._room), "TMPDIR": str(self._room), "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **({"PYTHONPATH": os.pathsep.join(self._search)} if self._search else {}),
        }  # fmt: skip
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd=str(self._room),
                start_new_session=True, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable(f"The interpreter of the model cannot be started: {error.strerror}.", where=self._command[0]) from error
        self._process = process
        self.restarts += 1
        try:
            said, _ = _receive(process, START_SECONDS, "to start")
        except Unavailable:
            self._end()
            raise
        if "error" in said:
            self._end()
            raise Corrupt(f"The model cannot be loaded: {said['error']}", hint="Has its interpreter everything that the model needs?")
        return process

    def _exchange(self, process: subprocess.Popen[bytes], header: Mapping[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        text = json.dumps(header).encode()
        _send(process, struct.pack(">Q", len(text)) + text + struct.pack(">Q", len(content)) + content, self._seconds)
        return _receive(process, self._seconds, "to answer")

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own, with whatever it started
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def numbers(said: Mapping[str, Any], content: bytes, rows: int) -> np.ndarray:
    """An answer of numbers, float64 of shape (rows, k). Raises Corrupt when it is of another length."""
    shape = [int(side) for side in said["shape"]]
    if not shape or shape[0] != rows or said["kind"] == "O":
        raise Corrupt(f"The model gave an answer of shape {shape} for {rows} rows{', and not of numbers' if said['kind'] == 'O' else ''}.")
    return np.frombuffer(content, dtype=np.float64).reshape(rows, -1).copy()


def _send(process: subprocess.Popen[bytes], content: bytes, seconds: float) -> None:
    """Write without waiting for ever: a model that hangs reads nothing, and a pipe holds 64 KiB."""
    assert process.stdin is not None
    handle, end, view = process.stdin.fileno(), time.monotonic() + seconds, memoryview(content)
    os.set_blocking(handle, False)
    while view:
        _, ready, _ = select.select([], [handle], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise Unavailable(f"The model took more than {seconds:g} s to read the rows; its process was ended and starts again.")
        try:
            view = view[os.write(handle, view) :]
        except BlockingIOError:
            continue
        except OSError:
            raise _died(process) from None


def _receive(process: subprocess.Popen[bytes], seconds: float, what: str) -> tuple[dict[str, Any], bytes]:
    end = time.monotonic() + seconds
    head = _exactly(process, 8, end, seconds, what)
    header = _exactly(process, _size(head), end, seconds, what)
    content = _exactly(process, _size(_exactly(process, 8, end, seconds, what)), end, seconds, what)
    try:
        said = json.loads(header)
    except ValueError as cause:
        raise Unavailable("The process of the model said something that is no answer; it starts again.") from cause
    return dict(said), content


def _size(head: bytes) -> int:
    (size,) = struct.unpack(">Q", head)
    if size > LARGEST:
        raise Unavailable(f"The process of the model announced an answer of {size:,} bytes; it starts again.")
    return int(size)


def _exactly(process: subprocess.Popen[bytes], count: int, end: float, seconds: float, what: str) -> bytes:
    assert process.stdout is not None
    handle, found = process.stdout.fileno(), bytearray()
    while len(found) < count:
        ready, _, _ = select.select([handle], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            told = f"The model took more than {seconds:g} s {what}; its process was ended and starts again."
            raise Unavailable(told, hint="Try again in a moment.")
        part = os.read(handle, min(count - len(found), 1 << 20))
        if not part:
            raise _died(process)
        found += part
    return bytes(found)


def _started_again() -> Unavailable:
    return Unavailable("The process of the model was ended, and starts again.", hint="Try again in a moment.")


def _sweep() -> None:
    """Remove the folders of processes that were killed before they could."""
    for room in Path(tempfile.gettempdir()).glob(f"{ROOM}*-*"):
        owner = room.name.removeprefix(ROOM).partition("-")[0]
        with suppress(OSError, ValueError):
            try:
                os.kill(int(owner), 0)
            except ProcessLookupError:
                shutil.rmtree(room, ignore_errors=True)


def _died(process: subprocess.Popen[bytes]) -> Unavailable:
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    code = process.returncode
    how = "ended" if code is None else f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
    hint = "Try again in a moment. It may have taken more memory than allowed."
    return Unavailable(f"The process of the model {how}, and starts again.", hint=hint)
