"""The endpoint's metrics as Prometheus' text: our own, and those of KServe by its names, with the version and the variant.

https://prometheus.io/docs/instrumenting/exposition_formats/ and KServe's `request_preprocess_seconds`, `request_predict_seconds` and
`request_postprocess_seconds`. Model time is that of the version that answers or runs beside it, counted where it is called (`serving.service`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from treadle.serving import service
from treadle.serving.endpoint import Endpoint, Traffic
from treadle.serving.journal import Journal
from treadle.serving.loaded import Loaded

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
    "treadle_recalibration_outcomes": "Outcomes that the recalibration has learned through which a version is answered; nothing for one without.",
    "treadle_versions_missed": "Versions that should answer and cannot be opened, of all processes; another one answers instead.",
    "treadle_log_waiting": "Log entries not yet written.",
    "treadle_log_failures_total": "Commits of the log that failed.",
    "treadle_log_dropped_total": "Log entries dropped because the log was behind, where the project says so.",
    "treadle_rows_waiting": "Rows that wait for a model, or are being answered.",
    "treadle_requests_shed_total": "Requests told to come back later, unread.",
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

    def merge(self, counted: Mapping[str, Any]) -> None:
        """Add what another process counted."""
        self.counts = [a + b for a, b in zip(self.counts, counted["counts"], strict=True)]
        self.total += counted["total"]

    def as_json(self) -> dict[str, Any]:
        return {"counts": list(self.counts), "total": self.total}


class Metrics:
    """The counters of one process, and how those of several add up."""

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

    def answered(self, version: int, variant: str, rows: int = 1) -> None:
        """Rows were answered by a version."""
        key = (version, variant)
        self._answers[key] = self._answers.get(key, 0) + rows

    def phases(self, before: float, after: float) -> None:
        """Seconds a request took before the model was asked, and after it had answered."""
        self._before.add(before)
        self._after.add(after)

    def counts(self) -> dict[str, Any]:
        """What was counted, as JSON."""
        return {
            "requests": list(self._requests.items()), "refused": list(self._refused.items()),
            "answers": [[*key, n] for key, n in self._answers.items()], "times": self._times.as_json(), "before": self._before.as_json(),
            "after": self._after.as_json(),
        }  # fmt: skip

    def add(self, counts: Mapping[str, Any]) -> None:
        """Add what another process counted."""
        for mine, others in ((self._requests, counts["requests"]), (self._refused, counts["refused"])):
            for status, n in others:
                mine[status] = mine.get(status, 0) + n
        for version, variant, n in counts["answers"]:
            self.answered(version, variant, n)
        for histogram, other in ((self._times, "times"), (self._before, "before"), (self._after, "after")):
            histogram.merge(counts[other])

    def text(self, endpoint: Endpoint, journal: Journal, ages: Mapping[str, float], others: Sequence[Mapping[str, Any]] = (), shed: int = 0) -> str:
        """All that is counted, here and by the other workers, as Prometheus reads it."""
        whole = Metrics(self._model)
        for counts in (self.counts(), *(other["metrics"] for other in others)):
            whole.add(counts)
        own = {**gauges(endpoint, journal), "shed": shed}
        summed = {name: value + sum(int(other.get(name, 0)) for other in others) for name, value in own.items()}
        m, kserve = f'model="{self._model}"', f'model_name="{self._model}"'
        traffic = endpoint.traffic
        loaded = [(f'model_version="{v.number}",variant="{name}"', _called(v, others)) for v, name in variants(traffic)]
        families: list[tuple[str, str, Iterator[str] | list[str]]] = [
            ("treadle_requests_total", "counter", _counts("treadle_requests_total", m, "status", whole._requests)),
            ("treadle_predictions_total", "counter", [
                f'treadle_predictions_total{{{m},model_version="{v}",variant="{w}"}} {n}' for (v, w), n in sorted(whole._answers.items())
            ]),
            ("treadle_request_seconds", "histogram", _histogram("treadle_request_seconds", m, whole._times)),
            ("request_preprocess_seconds", "histogram", _histogram("request_preprocess_seconds", kserve, whole._before)),
            ("request_predict_seconds", "histogram", [
                line for labels, (times, _) in loaded for line in _histogram("request_predict_seconds", f"{kserve},{labels}", times)
            ]),
            ("request_postprocess_seconds", "histogram", _histogram("request_postprocess_seconds", kserve, whole._after)),
            ("treadle_model_failures_total", "counter", [f"treadle_model_failures_total{{{m},{labels}}} {failed}" for labels, (_, failed) in loaded]),
            ("treadle_version_info", "gauge", [f'treadle_version_info{{{m},{labels},stage="{traffic.stage}"}} 1' for labels, _ in loaded]),
            ("treadle_recalibration_outcomes", "gauge", [
                f'treadle_recalibration_outcomes{{{m},model_version="{v.number}"}} {v.recalibration.learned}'
                for v in (traffic.champion,) if v is not None and v.recalibration is not None
            ]),
            ("treadle_stopped", "gauge", [f"treadle_stopped{{{m}}} {int(traffic.stage == 'stopped')}"]),
            *((name, kind, [f"{name}{{{m}}} {summed[of]}"]) for of, name, kind in _SUMMED),
            ("treadle_online_age_seconds", "gauge", [
                f'treadle_online_age_seconds{{{m},view="{view}"}} {age:.3f}' for view, age in sorted(ages.items())
            ]),
            ("treadle_refused_total", "counter", _counts("treadle_refused_total", m, "status", whole._refused)),
        ]  # fmt: skip
        lines = []
        for name, kind, samples in families:
            lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} {kind}", *samples]
        return "\n".join(lines) + "\n"


_SUMMED = (
    ("shed", "treadle_requests_shed_total", "counter"), ("log_waiting", "treadle_log_waiting", "gauge"),
    ("log_failures", "treadle_log_failures_total", "counter"), ("log_dropped", "treadle_log_dropped_total", "counter"),
    ("rows_waiting", "treadle_rows_waiting", "gauge"), ("online_failures", "treadle_online_failures_total", "counter"),
    ("challenger_failures", "treadle_challenger_failures_total", "counter"), ("missed", "treadle_versions_missed", "gauge"),
)  # fmt: skip


def gauges(endpoint: Endpoint, journal: Journal) -> dict[str, int]:
    """What is counted elsewhere in this process."""
    return {
        "log_waiting": journal.waiting, "log_failures": journal.failed, "log_dropped": journal.dropped, "rows_waiting": endpoint.waiting,
        "online_failures": endpoint.lookup.failures, "challenger_failures": endpoint.challenger_failures,
        "missed": len(endpoint.traffic.missed),
    }  # fmt: skip


def calls(traffic: Traffic) -> dict[str, dict[str, Any]]:
    """What the loaded versions did when they were called, by number, as JSON."""
    return {str(v.number): {**_of(v.service).as_json(), "failed": v.service.failed} for v, _ in variants(traffic)}


def _called(loaded: Loaded, others: Sequence[Mapping[str, Any]]) -> tuple[Histogram, int]:
    """Times and failures of a version in all processes."""
    times, failed = _of(loaded.service), loaded.service.failed
    for other in others:
        found = other.get("calls", {}).get(str(loaded.number))
        if found is not None:
            times.merge(found)
            failed += found["failed"]
    return times, failed


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
