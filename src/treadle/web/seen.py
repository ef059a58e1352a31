"""What is seen of each request from outside: a line in the access log, a span in a trace. Nothing at all where neither was asked for."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from treadle.core.errors import UsageError
from treadle.settings import Settings
from treadle.web.access_log import AccessLog, route_of
from treadle.web.api.exchange import Request, Response
from treadle.web.tracing import Tracing

App = Callable[[Request], "Response | Awaitable[Response]"]


class Seen:
    """Both, of one process."""

    def __init__(self, log: AccessLog | None, tracing: Tracing | None) -> None:
        self._log, self._tracing = log, tracing

    def request(self, request: Request, status: int, begun: int, given: int) -> None:
        """A request that began at `begun` (nanoseconds since 1970) was answered."""
        ended, route, trace = time.time_ns(), route_of(request.path), ""
        key = request.caller.key.id if request.caller is not None else ""
        if self._tracing is not None:
            traceparent = request.header(b"traceparent") or None
            if self._tracing.wanted(traceparent):
                trace = self._tracing.record(traceparent, request.method, route, status, begun, ended, {"treadle.key": key} if key else {})
        if self._log is not None:
            self._log.add(request.method, route, status, begun, ended - begun, len(request.body), given, key, trace)

    def around(self, app: App) -> App:
        """An app whose requests are seen."""

        def answer(request: Request) -> Response | Awaitable[Response]:
            begun = time.time_ns()
            response = app(request)
            if isinstance(response, tuple):
                self.request(request, response[0], begun, len(response[2]))
                return response
            return later(request, response, begun)

        async def later(request: Request, response: Awaitable[Response], begun: int) -> Response:
            found = await response
            self.request(request, found[0], begun, len(found[2]))
            return found

        return answer

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
