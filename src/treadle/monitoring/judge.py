"""Judges one block of production against what was normal: a pure step from state to state, with what it found.

| kind | what is measured, block by block | it is a finding when |
|---|---|---|
| quality | loss in excess of what the model itself expected | its CUSUM passes a threshold calibrated to the tolerated false alarms |
| calibration | truth minus prediction, per standard deviation | its two-sided CUSUM does |
| input | PSI of each feature, over the block and over a rolling week | it is above 0.25 AND above what blocks without drift show |
| prediction | PSI of the model's own answers | likewise |
| data_quality | missing share, one constant value, unseen categories, values out of range | the effect is above a stated limit |

An effect decides for inputs, not a p-value: with many rows everything differs. Features with a data-quality finding are not also reported as
drifted while a week still holds such a block: they are broken, and a model must not be retrained on them. Something found is reported once, and
again only after it had gone away. The block finds gross faults the same day; the week, in which weekdays and weather average out, small ones.

Unit of independence: the block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from treadle.monitoring.blocks import PREDICTION, BlockStats
from treadle.monitoring.detectors import psi, quality
from treadle.monitoring.detectors.cusum import CusumState, step
from treadle.monitoring.sketches import Sketch
from treadle.monitoring.thresholds import LEAST_BLOCK, LEAST_MATURED, LEAST_WINDOW, LIMITS, MOVED, Chart, Thresholds

FindingKind = Literal["quality", "calibration", "input", "prediction", "data_quality", "skew", "rollback"]

CLEARED = 0.8  # a finding ends below this part of its limit, so that one near the limit is not found daily
_SINGLE = 0.05  # a constant value this rare in training is suspect even where it is unknown how constant blocks usually are


@dataclass(frozen=True, slots=True)
class WatchState:
    """What is remembered from block to block, of one version.

    `blocks` were judged. `worse_since`, `above_since`, `below_since`: where the sum of that name last rose from 0, in microseconds.
    `open`: 'kind:name' found and not gone. `mending`: features that were broken, and for how many blocks more a rolling week will hold that.
    """

    quality: CusumState = field(default_factory=CusumState)
    calibration: CusumState = field(default_factory=CusumState)
    worse_since: int = 0
    above_since: int = 0
    below_since: int = 0
    open: tuple[str, ...] = ()
    mending: Mapping[str, int] = field(default_factory=dict)
    blocks: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "open": list(self.open), "mending": dict(self.mending)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> WatchState:
        sums = {name: CusumState(**stored[name]) for name in ("quality", "calibration")}
        return cls(**{**stored, **sums, "open": tuple(stored["open"])})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was. The window, in microseconds, is where it shows; `features` are worst first."""

    kind: FindingKind
    metric: str
    value: float
    threshold: float
    window_start: int
    window_end: int
    features: tuple[tuple[str, float], ...]
    sentence: str


def judge_block(
    state: WatchState, block: BlockStats, sketches: Mapping[str, Sketch], reference: Mapping[str, Sketch], thresholds: Thresholds, *,
    window: Mapping[str, Sketch] | None = None,
) -> tuple[WatchState, list[Finding]]:  # fmt: skip
    """The state after this block, and what is newly found.

    Args:
        sketches: the block's features and '@prediction...' by name.
        window: the same over the last `thresholds.week` blocks of this version up to this one, from `sketches.rolling`;
            without it blocks are judged alone.
        reference: the same names at training time; names found on one side only are passed over.
    """
    state, found = _outcomes(state, block, thresholds)
    broken, data = _data_quality(state.open, block, sketches, sketches if window is None else window, reference, thresholds)
    names = {name.split(":", 1)[1] for name in broken}
    mending = {name: left - 1 for name, left in state.mending.items() if left > 1} | dict.fromkeys(names, thresholds.week)
    state = replace(state, mending=mending, blocks=state.blocks + 1)
    moved, drift = _drift(state, names, block, sketches, window or {}, reference, thresholds)
    return replace(state, open=tuple(sorted(broken | moved))), found + data + drift


