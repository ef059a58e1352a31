"""What the outcomes of a block say: one step of each chart of losses, of the order of rows, and of truth minus prediction.

| metric | kind | judged |
|---|---|---|
| excess_loss | quality | loss in excess of what the model itself expected, upwards: CUSUM, or a single block |
| page_hinkley | quality | the same against its own running mean: for what is not where training was |
| adwin | quality | the same, between the two parts of a window that differ most: it also dates a slow change |
| ranking | quality | how much worse rows are put in order than the probabilities promise, upwards |
| calibration | calibration | truth minus prediction, both ways |

Each chart speaks when its CUSUM passes its threshold (a small lasting change), its fast CUSUM, with a slack of 1.5, its own (a change of two or three
standard deviations, in two blocks), or a single block its limit (a large sudden one); after it spoke, all its sums start again at 0.
Fed a block at a time ADWIN and Page-Hinkley are right; row by row they cry wolf (`detectors/adwin.py`).

Unit of independence: the block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from math import inf
from typing import Any

import numpy as np

from treadle.monitoring.blocks import BlockStats
from treadle.monitoring.detectors import adwin, page_hinkley
from treadle.monitoring.detectors.adwin import AdwinState
from treadle.monitoring.detectors.cusum import FAST, CusumState, step
from treadle.monitoring.detectors.page_hinkley import PageHinkleyState
from treadle.monitoring.findings import Finding, by_loss, found
from treadle.monitoring.thresholds import LEAST_MATURED, Chart, Thresholds


@dataclass(frozen=True, slots=True)
class WatchState:
    """What is remembered from block to block, of one version.

    `blocks` were judged. `worse_since`, `mixed_since`, `above_since`, `below_since`: where the sum of that name last rose from 0, in microseconds.
    `open`: 'kind:name' found and not gone. `mending`: features that were broken, and for how many blocks more a rolling week will hold that.
    `groups`: 'column = group' to the sums of its gap. `fast`: chart to its sums with the larger slack.
    """

    quality: CusumState = field(default_factory=CusumState)
    calibration: CusumState = field(default_factory=CusumState)
    worse_since: int = 0
    above_since: int = 0
    below_since: int = 0
    open: tuple[str, ...] = ()
    mending: Mapping[str, int] = field(default_factory=dict)
    blocks: int = 0
    ranking: CusumState = field(default_factory=CusumState)
    mixed_since: int = 0
    hinkley: PageHinkleyState = field(default_factory=PageHinkleyState)
    window: AdwinState = field(default_factory=AdwinState)
    groups: Mapping[str, CusumState] = field(default_factory=dict)
    fast: Mapping[str, CusumState] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "open": list(self.open), "mending": dict(self.mending)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> WatchState:
        charts = {name: CusumState(**stored[name]) for name in ("quality", "calibration", "ranking") if name in stored}
        trends: dict[str, Any] = {}
        if "hinkley" in stored:
            trends["hinkley"] = PageHinkleyState(**stored["hinkley"])
            trends["window"] = AdwinState(tuple(stored["window"]["window"]), stored["window"]["n"])
        sums = {kind: {name: CusumState(**one) for name, one in stored.get(kind, {}).items()} for kind in ("groups", "fast")}
        return cls(**{**stored, **charts, **trends, **sums, "open": tuple(stored["open"])})


def judge_outcomes(state: WatchState, block: BlockStats, thresholds: Thresholds) -> tuple[WatchState, list[Finding]]:
    """One step of each chart; a block with too few outcomes changes nothing."""
    if block.matured < LEAST_MATURED or block.loss is None or block.excess is None or block.gap is None:
        return state, []
    told: list[Finding] = []
    chart = thresholds.quality
    if chart is not None and _fits(chart, block):
        z = chart.z(block.excess, block.excess_variance or 0.0, block.matured)
        sums, fast, since, value, limit = _upwards(state.quality, state.fast.get("quality", CusumState()), z, state.worse_since, block, chart)
        state = replace(state, fast={**state.fast, "quality": fast})
        metric = "excess_loss"
        state, trend = _trends(state, z, since, block, chart)
        if not value and trend is not None:
            metric, since, value, limit = trend
        if value:
            sums = replace(sums, high=0.0)
            state = replace(state, hinkley=PageHinkleyState(), window=AdwinState(), fast={**state.fast, "quality": CusumState()})
            usual = f"{chart.mean:.3f} is usual" if block.expected_loss is None else f"the model itself expected {block.expected_loss:.3f}"
            told.append(found(
                "quality", metric, value, limit, since, block.end,
                f"Since {_day(since)} predictions are worse than chance explains: in the last block the loss was {block.loss:.3f} where {usual}.",
                severity=by_loss(block.loss, chart.mean if block.expected_loss is None else block.expected_loss),
            ))  # fmt: skip
        state = replace(state, quality=sums, worse_since=since)
    chart = thresholds.ranking
    if chart is not None and block.deficit is not None and _fits(chart, block):
        z = chart.z(block.deficit, block.deficit_variance or 0.0, block.matured)
        sums, fast, since, value, limit = _upwards(state.ranking, state.fast.get("ranking", CusumState()), z, state.mixed_since, block, chart)
        state = replace(state, fast={**state.fast, "ranking": fast})
        if value:
            what = "ROC-AUC" if block.expected_loss is not None else "rank correlation"
            told.append(found(
                "quality", "ranking", value, limit, since, block.end,
                f"Since {_day(since)} predictions put rows in a worse order than chance explains: in the last block the {what} was "
                f"{block.deficit:.3f} below what it should be, where {chart.mean:+.3f} is usual.",
                severity="high" if block.deficit - chart.mean >= 0.1 else "medium",
            ))  # fmt: skip
        state = replace(state, ranking=sums, mixed_since=since)
    chart = thresholds.calibration
    if chart is not None and _fits(chart, block):
        state, gaps = _calibration(state, block, chart)
        told += gaps
    return state, told


def _calibration(state: WatchState, block: BlockStats, chart: Chart) -> tuple[WatchState, list[Finding]]:
    assert block.gap is not None
    told: list[Finding] = []
    z = chart.z(block.gap, block.gap_variance or 0.0, block.matured)
    sums, quick = step(state.calibration, z), step(state.fast.get("calibration", CusumState()), z, FAST)
    above = state.above_since if state.calibration.high > 0 else block.start
    below = state.below_since if state.calibration.low > 0 else block.start
    for slow, one, soon, since, word in ((sums.high, z, quick.high, above, "above"), (sums.low, -z, quick.low, below, "below")):
        passed = next((p for p in ((slow, chart.threshold), (one, chart.single), (soon, chart.fast)) if p[0] > p[1]), None)
        if passed is not None:
            told.append(found(
                "calibration", "calibration", *passed, since, block.end,
                f"Since {_day(since)} the truth lies {word} the predictions: by {block.gap:+.3g} on average in the last block, "
                f"where {chart.mean:+.2g} is usual.", severity=_by_gap(block, chart),
            ))  # fmt: skip
    sums, quick = (CusumState(n=sums.n), CusumState()) if told else (sums, quick)
    return replace(state, calibration=sums, above_since=above, below_since=below, fast={**state.fast, "calibration": quick}), told


def _trends(state: WatchState, z: float, since: int, block: BlockStats, chart: Chart) -> tuple[WatchState, tuple[str, int, float, float] | None]:
    """The state after a block of Page-Hinkley and ADWIN, and what spoke: metric, since when, value, limit."""
    if chart.adwin == inf:
        return state, None
    hinkley = page_hinkley.step(state.hinkley, z)
    window, change = adwin.step(state.window, z, level=chart.adwin)
    after = replace(state, hinkley=hinkley, window=window)
    if hinkley.rise > chart.hinkley:
        return after, ("page_hinkley", since, hinkley.rise, chart.hinkley)
    if change is not None and adwin.rose(state.window, window):
        times = float(adwin.peaks(np.array([[*state.window.window, z]]))[0])
        return after, ("adwin", block.end - change * (block.end - block.start), times, chart.adwin)
    return after, None


def _upwards(
    before: CusumState, fast: CusumState, z: float, since: int, block: BlockStats, chart: Chart
) -> tuple[CusumState, CusumState, int, float, float]:
    """The sums after a block, where they began to rise, and what was passed with its limit; 0 where nothing was."""
    sums, quick = step(before, z), step(fast, z, FAST)
    since = since if before.high > 0 else block.start
    for value, limit in ((sums.high, chart.threshold), (z, chart.single), (quick.high, chart.fast)):
        if value > limit:
            return replace(sums, high=0.0), CusumState(), since, value, limit
    return sums, quick, since, 0.0, 0.0


def _by_gap(block: BlockStats, chart: Chart) -> str:
    """Severity of a gap between truth and prediction: for classes in points of probability, for numbers in standard deviations of a row."""
    apart = abs((block.gap or 0.0) - chart.mean)
    if block.expected_loss is None:
        apart = 0.2 * apart / chart.row_variance**0.5 if chart.row_variance else 0.0
    return "high" if apart >= 0.1 else "medium" if apart >= 0.04 else "low"


def _fits(chart: Chart, block: BlockStats) -> bool:
    """A regression's errors have no scale of their own: they are judged only where reference blocks gave one."""
    return block.expected_loss is not None or chart.row_variance is not None


def _day(moment: int) -> str:
    return datetime.fromtimestamp(moment / 1e6, UTC).strftime("%Y-%m-%d %H:%M").removesuffix(" 00:00")
