"""Delayed truth: quality by window of time and by version, once the outcomes had time to come, restated when corrections arrive, nothing forgotten.

A window matures when it is over and the label window after it too. From then on it has its figures; when an outcome comes later, or is corrected,
they are computed again from all that is known, and what was said before stays in the window's history. So the figures are always those of a
computation from scratch (`measure`), whatever the order in which outcomes came.

What does not count: an outcome that was known before the moment it was asked about (it is no outcome of it), one that is no value of the target,
and what a source says beyond the share of a window it may decide. Each is told. Outcomes of unknown predictions are kept and counted by the log.

Unit of independence: the day. With fewer than 5 days in a window its intervals resample rows, which share their luck: they are then too narrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from treadle.core.canonical import canonical, digest
from treadle.core.clock import iso, parse_time
from treadle.core.declare.truth import Truth
from treadle.core.records import Record, Ref
from treadle.monitoring.estimate import Estimate, estimate
from treadle.monitoring.watch import code_of, day
from treadle.ports.ledger import Ledger
from treadle.ports.predictions import PredictionLog
from treadle.training.evaluate import block_weights
from treadle.training.losses import metrics

KIND, STATE = "truth", "truth_state"
DAY = 86_400_000_000
REPLICATES = 200
REMEMBERED = 50  # former figures of a window
LEAST = 10  # outcomes without which nothing is measured
FEWEST_DAYS = 5


@dataclass(frozen=True)
class Answering:
    """What must be known of a version to judge its answers: the task it is judged by, and its labels (none of a regression)."""

    task: Any
    labels: Sequence[Any]


@dataclass
class Gathered:
    """The rows of one window and version, and what of their outcomes does not count."""

    outputs: list[tuple[float, ...]] = field(default_factory=list)
    truths: list[float] = field(default_factory=list)
    moments: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    early: int = 0
    odd: int = 0
    mark: int = 0


def settle(
    model: str, truth: Truth, label_window: int, versions: Callable[[int], Answering], log: PredictionLog, ledger: Ledger, now: datetime, *,
    again: bool = False,
) -> list[Record]:  # fmt: skip
    """Bring the windows to what is known now; returns those that are new or were restated.

    Args:
        label_window: microseconds an outcome may take.
        versions: number to what must be known of it.
        again: read the windows that may still change now; else that is done whenever a window matures.
    """
    at = _micros(now)
    length = int(truth.window.total_seconds() * 1e6)
    state = ledger.get(STATE, model)
    over = (at - label_window) // length * length  # windows that end here or before are mature
    if state is not None and not again and over <= state["over"]:
        return []
    first = _first(model, log)
    changed: list[Record] = []
    if first is not None:
        oldest = (at - label_window - int(truth.restate_for.total_seconds() * 1e6)) // length * length
        settled = max((int(r["end"]) for r in ledger.find(KIND, {"model": model})), default=0)  # after that everything is still to be measured
        start = max(first // length * length, min(oldest, settled // length * length))
        while start < over:
            changed += _window(model, truth, start, start + length, versions, log, ledger, now)
            start += length
    if state is None or over > state["over"]:
        ledger.put(STATE, model, {"over": over, "at": iso(now)}, expect=state.version if state else 0)
    return changed


def _window(
    model: str, truth: Truth, start: int, end: int, versions: Callable[[int], Answering], log: PredictionLog, ledger: Ledger, now: datetime
) -> list[Record]:
    changed = []
    for number, gathered in sorted(gather(model, start, end, versions, log).items()):
        id = f"{model}-v{number}-{start // 1_000_000}"
        record = ledger.get(KIND, id)
        mark = f"{gathered.mark:016x}"
        if record is not None and record["mark"] == mark:
            continue
        about = versions(number)
        said = measure(about, gathered, truth.per_source)
        body: dict[str, Any] = {
            "model": model, "version": number, "start": start, "end": end, "from": iso(day(start)), "to": iso(day(end)), "mark": mark,
            "at": iso(now), **said, "restated": 0, "history": [],
        }  # fmt: skip
        if record is not None:
            before = {k: record[k] for k in ("at", "rows", "matured", "metrics", "mark")}
            body.update(restated=record["restated"] + 1, history=[*record["history"], before][-REMEMBERED:])
        with ledger.transaction():
            changed.append(ledger.put(KIND, id, body, expect=record.version if record else 0))
            what = {"matured": said["matured"], "rows": said["rows"]}
            ledger.append("truth.restated" if record else "truth.settled", Ref(KIND, id), what)
    return changed


def gather(model: str, start: int, end: int, versions: Callable[[int], Answering], log: PredictionLog) -> dict[int, Gathered]:
    """The heard answers of a window by version, with the outcomes that are known."""
    found: dict[int, Gathered] = {}
    for batch in log.between(model, start, end):
        for prediction, outcome in batch:
            mine = found.setdefault(prediction.version, Gathered())
            about = versions(prediction.version)
            value = code_of(outcome, about.labels)
            known = bool(np.isfinite(value)) if not about.labels else value >= 0
            if outcome is not None and outcome.known < prediction.moment:
                mine.early, known = mine.early + 1, False
            elif outcome is not None and not known:
                mine.odd += 1
            mine.outputs.append(prediction.output)
            mine.moments.append(prediction.moment)
            mine.ids.append(prediction.id)
            mine.truths.append(float(value) if known else float("nan"))
            mine.sources.append(outcome.source if outcome is not None else "")
            said = canonical([prediction.id, None if outcome is None else [outcome.value, outcome.source, known]])
            mine.mark ^= int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big")  # whatever the order of equal moments
    return found


def measure(about: Answering, rows: Gathered, per_source: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The figures of one window and version from scratch: metrics with 95 % intervals, and what is estimated of the rows without an outcome."""
    outputs, truth = np.array(rows.outputs, dtype=np.float64), np.array(rows.truths)
    moments = np.array(rows.moments)
    counts, left_out = _limited(rows, np.isfinite(truth), per_source or {})
    there = np.flatnonzero(counts)
    body: dict[str, Any] = {
        "rows": len(truth), "matured": len(there), "early": rows.early, "odd": rows.odd, "over_limit": left_out, "metrics": {}, "interval_of": "",
        "estimate": None,
    }  # fmt: skip
    if len(there) >= LEAST:
        y = truth[there] if not about.labels else truth[there].astype(np.int64)
        days = moments[there] // DAY
        enough = len(np.unique(days)) >= FEWEST_DAYS
        body["interval_of"] = "days" if enough else "rows"
        weights = block_weights(days if enough else np.arange(len(there)), 0, REPLICATES)
        for name, metric in metrics(about.task).items():
            value = _number(metric(y, outputs[there], np.ones((1, len(there))))[0])
            drawn = metric(y, outputs[there], weights)
            drawn = drawn[np.isfinite(drawn)]
            low, high = np.percentile(drawn, [2.5, 97.5]) if value is not None and len(drawn) >= 20 else (np.nan, np.nan)
            body["metrics"][name] = {"value": value, "low": _number(low), "high": _number(high)}
    told = estimate(about.task, about.labels, outputs)
    body["estimate"] = None if told is None else told.metrics
    return body