def _outcomes(state: WatchState, block: BlockStats, thresholds: Thresholds) -> tuple[WatchState, list[Finding]]:
    """Quality and calibration: one step of each CUSUM. One that alarmed starts again at 0."""
    if block.matured < LEAST_MATURED or block.loss is None or block.excess is None or block.gap is None:
        return state, []
    found: list[Finding] = []
    chart = thresholds.quality
    if chart is not None and _fits(chart, block):
        sums = step(state.quality, chart.z(block.excess, block.excess_variance or 0.0, block.matured))
        since = state.worse_since if state.quality.high > 0 else block.start
        if sums.high > chart.threshold:
            usual = f"{chart.mean:.3f} is usual" if block.expected_loss is None else f"the model itself expected {block.expected_loss:.3f}"
            found.append(_finding(
                "quality", "excess_loss", sums.high, chart.threshold, since, block,
                f"Since {_day(since)} predictions are worse than chance explains: in the last block the loss was {block.loss:.3f} where {usual}.",
            ))  # fmt: skip
            sums = replace(sums, high=0.0)
        state = replace(state, quality=sums, worse_since=since)
    chart = thresholds.calibration
    if chart is not None and _fits(chart, block):
        before = state.calibration
        sums = step(before, chart.z(block.gap, block.gap_variance or 0.0, block.matured))
        above = state.above_since if before.high > 0 else block.start
        below = state.below_since if before.low > 0 else block.start
        for value, since, word in ((sums.high, above, "above"), (sums.low, below, "below")):
            if value > chart.threshold:
                found.append(_finding(
                    "calibration", "calibration", value, chart.threshold, since, block,
                    f"Since {_day(since)} the truth lies {word} the predictions: by {block.gap:+.3g} on average in the last block, "
                    f"where {chart.mean:+.2g} is usual.",
                ))  # fmt: skip
        sums = replace(sums, high=0.0, low=0.0) if max(sums.high, sums.low) > chart.threshold else sums
        state = replace(state, calibration=sums, above_since=above, below_since=below)
    return state, found


def _fits(chart: Chart, block: BlockStats) -> bool:
    """A regression's errors have no scale of their own: they are judged only where reference blocks gave one."""
    return block.expected_loss is not None or chart.row_variance is not None


def _data_quality(
    opened: Iterable[str], block: BlockStats, sketches: Mapping[str, Sketch], wide: Mapping[str, Sketch],
    reference: Mapping[str, Sketch], thresholds: Thresholds,
) -> tuple[set[str], list[Finding]]:  # fmt: skip
    ongoing = set(opened)
    now: dict[str, list[tuple[str, float, float]]] = {}
    for name in _shared(reference, wide):
        if name.startswith(PREDICTION):
            continue
        alone = name in sketches and sketches[name].count >= LEAST_BLOCK
        common = _SINGLE if thresholds.usually_constant is None else quality.COMMON
        measured = quality.score(reference[name], sketches[name] if alone else wide[name], common=common)
        for metric, standard in LIMITS.items():
            value, limit = float(getattr(measured, metric)), thresholds.limits.get(metric, {}).get(name, standard)
            if value > limit * (CLEARED if f"{metric}:{name}" in ongoing else 1.0):
                now.setdefault(metric, []).append((name, value, limit))
        if measured.constant and name not in (thresholds.usually_constant or ()):
            now.setdefault("constant", []).append((name, 1.0, 0.0))
    found = []
    for metric, rows in now.items():
        if all(f"{metric}:{name}" in ongoing for name, _, _ in rows):
            continue
        worst = sorted(rows, key=lambda row: -row[1])
        start = block.start if block.rows >= LEAST_BLOCK else _week_start(block, thresholds)
        found.append(_finding("data_quality", metric, worst[0][1], worst[0][2], start, block, _broken(metric, worst), worst))
    return {f"{metric}:{name}" for metric, rows in now.items() for name, _, _ in rows}, found


