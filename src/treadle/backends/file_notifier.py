"""Messages as JSON lines at the end of a file: for tests, for `tail -f`, and for shippers that follow log files."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict
from pathlib import Path

from treadle.backends.os_errors import storage_error
from treadle.core.clock import SystemClock, iso
from treadle.core.errors import Unavailable
from treadle.ports.notifier import Message


class FileNotifier:
    """Appends one line a message, forced to the disk. Any number of processes may share the file."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()

    def send(self, message: Message) -> None:
        line = json.dumps({"time": iso(SystemClock().now()), **asdict(message)}, ensure_ascii=False).encode(errors="replace") + b"\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                _append(handle, line)
            finally:
                os.close(handle)
        except OSError as error:
            reason = storage_error(error, self._path)
            raise Unavailable(reason.what, hint=reason.hint) from error


def _append(handle: int, line: bytes) -> None:
    size = os.fstat(handle).st_size
    if size and os.pread(handle, 1, size - 1) != b"\n":  # a writer was killed in the middle of its line
        line = b"\n" + line
    try:
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)
        raise
