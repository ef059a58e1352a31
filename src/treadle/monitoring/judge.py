"""Judges one block of production against what was normal: a pure step from state to state, with what it found.

| kind | what is measured, block by block | it is a finding when |
|---|---|---|
| quality | loss in excess of what the model itself expected | its CUSUM passes a threshold calibrated to the tolerated false alarms |
| quality | how much worse rows are put in order than the probabilities promise (`ranking.py`) | its CUSUM does |
| calibration | truth minus prediction, per standard deviation | its two-sided CUSUM does |
| input | PSI of each feature, over the block and over a rolling week | it is above 0.25 AND above what blocks without drift show |
| input | the mean of each number against the fortnight before (`sudden.py`) | it jumped by more than drift-free blocks do |
| prediction | PSI of the model's own answers | likewise |
| data_quality | missing share, one constant value, unseen categories, values out of range, a unit | it is above a limit, and what blocks show |
| volume | rows against the same weekday of the last four weeks | less than half of them, or more than twice |
| outliers, fairness, attribution, rows that came twice | what is beside them (`beside.py`) | above what drift-free blocks show |

An effect decides for inputs, not a p-value: with many rows everything differs. Features with a data-quality finding are not also reported as
drifted while a week still holds such a block: they are broken, and a model must not be retrained on them. Something found is reported once, and
again only after it had gone away. The block finds gross faults the same day; the week, in which weekdays and weather average out, small ones.

Unit of independence: the block.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from treadle.core.declare.operations import JUDGED
from treadle.monitoring.aspects import Aspects
from treadle.monitoring.beside import judge_aspects
from treadle.monitoring.blocks import PREDICTION, BlockStats
from treadle.monitoring.detectors import psi, quality
from treadle.monitoring.findings import Finding as Finding
from treadle.monitoring.findings import FindingKind, Row, by_psi, by_share, found, listed
from treadle.monitoring.outcomes import WatchState as WatchState
from treadle.monitoring.outcomes import judge_outcomes
from treadle.monitoring.recent import NOTHING, Recent, seasonal
from treadle.monitoring.sketches import Sketch
from treadle.monitoring.sudden import sudden, volume_of
from treadle.monitoring.suspect import suspect
from treadle.monitoring.thresholds import LEAST_BLOCK, LEAST_WINDOW, LIMITS, MOVED, Thresholds

_KIND_OF = {**dict.fromkeys([*LIMITS, "constant", "unit", "repeated", "left_range"], "data_quality"), "jump": "input"}
CLEARED = 0.8  # a finding ends below this part of its limit, so that one near the limit is not found daily
_SINGLE = 0.05  # a constant value this rare in training is suspect even where it is unknown how constant blocks usually are


def judge_block(
    state: WatchState, block: BlockStats, sketches: Mapping[str, Sketch], reference: Mapping[str, Sketch], thresholds: Thresholds, *,
    window: Mapping[str, Sketch] | None = None, recent: Recent = NOTHING, kinds: Collection[str] = JUDGED,
    aspects: Aspects | None = None, fairness_gap: float | None = None,
) -> tuple[WatchState, list[Finding]]:  # fmt: skip
    """The state after this block, and what is newly found.

    Args:
        sketches: the block's features and '@prediction...' by name.
        window: the same over the last `thresholds.week` blocks of this version up to this one, from `sketches.rolling`;
            without it blocks are judged alone.
        reference: the same names at training time; names found on one side only are passed over.
        recent: the blocks of the last four weeks; without them nothing is compared with the last weeks.
        kinds: only these are judged.
        aspects: what the block says beside; without them nothing of that is judged. fairness_gap: as declared.
    """
    every = block.end - block.start
    state, told = judge_outcomes(state, block, thresholds) if {"quality", "calibration"} & set(kinds) else (state, [])
    broken, data = data_quality(state.open, block, sketches, sketches if window is None else window, reference, thresholds, recent)
    names = {name.split(":", 1)[1] for name in broken}
    leapt, jumps = sudden(state.open, names, block, sketches, reference, thresholds, recent)
    names |= {name.split(":", 1)[1] for name in leapt if name.startswith(("unit:", "left_range:"))}
    mending = {name: left - 1 for name, left in state.mending.items() if left > 1} | dict.fromkeys(names, thresholds.week)
    state = replace(state, mending=mending, blocks=state.blocks + 1)
    moved, drift = _drift(state, names, block, sketches, window or {}, reference, thresholds)
    few, rows = volume_of(state.open, block, recent)
    so: set[str] = set()
    beside: list[Finding] = []
    if aspects is not None:
        so, groups, beside = judge_aspects(state.open, state.groups, block, aspects, thresholds.usual, fairness_gap)
        state = replace(state, groups=groups)
    state = replace(state, open=tuple(sorted(broken | leapt | moved | few | so)))
    together = {*(_KIND_OF.get(o.split(":", 1)[0], o.split(":", 1)[0]) for o in state.open), *(f.kind for f in (*told, *beside))}
    explained = []
    for finding in [*told, *data, *jumps, *drift, *rows, *beside]:
        if finding.kind in kinds:
            worst = finding.features[0][0] if finding.features else ""
            like = seasonal(worst, sketches[worst], recent, block.start, every) if worst in sketches else None
            explained.append(reasoned(finding, together, kinds, like))
    return state, explained


def reasoned(finding: Finding, together: Collection[str], kinds: Collection[str], like: float | None) -> Finding:
    """A finding with the kind of change that is suspected, and why.

    Args:
        together: kinds that are open at the time. like: PSI of its worst feature against the same weekday of the last weeks, where it was measured.
    """
    about = suspect(finding.kind, finding.metric, set(together) & set(kinds), like, [name for name, _ in finding.features])
    return replace(finding, suspected=about.kind, evidence=about.evidence)


def data_quality(
    opened: Iterable[str], block: BlockStats, sketches: Mapping[str, Sketch], wide: Mapping[str, Sketch],
    reference: Mapping[str, Sketch], thresholds: Thresholds, recent: Recent,
) -> tuple[set[str], list[Finding]]:  # fmt: skip
    """'metric:name' of all that is broken now, and what is newly found. `opened`: what was so after the last block; `wide`: the last week."""
    ongoing = set(opened)
    now: dict[str, list[Row]] = {}
    for name in _shared(reference, wide):
        if name.startswith(PREDICTION):
            continue
        alone = name in sketches and sketches[name].count >= LEAST_BLOCK
        common = _SINGLE if thresholds.usually_constant is None else quality.COMMON
        before = [columns[name] for columns in recent.blocks if name in columns] or [reference[name]]
        measured = quality.score(reference[name], sketches[name] if alone else wide[name], common=common, before=before)
        for metric, standard in LIMITS.items():
            value, limit = float(getattr(measured, metric)), thresholds.limits.get(metric, {}).get(name, standard)
            if value > limit * (CLEARED if f"{metric}:{name}" in ongoing else 1.0):
                now.setdefault(metric, []).append((name, value, limit))
        if measured.constant and name not in (thresholds.usually_constant or ()):
            now.setdefault("constant", []).append((name, 1.0, 0.0))
    told = []
    for metric, rows in now.items():
        if all(f"{metric}:{name}" in ongoing for name, _, _ in rows):
            continue
        worst = sorted(rows, key=lambda row: -row[1])
        start = block.start if block.rows >= LEAST_BLOCK else _week_start(block, thresholds)
        sentence = _broken(metric, worst)
        told.append(found("data_quality", metric, worst[0][1], worst[0][2], start, block.end, sentence, worst, by_share(worst[0][1])))
    return {f"{metric}:{name}" for metric, rows in now.items() for name, _, _ in rows}, told


def _drift(
    state: WatchState, broken: set[str], block: BlockStats, sketches: Mapping[str, Sketch], week: Mapping[str, Sketch],
    reference: Mapping[str, Sketch], thresholds: Thresholds,
) -> tuple[set[str], list[Finding]]:  # fmt: skip
    now: dict[FindingKind, list[Row]] = {"input": [], "prediction": []}
    looks: list[tuple[str, Sketch, float]] = []
    for name in _shared(reference, sketches):
        if name in thresholds.block_levels and name not in broken and sketches[name].count >= LEAST_BLOCK:
            looks.append((name, sketches[name], thresholds.block_levels[name]))
    for name in _shared(reference, week):
        if state.blocks >= thresholds.week and name not in state.mending and week[name].count >= LEAST_WINDOW:
            looks.append((name, week[name], thresholds.week_levels.get(name, MOVED)))
    worst: dict[str, Row] = {}
    for name, sketch, level in looks:
        kind: FindingKind = "prediction" if name.startswith(PREDICTION) else "input"
        value = psi.score(reference[name], sketch).value
        if value > level * (CLEARED if f"{kind}:{name}" in state.open else 1.0) and (
            name not in worst or value / level > worst[name][1] / worst[name][2]
        ):
            worst[name] = (name, value, level)
    for name, row in worst.items():
        now["prediction" if name.startswith(PREDICTION) else "input"].append(row)
    told = []
    for kind, rows in now.items():
        if all(f"{kind}:{name}" in state.open for name, _, _ in rows):
            continue
        rows.sort(key=lambda row: -row[1] / row[2])
        what = "the model's own answers have" if kind == "prediction" else f"{listed(rows)} {'have' if len(rows) > 1 else 'has'}"
        told.append(found(
            kind, "psi", rows[0][1], rows[0][2], _week_start(block, thresholds) if week else block.start, block.end,
            f"Since training {what} moved: population stability index {rows[0][1]:.2f}, where {rows[0][2]:.2f} is the limit.", rows,
            by_psi(rows[0][1]),
        ))  # fmt: skip
    return {f"{kind}:{name}" for kind, rows in now.items() for name, _, _ in rows}, told


def _week_start(block: BlockStats, thresholds: Thresholds) -> int:
    return block.end - thresholds.week * (block.end - block.start)


def _shared(reference: Mapping[str, Sketch], now: Mapping[str, Sketch]) -> list[str]:
    return [name for name in reference if name in now and type(reference[name]) is type(now[name])]


def _broken(metric: str, rows: Sequence[Row]) -> str:
    names, value = listed(rows), rows[0][1]
    return {
        "missing_jump": f"{names}: missing in {value:.0%} more of the rows than in training.",
        "new_share": f"{names}: {value:.0%} of the values are categories never seen in training.",
        "out_of_range": f"{names}: {value:.0%} of the values lie outside the range of training.",
        "constant": f"{names}: every row has the same value.",
    }[metric]