def _drift(
    state: WatchState, broken: set[str], block: BlockStats, sketches: Mapping[str, Sketch], week: Mapping[str, Sketch],
    reference: Mapping[str, Sketch], thresholds: Thresholds,
) -> tuple[set[str], list[Finding]]:  # fmt: skip
    now: dict[FindingKind, list[tuple[str, float, float]]] = {"input": [], "prediction": []}
    looks: list[tuple[str, Sketch, float]] = []
    for name in _shared(reference, sketches):
        if name in thresholds.block_levels and name not in broken and sketches[name].count >= LEAST_BLOCK:
            looks.append((name, sketches[name], thresholds.block_levels[name]))
    for name in _shared(reference, week):
        if state.blocks >= thresholds.week and name not in state.mending and week[name].count >= LEAST_WINDOW:
            looks.append((name, week[name], thresholds.week_levels.get(name, MOVED)))
    worst: dict[str, tuple[str, float, float]] = {}
    for name, sketch, level in looks:
        kind: FindingKind = "prediction" if name.startswith(PREDICTION) else "input"
        value = psi.score(reference[name], sketch).value
        if value > level * (CLEARED if f"{kind}:{name}" in state.open else 1.0) and (
            name not in worst or value / level > worst[name][1] / worst[name][2]
        ):
            worst[name] = (name, value, level)
    for name, row in worst.items():
        now["prediction" if name.startswith(PREDICTION) else "input"].append(row)
    found = []
    for kind, rows in now.items():
        if all(f"{kind}:{name}" in state.open for name, _, _ in rows):
            continue
        rows.sort(key=lambda row: -row[1] / row[2])
        what = "the model's own answers have" if kind == "prediction" else f"{_list(rows)} {'have' if len(rows) > 1 else 'has'}"
        found.append(_finding(
            kind, "psi", rows[0][1], rows[0][2], _week_start(block, thresholds) if week else block.start, block,
            f"Since training {what} moved: population stability index {rows[0][1]:.2f}, where {rows[0][2]:.2f} is the limit.", rows,
        ))  # fmt: skip
    return {f"{kind}:{name}" for kind, rows in now.items() for name, _, _ in rows}, found


def _week_start(block: BlockStats, thresholds: Thresholds) -> int:
    return block.end - thresholds.week * (block.end - block.start)


def _shared(reference: Mapping[str, Sketch], now: Mapping[str, Sketch]) -> list[str]:
    return [name for name in reference if name in now and type(reference[name]) is type(now[name])]


def _finding(
    kind: FindingKind, metric: str, value: float, threshold: float, start: int, block: BlockStats, sentence: str,
    rows: Iterable[tuple[str, float, float]] = (),
) -> Finding:  # fmt: skip
    return Finding(kind, metric, value, threshold, start, block.end, tuple((name, v) for name, v, _ in rows), sentence[0].upper() + sentence[1:])


def _broken(metric: str, rows: Sequence[tuple[str, float, float]]) -> str:
    names, value = _list(rows), rows[0][1]
    return {
        "missing_jump": f"{names}: missing in {value:.0%} more of the rows than in training.",
        "new_share": f"{names}: {value:.0%} of the values are categories never seen in training.",
        "out_of_range": f"{names}: {value:.0%} of the values lie outside the range of training.",
        "constant": f"{names}: every row has the same value.",
    }[metric]


def _list(rows: Sequence[tuple[str, float, float]]) -> str:
    names = [repr(name) for name, _, _ in rows[:3]]
    more = [f"{len(rows) - 3} more"] if len(rows) > 3 else []
    parts = names + more
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _day(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1e6, UTC).strftime("%Y-%m-%d %H:%M").removesuffix(" 00:00")
