"""Traces: one span a request, sent to an OpenTelemetry collector in the background; a caller's trace (W3C traceparent) goes on in ours.

A request that is not traced costs one comparison. A span is made when the answer is ready, from the times that were taken, so that nothing of the
library is on the way of an answer. It names the route, never what was asked: no body, no id, no address.
"""

from __future__ import annotations

import random
import re
from typing import Any

from treadle.core.errors import UsageError

_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


def parent_of(traceparent: str | None) -> tuple[int, int, bool] | None:
    """(trace, span, whether it is recorded) of a traceparent header; None without one, or for one that is none.

    >>> parent_of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")[2]
    True
    """
    match = _PARENT.fullmatch(traceparent) if traceparent else None
    if match is None or not int(match[1], 16) or not int(match[2], 16):
        return None
    return int(match[1], 16), int(match[2], 16), bool(int(match[3], 16) & 1)


class Tracing:
    """Sends spans to one collector.

    Args:
        address: the collector's OTLP address over HTTP, for example http://127.0.0.1:4318.
        share: how many of the requests that no caller traces are traced.
    Raises: UsageError for a wrong address or share, or without the library.
    """

    def __init__(self, address: str, share: float, model: str) -> None:
        if not re.fullmatch(r"https?://[^\s]+", address) or not 0 <= share <= 1:
            raise UsageError(f"otlp={address!r} with trace_share={share} cannot be.", hint="For example http://127.0.0.1:4318 and 0.01.")
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise UsageError("Traces need OpenTelemetry.", where="setting otlp", hint="Run: pip install 'treadle[otel]'") from None
        self.share, self._model = share, model
        self._provider = TracerProvider(resource=Resource.create({"service.name": f"treadle-{model}"}))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{address.rstrip('/')}/v1/traces"), schedule_delay_millis=1_000))
        self._tracer = self._provider.get_tracer("treadle")

    def wanted(self, traceparent: str | None) -> bool:
        """Whether a request is traced: the caller decides, and the share where no caller does."""
        parent = parent_of(traceparent)
        return random.random() < self.share if parent is None else parent[2]

    def record(self, traceparent: str | None, method: str, route: str, status: int, begun: int, ended: int, says: dict[str, Any]) -> str:
        """Record one answered request, from its times in nanoseconds since 1970; returns the trace's id in hex."""
        from opentelemetry import trace

        parent, context = parent_of(traceparent), None
        if parent is not None:
            span = trace.SpanContext(parent[0], parent[1], is_remote=True, trace_flags=trace.TraceFlags(int(parent[2])))
            context = trace.set_span_in_context(trace.NonRecordingSpan(span))
        attributes = {"http.request.method": method, "http.route": route, "http.response.status_code": status, "treadle.model": self._model, **says}
        made = self._tracer.start_span(f"{method} {route}", context, trace.SpanKind.SERVER, attributes, start_time=begun)
        if status >= 500:
            made.set_status(trace.StatusCode.ERROR)
        made.end(ended)
        return f"{made.get_span_context().trace_id:032x}"

    def close(self) -> None:
        """Send what waits. Blocks."""
        self._provider.shutdown()
