"""Judges what a block says beside its outcomes and columns (`aspects.py`) against what is usual: one step, with what it found.

| kind | metric | it is a finding when |
|---|---|---|
| data_quality | repeated | more rows stand twice in the block than in drift-free ones, by 20 points of the rows |
| outliers | odd_rows | more rows are unusual than in drift-free blocks, and five times as many as usual |
| fairness | group_loss | the loss of a group, beyond what the model expects and against all others, passes its calibrated chart |
| fairness | group_bias | truth and prediction of a group lie further apart than `fairness_gap` allows, beyond chance |
| attribution | contributions | the model leans on other features than it did: 1 - NDCG passes its limit |

Unit of independence: the block. A bad day is bad for all groups, and cancels in the comparison with the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt

from treadle.monitoring.aspects import Aspects
from treadle.monitoring.blocks import BlockStats
from treadle.monitoring.detectors import attribution
from treadle.monitoring.detectors.cusum import CusumState, step
from treadle.monitoring.findings import Finding, Row, by_share, found, listed
from treadle.monitoring.usual import LEAST_ODD, SAMPLE, Usual

CLEARED = 0.8
SURE = 3.3  # standard errors: one in a thousand by chance
KINDS = ("outliers", "fairness", "attribution")
_Judged = tuple[set[str], dict[str, CusumState], list[Finding]]


def judge_aspects(
    opened: Sequence[str], groups: Mapping[str, CusumState], block: BlockStats, now: Aspects, usual: Usual, gap: float | None = None
) -> _Judged:
    """'kind:name' of all that is so now, the sums of the groups, and what is newly found.

    Args:
        opened: what was so after the last block. groups: 'column = group' to its sums so far.
        gap: how far truth and prediction of a group may lie apart, against all others; None where the project does not say.
    """
    so: set[str] = set()
    told: list[Finding] = []
    if now.rows >= LEAST_ODD and now.repeated > usual.repeated * _eased("repeated:@rows", opened):
        so.add("repeated:@rows")
        if "repeated:@rows" not in opened:
            sentence = f"{now.repeated:.0%} of the rows stand in the block more than once: something was read or sent twice."
            told.append(_found("data_quality", "repeated", now.repeated, usual.repeated, block, sentence, (), by_share(now.repeated)))
    if now.rows >= LEAST_ODD and now.odd > usual.odd * _eased("outliers:@rows", opened):
        so.add("outliers:@rows")
        rows = [(name, share, 0.0) for name, share in now.odd_by.items()]
        if "outliers:@rows" not in opened:
            because = f", most of them by {listed(rows[:3])}" if rows else ""
            sentence = f"{now.odd:.1%} of the rows are unlike those of training{because}, where {usual.odd:.1%} is the limit."
            told.append(_found("outliers", "odd_rows", now.odd, usual.odd, block, sentence, rows, by_share(now.odd)))
    sums, unfair = _groups(groups, block, now, usual)
    told += unfair + _biased(block, now, gap)
    if usual.weights and now.weights and now.rows >= SAMPLE:
        moved = 1 - attribution.score(usual.weights, now.weights)
        if moved > usual.moved * _eased("attribution:@weights", opened):
            so.add("attribution:@weights")
            if "attribution:@weights" not in opened:
                rows = _changed(usual.weights, now.weights)
                sentence = f"The model leans on other features than it did: most on {listed(rows[:3])} (NDCG {1 - moved:.2f})."
                told.append(_found("attribution", "contributions", moved, usual.moved, block, sentence, rows, "medium" if moved < 0.3 else "high"))
    return so, sums, told


def _groups(groups: Mapping[str, CusumState], block: BlockStats, now: Aspects, usual: Usual) -> tuple[dict[str, CusumState], list[Finding]]:
    sums: dict[str, CusumState] = {}
    worst: list[tuple[str, float, float]] = []
    for name, chart in usual.groups.items():
        z = (now.gaps[name] - chart.mean) / chart.sd if name in now.gaps else float("nan")
        state = step(groups.get(name, CusumState()), z)
        value, limit = (state.high, chart.threshold) if state.high > chart.threshold else (z, chart.single)
        if value > limit:
            worst.append((name, value, limit))
            state = replace(state, high=0.0)
        sums[name] = replace(state, low=0.0)
    if not worst:
        return sums, []
    worst.sort(key=lambda row: -row[1] / row[2])
    name, value, limit = worst[0]
    sentence = (
        f"{listed(worst)} fare{'s' if len(worst) == 1 else ''} worse than others: in the last block the loss beyond what the model expects was "
        f"{now.gaps.get(name, 0.0):+.3f} against all others, where {usual.groups[name].mean:+.3f} is usual."
    )
    severity = "high" if now.gaps.get(name, 0.0) - usual.groups[name].mean > 0.1 else "medium"
    finding = _found("fairness", "group_loss", value, limit, block, sentence, (), severity)
    return sums, [replace(finding, slices=tuple((n, round(v, 3)) for n, v, _ in worst))]


def _biased(block: BlockStats, now: Aspects, gap: float | None) -> list[Finding]:
    if gap is None:
        return []
    beyond = []
    for name, value in now.bias.items():
        own, others = now.sizes[name]
        chance = SURE * sqrt(0.25 / own + 0.25 / others)  # the widest a share can vary
        if abs(value) - chance > gap:
            beyond.append((name, abs(value), gap))
    if not beyond:
        return []
    beyond.sort(key=lambda row: -row[1])
    name, value, _ = beyond[0]
    word = "above" if now.bias[name] > 0 else "below"
    sentence = f"For {listed(beyond)} the truth lies {word} the predictions by {value:.3f} more than for others, where {gap:.3g} is allowed."
    finding = _found("fairness", "group_bias", value, gap, block, sentence, (), "high")
    return [replace(finding, slices=tuple((n, round(v, 3)) for n, v, _ in beyond))]


def _changed(before: Mapping[str, float], now: Mapping[str, float]) -> list[Row]:
    """Features by how much of all contributions they gained or lost, most first."""
    total, after = sum(before.values()) or 1.0, sum(now.values()) or 1.0
    shares = {name: now.get(name, 0.0) / after - before[name] / total for name in before}
    return [(name, round(share, 4), 0.0) for name, share in sorted(shares.items(), key=lambda item: -abs(item[1]))[:5]]


def _eased(name: str, opened: Sequence[str]) -> float:
    """What was found ends below this part of its limit."""
    return CLEARED if name in opened else 1.0


def _found(kind: str, metric: str, value: float, limit: float, block: BlockStats, sentence: str, rows: Sequence[Row], severity: str) -> Finding:
    return found(kind, metric, value, limit, block.start, block.end, sentence, rows, severity)  # type: ignore[arg-type]
