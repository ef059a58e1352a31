"""Every watched number, as Prometheus reads it."""

from __future__ import annotations

from treadle.web.console.operation import Asked, Operation


def metrics(asked: Asked) -> tuple[str, str, str]:
    """The figures of all models, in Prometheus' text format."""
    from treadle.monitoring.figures import figures

    ws = asked.ws
    return "text/plain; version=0.0.4", "", figures(ws.project.models, ws.ledger, ws.clock)


OPERATIONS = [Operation("metrics.see", "/metrics", "metrics.see", metrics, "Every watched number, in Prometheus' text format.", raw=True)]
