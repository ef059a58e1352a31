"""The endpoint's metrics as Prometheus' text: our own, and those of KServe by its names, with the version and the variant.

https://prometheus.io/docs/instrumenting/exposition_formats/ and KServe's `request_preprocess_seconds`, `request_predict_seconds` and
`request_postprocess_seconds`. Model time is that of the version that answers or runs beside it, counted where it is called (`serving.service`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from treadle.serving import service
from treadle.serving.endpoint import Endpoint, Loaded, Traffic
from treadle.serving.journal import Journal

HELP = {
    "treadle_requests_total": "Requests for predictions, by HTTP status.",
    "treadle_predictions_total": "Answered rows, by the version and variant that answered.",
    "treadle_request_seconds": "Time of requests for predictions.",
    "request_preprocess_seconds": "Time before the model is asked: reading, checking, features.",
    "request_predict_seconds": "Time of one call of the model.",
    "request_postprocess_seconds": "Time after the model answered: the log, the answer's text.",
    "treadle_model_failures_total": "Calls of the model that raised or answered nonsense.",
    "treadle_version_info": "1 for each version that is loaded, with its variant.",
    "treadle_stopped": "1 while the kill switch is on.",
    "treadle_log_waiting": "Log entries not yet written.",
    "treadle_log_failures_total": "Commits of the log that failed.",
    "treadle_online_failures_total": "Times the online store did not answer.",
    "treadle_online_age_seconds": "Age of the newest value of each view in the online store.",
    "treadle_challenger_failures_total": "Rows a challenger failed to answer.",
    "treadle_refused_total": "Requests refused before they were read, by HTTP status: no key, the wrong role, too many.",
}
BEYOND = "+Inf"


class Histogram:
    """Counts by upper bound. Not locked: one event loop adds to it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.total += seconds
        self.counts[bisect_left(self.bounds, seconds)] += 1


class Metrics:
    """The counters of one endpoint process."""

    BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

    def __init__(self, model: str) -> None:
        self._model = model
        self._requests: dict[int, int] = {}
        self._refused: dict[int, int] = {}
        self._answers: dict[tuple[int, str], int] = {}
        self._times = Histogram(self.BUCKETS)
        self._before, self._after = Histogram(service.BUCKETS), Histogram(service.BUCKETS)

    def request(self, status: int, seconds: float) -> None:
        """A request for predictions was answered."""
        self._requests[status] = self._requests.get(status, 0) + 1
        self._times.add(seconds)

    def refused(self, status: int) -> None:
        """A request was refused before it was read."""
        self._refused[status] = self._refused.get(status, 0) + 1

    def answered(self, version: int, variant: str) -> None:
        """A row was answered."""
        key = (version, variant)
        self._answers[key] = self._answers.get(key, 0) + 1

    def phases(self, before: float, after: float) -> None:
        """Seconds a request took before the model was asked, and after it had answered."""
        self._before.add(before)
        self._after.add(after)

    def text(self, endpoint: Endpoint, journal: Journal, ages: Mapping[str, float]) -> str:
        """All of it, as Prometheus reads it."""
        m, kserve = f'model="{self._model}"', f'model_name="{self._model}"'
        traffic = endpoint.traffic
        loaded = [(f'model_version="{v.number}",variant="{name}"', v) for v, name in variants(traffic)]
        families: list[tuple[str, str, Iterator[str] | list[str]]] = [
            ("treadle_requests_total", "counter", _counts("treadle_requests_total", m, "status", self._requests)),
            ("treadle_predictions_total", "counter", [
                f'treadle_predictions_total{{{m},model_version="{v}",variant="{w}"}} {n}' for (v, w), n in sorted(self._answers.items())
            ]),
            ("treadle_request_seconds", "histogram", _histogram("treadle_request_seconds", m, self._times)),
            ("request_preprocess_seconds", "histogram", _histogram("request_preprocess_seconds", kserve, self._before)),
            ("request_predict_seconds", "histogram", [
                line for labels, v in loaded for line in _histogram("request_predict_seconds", f"{kserve},{labels}", _of(v.service))
            ]),
            ("request_postprocess_seconds", "histogram", _histogram("request_postprocess_seconds", kserve, self._after)),
            ("treadle_model_failures_total", "counter", [f"treadle_model_failures_total{{{m},{labels}}} {v.service.failed}" for labels, v in loaded]),
            ("treadle_version_info", "gauge", [f'treadle_version_info{{{m},{labels},stage="{traffic.stage}"}} 1' for labels, _ in loaded]),
            ("treadle_stopped", "gauge", [f"treadle_stopped{{{m}}} {int(traffic.stage == 'stopped')}"]),
            ("treadle_log_waiting", "gauge", [f"treadle_log_waiting{{{m}}} {journal.waiting}"]),
            ("treadle_log_failures_total", "counter", [f"treadle_log_failures_total{{{m}}} {journal.failed}"]),
            ("treadle_online_failures_total", "counter", [f"treadle_online_failures_total{{{m}}} {endpoint.lookup.failures}"]),
            ("treadle_online_age_seconds", "gauge", [
                f'treadle_online_age_seconds{{{m},view="{view}"}} {age:.3f}' for view, age in sorted(ages.items())
            ]),
            ("treadle_challenger_failures_total", "counter", [f"treadle_challenger_failures_total{{{m}}} {endpoint.challenger_failures}"]),
            ("treadle_refused_total", "counter", _counts("treadle_refused_total", m, "status", self._refused)),
        ]  # fmt: skip
        lines = []
        for name, kind, samples in families:
            lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} {kind}", *samples]
        return "\n".join(lines) + "\n"


def variants(traffic: Traffic) -> list[tuple[Loaded, str]]:
    """The loaded versions and what each is: 'champion'; and 'canary', 'shadow', or 'before' (the old champion during a trial)."""
    found = [(traffic.champion, "champion")]
    if traffic.challenger is not None:
        found.append((traffic.challenger, {"canary": "canary", "trial": "before"}.get(traffic.stage, "shadow")))
    return [(loaded, name) for loaded, name in found if loaded is not None]


def _of(counted: service.Service) -> Histogram:
    found = Histogram(service.BUCKETS)
    found.counts, found.total = list(counted.buckets), counted.nanos / 1e9
    return found


def _counts(name: str, labels: str, by: str, counts: Mapping[int, int]) -> list[str]:
    return [f'{name}{{{labels},{by}="{key}"}} {n}' for key, n in sorted(counts.items())]


def _histogram(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    below = 0
    for bound, count in zip((*map(str, histogram.bounds), BEYOND), histogram.counts):
        below += count
        yield f'{name}_bucket{{{labels},le="{bound}"}} {below}'
    yield f"{name}_sum{{{labels}}} {histogram.total:.6f}"
    yield f"{name}_count{{{labels}}} {below}"