def figures(model: str, ledger: Ledger) -> list[Record]:
    """Every window of a model, oldest first, then by version."""
    return sorted(ledger.find(KIND, {"model": model}), key=lambda r: (r["start"], r["version"]))


def estimated(
    model: str, version: int, start: int, end: int, versions: Callable[[int], Answering], log: PredictionLog, ledger: Ledger
) -> Estimate | None:  # fmt: skip
    """What is to be expected of a window whose outcomes have not come, with the error such estimates had on the mature windows of this version."""
    gathered = gather(model, start, end, versions, log).get(version)
    if gathered is None:
        return None
    about = versions(version)
    told = estimate(about.task, about.labels, np.array(gathered.outputs, dtype=np.float64))
    return None if told is None else told.with_error(errors_of(figures(model, ledger), version))


def errors_of(windows: Sequence[Record], version: int | None = None) -> dict[str, list[float]]:
    """Metric to realised minus estimated, of each mature window (of one version)."""
    found: dict[str, list[float]] = {}
    for window in windows:
        if window["estimate"] is None or (version is not None and window["version"] != version):
            continue
        for name, value in window["estimate"].items():
            real = window["metrics"].get(name, {}).get("value")
            if real is not None and value is not None:
                found.setdefault(name, []).append(real - value)
    return found


def _limited(rows: Gathered, known: np.ndarray, per_source: Mapping[str, float]) -> tuple[np.ndarray, int]:
    """Which outcomes count, and how many do not because their source has said more than it may decide.

    A source's share is of the outcomes that count in the end, so with share s beside n of the others it has at most s n / (1 - s). Which of its
    outcomes stay is chosen by the predictions' ids: nobody can choose them by when they are sent.
    """
    if not per_source:
        return known, 0
    counts, left_out = known.copy(), 0
    sources = np.array(rows.sources, dtype=object)
    for source in sorted({s for s, k in zip(rows.sources, known) if k}):
        share = per_source.get(source, per_source.get("*", 1.0))
        mine = np.flatnonzero(known & (sources == source))
        others = int(known.sum()) - len(mine)
        most = len(mine) if share >= 1 else int(share * others / (1 - share))
        if len(mine) > most:
            order = sorted(mine.tolist(), key=lambda i: digest(rows.ids[i]))
            counts[order[most:]] = False
            left_out += len(mine) - most
    return counts, left_out


def _first(model: str, log: PredictionLog) -> int | None:
    for batch in log.between(model, 0, 2**62, batch=1):
        return int(batch[0][0].moment)
    return None


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _micros(moment: datetime) -> int:
    return round((moment - parse_time("1970-01-01")).total_seconds() * 1e6)
