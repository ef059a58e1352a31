"""What an endpoint counts, in Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from treadle.serving.endpoint import Endpoint
from treadle.serving.journal import Journal


class Metrics:
    """Counters of one process."""

    BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

    def __init__(self, model: str) -> None:
        self._model = model
        self._requests: dict[int, int] = {}
        self._answers: dict[tuple[int, str], int] = {}
        self._buckets = [0] * (len(self.BUCKETS) + 1)
        self._seconds = 0.0

    def request(self, status: int, seconds: float) -> None:
        """Count a request for predictions."""
        self._requests[status] = self._requests.get(status, 0) + 1
        self._seconds += seconds
        self._buckets[bisect_left(self.BUCKETS, seconds)] += 1

    def answered(self, version: int, variant: str, rows: int = 1) -> None:
        """Count answered rows."""
        key = (version, variant)
        self._answers[key] = self._answers.get(key, 0) + rows

    def text(self, endpoint: Endpoint, journal: Journal, ages: Mapping[str, float]) -> str:
        """All that is counted."""
        m = f'model="{self._model}"'
        lines = ["# TYPE treadle_requests_total counter"]
        lines += [f'treadle_requests_total{{{m},status="{s}"}} {n}' for s, n in sorted(self._requests.items())]
        lines += ["# TYPE treadle_predictions_total counter"]
        lines += [f'treadle_predictions_total{{{m},model_version="{v}",variant="{w}"}} {n}' for (v, w), n in sorted(self._answers.items())]
        lines += ["# TYPE treadle_request_seconds histogram"]
        total = 0
        for limit, n in zip((*map(str, self.BUCKETS), "+Inf"), self._buckets):
            total += n
            lines.append(f'treadle_request_seconds_bucket{{{m},le="{limit}"}} {total}')
        lines += [f"treadle_request_seconds_sum{{{m}}} {self._seconds:.6f}", f"treadle_request_seconds_count{{{m}}} {total}"]
        lines += ["# TYPE treadle_log_waiting gauge", f"treadle_log_waiting{{{m}}} {journal.waiting}"]
        lines += ["# TYPE treadle_log_failures_total counter", f"treadle_log_failures_total{{{m}}} {journal.failed}"]
        lines += ["# TYPE treadle_log_dropped_total counter", f"treadle_log_dropped_total{{{m}}} {journal.dropped}"]
        lines += ["# TYPE treadle_rows_waiting gauge", f"treadle_rows_waiting{{{m}}} {endpoint.waiting}"]
        lines += ["# TYPE treadle_online_failures_total counter", f"treadle_online_failures_total{{{m}}} {endpoint.lookup.failures}"]
        lines += ["# TYPE treadle_online_age_seconds gauge"]
        lines += [f'treadle_online_age_seconds{{{m},view="{view}"}} {age:.3f}' for view, age in sorted(ages.items())]
        lines += ["# TYPE treadle_challenger_failures_total counter", f"treadle_challenger_failures_total{{{m}}} {endpoint.challenger_failures}"]
        return "\n".join(lines) + "\n"
