"""What an endpoint counts, in Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from treadle.serving.endpoint import Endpoint
from treadle.serving.journal import Journal


class Metrics:
    """Counters of one process, and how those of several add up."""

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

    def counts(self) -> dict[str, Any]:
        """What was counted, as JSON."""
        return {
            "requests": list(self._requests.items()), "answers": [[*key, n] for key, n in self._answers.items()], "buckets": self._buckets,
            "seconds": self._seconds,
        }  # fmt: skip

    def add(self, counts: Mapping[str, Any]) -> None:
        """Add what another process counted."""
        for status, n in counts["requests"]:
            self._requests[status] = self._requests.get(status, 0) + n
        for version, variant, n in counts["answers"]:
            self.answered(version, variant, n)
        self._buckets = [a + b for a, b in zip(self._buckets, counts["buckets"], strict=True)]
        self._seconds += counts["seconds"]

    def text(self, endpoint: Endpoint, journal: Journal, ages: Mapping[str, float], others: Sequence[Mapping[str, Any]] = (), shed: int = 0) -> str:
        """All that is counted, here and by the other workers."""
        whole = Metrics(self._model)
        gauges = {
            "log_waiting": journal.waiting, "log_failures": journal.failed, "log_dropped": journal.dropped, "rows_waiting": endpoint.waiting,
            "shed": shed,
        }  # fmt: skip
        gauges |= {"online_failures": endpoint.lookup.failures, "challenger_failures": endpoint.challenger_failures}
        for counts in (self.counts(), *(other["metrics"] for other in others)):
            whole.add(counts)
        for name in gauges:
            gauges[name] += sum(int(other.get(name, 0)) for other in others)
        m = f'model="{self._model}"'
        lines = ["# TYPE treadle_requests_total counter"]
        lines += [f'treadle_requests_total{{{m},status="{s}"}} {n}' for s, n in sorted(whole._requests.items())]
        lines += ["# TYPE treadle_predictions_total counter"]
        lines += [f'treadle_predictions_total{{{m},model_version="{v}",variant="{w}"}} {n}' for (v, w), n in sorted(whole._answers.items())]
        lines += ["# TYPE treadle_request_seconds histogram"]
        total = 0
        for limit, n in zip((*map(str, self.BUCKETS), "+Inf"), whole._buckets):
            total += n
            lines.append(f'treadle_request_seconds_bucket{{{m},le="{limit}"}} {total}')
        lines += [f"treadle_request_seconds_sum{{{m}}} {whole._seconds:.6f}", f"treadle_request_seconds_count{{{m}}} {total}"]
        lines += ["# TYPE treadle_requests_shed_total counter", f"treadle_requests_shed_total{{{m}}} {gauges['shed']}"]
        lines += ["# TYPE treadle_log_waiting gauge", f"treadle_log_waiting{{{m}}} {gauges['log_waiting']}"]
        lines += ["# TYPE treadle_log_failures_total counter", f"treadle_log_failures_total{{{m}}} {gauges['log_failures']}"]
        lines += ["# TYPE treadle_log_dropped_total counter", f"treadle_log_dropped_total{{{m}}} {gauges['log_dropped']}"]
        lines += ["# TYPE treadle_rows_waiting gauge", f"treadle_rows_waiting{{{m}}} {gauges['rows_waiting']}"]
        lines += ["# TYPE treadle_online_failures_total counter", f"treadle_online_failures_total{{{m}}} {gauges['online_failures']}"]
        lines += ["# TYPE treadle_online_age_seconds gauge"]
        lines += [f'treadle_online_age_seconds{{{m},view="{view}"}} {age:.3f}' for view, age in sorted(ages.items())]
        lines += ["# TYPE treadle_challenger_failures_total counter", f"treadle_challenger_failures_total{{{m}}} {gauges['challenger_failures']}"]
        return "\n".join(lines) + "\n"
