"""What is seen of each request from outside: a line in the access log, a span in a trace. Nothing at all where neither was asked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from treadle.core.errors import UsageError
from treadle.settings import Settings
from treadle.web.access_log import AccessLog, route_of
from treadle.web.tracing import Tracing


class Seen:
    """Both, of one process."""

    def __init__(self, log: AccessLog | None, tracing: Tracing | None) -> None:
        self._log, self._tracing = log, tracing

    def request(self, scope: Any, status: int, begun: int, taken: int, given: int, key: str) -> None:
        """A request that began at `begun` (nanoseconds since 1970) was answered."""
        ended, route, trace = time.time_ns(), route_of(scope.path), ""
        if self._tracing is not None:
            traceparent = scope.headers.get("traceparent")
            if self._tracing.wanted(traceparent):
                trace = self._tracing.record(traceparent, scope.method, route, status, begun, ended, {"treadle.key": key} if key else {})
        if self._log is not None:
            self._log.add(scope.method, route, status, begun, ended - begun, taken, given, key, trace)

    def close(self) -> None:
        """Write and send what waits. Blocks."""
        if self._log is not None:
            self._log.close()
        if self._tracing is not None:
            self._tracing.close()


def opened(settings: Settings, model: str) -> Seen | None:
    """What the settings ask for; None when they ask for nothing. Raises UsageError for settings that cannot be."""
    path, address = settings["access_log"], settings["otlp"]
    if not path and not address:
        return None
    try:
        share = float(settings["trace_share"])
    except ValueError:
        raise UsageError(f"trace_share={settings['trace_share']!r} is not a number.", where="treadle.toml", hint="For example 0.01.") from None
    log = AccessLog(Path(path.replace("{model}", model))) if path else None
    return Seen(log, Tracing(address, share, model) if address else None)
