"""Watching one model: block after block of the prediction log, each judged once, when its outcomes have had time to come.

Memory is constant: a block is read in batches into sketches and sums, and a week of sketches is all that is kept at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from treadle.core.canonical import canonical
from treadle.core.declare.operations import Watch
from treadle.core.records import Record
from treadle.core.schema import Field
from treadle.monitoring import sketches as sk
from treadle.monitoring.aspects import Gathering, Weigh
from treadle.monitoring.blocks import BlockStats, block_stats, prediction_sketches
from treadle.monitoring.detectors import psi
from treadle.monitoring.detectors.outliers import Outliers
from treadle.monitoring.explain import Sums, explaining, sums_of
from treadle.monitoring.findings import Finding
from treadle.monitoring.judge import WatchState, judge_block
from treadle.monitoring.recent import Recent, broken_in, looked_back
from treadle.monitoring.reference import Normal
from treadle.monitoring.sketches import Sketch, empty_sketch, rolling
from treadle.monitoring.usual import SAMPLE
from treadle.ports.ledger import Ledger
from treadle.ports.predictions import Outcome, Prediction, PredictionLog

STATE, BLOCK = "watch_state", "block"
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Watched:
    """The version whose answers are judged, and what was normal for it. `weigh`: what it leans on; None where it cannot be explained."""

    model: str
    version: int
    task: Any
    labels: Sequence[Any]
    features: Sequence[Field]
    normal: Normal
    weigh: Weigh | None = None

    def gathering(self) -> Gathering:
        """What is gathered of a block beside outcomes and columns."""
        known = Outliers({f.name: self.normal.sketches[f.name] for f in self.features if f.name in self.normal.sketches})
        usual = self.normal.thresholds.usual
        return Gathering([f.name for f in self.features], known, usual.odd_score, SAMPLE if self.weigh is not None and usual.weights else 0)


def judge_due(watched: Watched, watch: Watch, log: PredictionLog, ledger: Ledger, now: datetime) -> list[tuple[BlockStats, Finding]]:
    """Judge every block that is over and whose label window has passed; returns what was newly found.

    State and block are recorded together after each block, so that a watch that is killed goes on with the block it was at.
    """
    every = int(watch.every.total_seconds() * 1_000_000)
    due = int((now - watch.label_window).timestamp() * 1_000_000) // every * every
    found: list[tuple[BlockStats, Finding]] = []
    while True:
        record = ledger.get(STATE, watched.model)
        start = int(record["next"]) if record else _first(watched.model, log, every)
        if start is None or start + every > due:
            return found
        new = record is None or record["version"] != watched.version
        state = WatchState() if new or record is None else WatchState.from_json(record["state"])
        slices: Sums = {}
        gathering = watched.gathering()
        block, columns = summarise(watched, log, start, start + every, slices, gathering)
        if block.rows == 0:
            following = _first_after(watched.model, log, start, due, every)
            ledger.put(
                STATE,
                watched.model,
                {"version": watched.version, "next": following, "state": state.to_json()},
                expect=record.version if record else 0,
            )
            continue
        week = watched.normal.thresholds.week
        records = _before(ledger, watched.model, start, every)
        mine = [] if new else [r for r in records if r["version"] == watched.version and int(r["start"]) >= start - (week - 1) * every]
        loaded = {r.id: sk.load(r["sketches"]) for r in records}
        state, findings = judge_block(
            state, block, columns, watched.normal.sketches, watched.normal.thresholds,
            window=rolling([*(loaded[r.id] for r in mine), columns], week), recent=_clean(records, loaded, every),
            kinds=watch.kinds, aspects=(aspects := gathering.aspects(slices, watch.compared(watched.features), watched.weigh)),
            fairness_gap=watch.fairness_gap,
        )  # fmt: skip
        findings = [_explained(f, records, watched.version, slices) for f in findings]
        body = {
            "model": watched.model, "version": watched.version, "start": start, **block.to_json(), "sketches": sk.dump(columns),
            "slices": slices, "open": list(state.open), "beside": aspects.to_json(), **_levels(columns, watched.normal.sketches),
        }  # fmt: skip
        with ledger.transaction():
            ledger.put(BLOCK, f"{watched.model}-{start // 1_000_000}", body)
            ledger.put(
                STATE,
                watched.model,
                {"version": watched.version, "next": start + every, "state": state.to_json()},
                expect=record.version if record else 0,
            )
        found.extend((block, finding) for finding in findings)


def summarise(
    watched: Watched, log: PredictionLog, start: int, end: int, slices: Sums | None = None, gathering: Gathering | None = None
) -> tuple[BlockStats, dict[str, Sketch]]:
    """The numbers and sketches of one block of the watched version's answers, heard or unheard; `slices` is filled with its sums by category, and
    what is beside them is gathered."""
    named: dict[str, list[Any]] = {f.name: [] for f in watched.features if f.kind == "category"} if slices is not None else {}
    columns: dict[str, Sketch] = {f.name: empty_sketch(f.kind) for f in watched.features}
    outputs: list[tuple[float, ...]] = []
    truths: list[Any] = []
    moments: list[int] = []
    for batch in log.between(watched.model, start, end):
        mine = [(p, o, out) for p, o in batch if (out := output_of(p, watched.version))]
        rows = _decode(b"[%b]" % b",".join([p.features for p, _, _ in mine]))  # at once: a third of the time of one by one
        if gathering is not None:
            gathering.add(rows, [p.features for p, _, _ in mine])
        for i, field in enumerate(watched.features):
            if rows:
                values = [row[i] for row in rows]
                columns[field.name].update(values)
                if field.name in named:
                    named[field.name].extend(values)
        for prediction, outcome, output in mine:
            outputs.append(output)
            truths.append(code_of(outcome, watched.labels))
            moments.append(prediction.moment)
    if not outputs:
        return BlockStats(start, end, 0, 0, ()), columns
    matrix = np.array(outputs)
    block = block_stats(watched.task, watched.labels, matrix, np.array(truths), np.array(moments), start=start, end=end)
    if slices is not None:
        slices.update(sums_of(watched.task, watched.labels, named, matrix, np.array(truths)))
    return block, {**columns, **prediction_sketches(watched.labels, matrix)}


def output_of(prediction: Prediction, version: int) -> tuple[float, ...]:
    """What a version said to a request, heard or not; empty if it was not asked."""
    if prediction.version == version:
        return prediction.output
    return prediction.other_output if prediction.other_version == version else ()


def code_of(outcome: Outcome | None, labels: Sequence[Any]) -> float:
    """An outcome as a class code (-1 unknown) or a number (NaN unknown)."""
    if not labels:
        return float("nan") if outcome is None or isinstance(outcome.value, str) else float(outcome.value)
    if outcome is None:
        return -1
    return next((i for i, label in enumerate(labels) if canonical(label) == canonical(outcome.value)), -1)


def _first(model: str, log: PredictionLog, every: int) -> int | None:
    for batch in log.between(model, 0, 2**62, batch=1):
        return batch[0][0].moment // every * every
    return None


def _first_after(model: str, log: PredictionLog, start: int, due: int, every: int) -> int:
    """The block of the next prediction: a stretch without traffic is passed over in one step."""
    for batch in log.between(model, start + every, due, batch=1):
        return batch[0][0].moment // every * every
    return max(start + every, due)


def _levels(columns: Mapping[str, Sketch], reference: Mapping[str, Sketch]) -> dict[str, dict[str, float]]:
    """What a block is told by beside its outcomes: the index of each column against training, and its share of missing values."""
    shared = [name for name, sketch in columns.items() if name in reference and type(sketch) is type(reference[name]) and sketch.count]
    return {
        "psi": {name: round(psi.score(reference[name], columns[name]).value, 4) for name in shared},
        "missing": {name: round(columns[name].missing / columns[name].count, 4) for name in shared},
    }


def _before(ledger: Ledger, model: str, start: int, every: int) -> list[Record]:
    """The blocks of the last four weeks, or the last seven where blocks are longer than half a week; old to new."""
    most = looked_back(every)
    blocks = [b for b in ledger.find(BLOCK, {"model": model}, newest_first=True, limit=most) if start - most * every <= int(b["start"]) < start]
    return sorted(blocks, key=lambda b: int(b["start"]))


def recent_of(ledger: Ledger, model: str, start: int, every: int) -> Recent:
    """The blocks of the last four weeks before `start`, without the features that were found broken in them."""
    records = _before(ledger, model, start, every)
    return _clean(records, {r.id: sk.load(r["sketches"]) for r in records}, every)


def _clean(records: Sequence[Record], loaded: Mapping[str, Mapping[str, Sketch]], every: int) -> Recent:
    """The blocks before, without the features that were found broken in them: a fault must not become what is usual."""
    blocks = []
    for record in records:
        gone = broken_in(record.get("open", []))
        blocks.append({name: sketch for name, sketch in loaded[record.id].items() if name not in gone})
    return Recent(blocks, [int(r["rows"]) for r in records], starts=[int(r["start"]) for r in records])


def _explained(finding: Finding, records: Sequence[Record], version: int, slices: Sums) -> Finding:
    """A finding about outcomes, with the categories that carry more of it than of the rows."""
    if finding.kind not in ("quality", "calibration"):
        return finding
    since = [r.get("slices", {}) for r in records if r["version"] == version and int(r["start"]) >= finding.window_start]
    return replace(finding, slices=explaining([*since, slices], "excess" if finding.kind == "quality" else "gap"))


def history(model: str, ledger: Ledger) -> list[Mapping[str, Any]]:
    """Every judged block of a model, oldest first, without its sketches."""
    left_out = ("sketches", "slices", "open", "psi", "missing", "beside")
    kept = ({k: v for k, v in b.body.items() if k not in left_out} for b in ledger.find(BLOCK, {"model": model}))
    return sorted(kept, key=lambda b: b["start"])


def day(micros: int) -> datetime:
    """Microseconds since 1970 as a moment."""
    from datetime import UTC

    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=micros)
