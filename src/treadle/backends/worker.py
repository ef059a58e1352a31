"""A worker process: takes a call, makes it, answers.

Started as a program by `backends/process_pool.py`, on this machine or on a node of a cluster. It imports nothing but the standard library and a few
lines of treadle, so that it starts in a fraction of a second; a step's code brings what it needs, which stays loaded for the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import os
import pickle
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

_SIZE = struct.Struct("!Q")


def send(to: socket.socket, message: bytes) -> None:
    """One message: eight bytes that say how long it is, and the message."""
    to.sendall(_SIZE.pack(len(message)))
    to.sendall(message)


def receive(source: socket.socket) -> bytearray | None:
    """The next message; None when the other end is gone."""
    head = _exactly(source, _SIZE.size)
    return None if head is None else _exactly(source, _SIZE.unpack(head)[0])


def _exactly(source: socket.socket, size: int) -> bytearray | None:
    data, have = bytearray(size), 0
    view = memoryview(data)
    while have < size:
        try:
            read = source.recv_into(view[have:])
        except ConnectionError:
            return None
        if read == 0:
            return None
        have += read
    return data


def main(descriptor: int) -> None:
    """Serve the calls that come through a socket until its other end is closed."""
    os.set_inheritable(descriptor, False)
    driver = socket.socket(fileno=descriptor)
    hello = receive(driver)
    if hello is None:
        return
    path, level = pickle.loads(hello)
    here = [entry for entry in path if os.path.exists(entry)]
    sys.path[:] = here + [entry for entry in sys.path if entry not in here]
    from treadle.backends.calls import perform

    atexit.register(_end_group)  # registered first, so it runs last: what a step started and left behind ends with its worker
    # Ctrl-C is for the driver, which decides. A function, not SIG_IGN: programs that a step starts would inherit that.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    idle = threading.Event()
    threading.Thread(target=_end_with, args=(driver, idle), daemon=True).start()
    flush = _capture(level)
    while True:
        idle.set()
        packed = receive(driver)
        idle.clear()
        if packed is None:
            return
        answer = perform(packed)
        del packed
        flush()
        send(driver, pickle.dumps(answer, 5))
        del answer


def _end_with(driver: socket.socket, idle: threading.Event) -> None:
    """When the driver is gone, end this process and all it started, also in the middle of a step: nobody waits for it."""
    gone = select.poll()
    gone.register(driver, 0)  # only the end of the other side, which is always reported
    gone.poll()
    if idle.is_set():
        time.sleep(2.0)  # the main thread has seen it too and ends in good order; a thread that a step left behind may hold it up
    _end_group()


def _end_group() -> None:
    """The process group was made for this worker."""
    os.killpg(0, signal.SIGKILL)


def _capture(level: int) -> Callable[[], None]:
    """Send what Python prints and logs down the pipe behind descriptors 1 and 2, a line at a time, where libraries write to directly.

    Returns a function that writes out what is held back, also in the buffers of the C library.
    """
    from treadle.backends.lines import Lines

    class Stream(io.TextIOBase):
        encoding = "utf-8"

        def __init__(self, descriptor: int) -> None:
            self.buffer = open(descriptor, "wb", closefd=False)  # noqa: SIM115 - open as long as the process runs
            self._lock = threading.RLock()
            self.lines = Lines(self._line)

        def _line(self, line: str) -> None:
            with contextlib.suppress(OSError, ValueError):  # a step that closed its own output has nothing more to say
                self.buffer.write(line.encode(errors="replace") + b"\n")
                self.buffer.flush()

        def write(self, text: str) -> int:
            with self._lock:
                self.lines.write(text)
            return len(text)

        def fileno(self) -> int:
            return self.buffer.fileno()

        def writable(self) -> bool:
            return True

    out, err, logged = Stream(1), Stream(2), Stream(2)
    sys.stdout, sys.stderr = out, err
    handler = logging.StreamHandler(logged)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(level)
    try:
        import ctypes

        c_library = ctypes.CDLL(None)
    except (ImportError, OSError):
        c_library = None

    def flush() -> None:
        for stream in (out, err, logged):
            stream.lines.finish()
        if c_library is not None:
            c_library.fflush(None)

    return flush


if __name__ == "__main__":
    main(int(sys.argv[1]))
