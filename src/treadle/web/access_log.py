"""The access log: a JSON line a request, with nothing in it that is about a person.

Time, method, route, status, milliseconds, bytes in and out, the public id of the API key, the trace. No address, no query, no header, no body, no id
of a prediction; a path that is no route is logged as 'other', since anything may stand in it.
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

LARGEST = 64 * 1024 * 1024  # bytes, then it is put away as NAME.1, and what was there is gone
MOST = 100_000  # lines that may wait; more are dropped and counted, so that a slow disk slows no answer
EVERY = 0.5
_ROUTES = {
    "/", "/predict", "/outcomes", "/signature", "/health/live", "/health/ready", "/metrics", "/reload", "/quota", "/ping", "/version", "/invocations",
    "/openapi.json", "/docs", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models",
}  # fmt: skip


def route_of(path: str) -> str:
    """The route of a path, without what a caller put into it."""
    if path in _ROUTES:
        return path
    if path.startswith("/predictions/"):
        return "/predictions/ID"
    if path.startswith("/v2/models/"):
        return "/v2/models/NAME/infer" if path.endswith("/infer") else "/v2/models/NAME"
    return "other"


class AccessLog:
    """One process's. Several may write to one file: each write is whole lines, appended.

    Attributes:
        dropped: lines that were not written.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.dropped = 0
        self._path = path
        self._lines: list[tuple[int, str, str, int, int, int, int, str, str]] = []
        self._end = threading.Event()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def add(self, method: str, route: str, status: int, begun: int, nanos: int, taken: int, given: int, key: str = "", trace: str = "") -> None:
        """A request that began at `begun` (nanoseconds since 1970) and took `nanos`; `taken` and `given` are the bytes of the bodies."""
        if len(self._lines) >= MOST:
            self.dropped += 1
            return
        self._lines.append((begun, method, route, status, nanos, taken, given, key, trace))

    def close(self) -> None:
        """Write what waits. Blocks."""
        self._end.set()
        self._thread.join(10)
        os.close(self._file)

    def _run(self) -> None:
        while not self._end.wait(EVERY):
            self._write()
        self._write()

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        if not lines:
            return
        try:
            os.write(self._file, b"".join(map(_line, lines)))
            if os.fstat(self._file).st_size > LARGEST:
                self._put_away()
        except OSError:  # a full disk is no reason not to answer
            self.dropped += len(lines)

    def _put_away(self) -> None:
        with suppress(OSError):
            if os.stat(self._path).st_ino == os.fstat(self._file).st_ino:  # else another process was first
                os.replace(self._path, f"{self._path}.1")
        old, self._file = self._file, os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        os.close(old)


def _line(entry: tuple[int, str, str, int, int, int, int, str, str]) -> bytes:
    begun, method, route, status, nanos, taken, given, key, trace = entry
    at = datetime.fromtimestamp(begun / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    verb = method if method.isalpha() and len(method) < 10 else "other"
    said = {"at": at, "method": verb, "route": route, "status": status, "ms": round(nanos / 1e6, 3), "in": taken, "out": given}
    if key:
        said["key"] = key
    if trace:
        said["trace"] = trace
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"
