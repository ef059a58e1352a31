"""From challenger to champion: what the evidence of each stage allows. Pure: it decides, the registry does.

In shadow and in canary both versions score every request, so they are compared on the same rows, by day blocks once the truth is known:
a challenger that is worse beyond chance is thrown out, one that has enough matured outcomes and is not worse goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from treadle.core.declare.rollout import ABTest
from treadle.serving.sequential import Sample, above_zero, differs

ALPHA = 0.05
FEWEST_BLOCKS = 3  # two days that were both bad say little


@dataclass(frozen=True)
class Pair:
    """One request scored by both versions, its outcome known: the row losses, and the block (day) it lies in."""

    block: int
    champion_loss: float
    challenger_loss: float


@dataclass(frozen=True)
class Decision:
    """What to do now: 'wait', 'canary', 'ab', 'promote' or 'reject' (of a trial: 'rollback' or 'settle'), why, and on which numbers."""

    action: str
    reason: str
    evidence: dict[str, Any]


def decide(
    stage: str, since: datetime, now: datetime, least: timedelta, least_outcomes: int, pairs: Sequence[Pair], failures: int = 0, *,
    step: str = "", alpha: float = ALPHA,
) -> Decision:  # fmt: skip
    """Decide about a challenger in 'shadow' or 'canary'.

    Args:
        least: how long the stage lasts at least.
        least_outcomes: how many matured outcomes it needs.
        pairs: of this stage only.
        failures: answers of the challenger that raised or were not finite.
        step: what comes next; by default the canary after the shadow, and then the promotion.
        alpha: the probability that one that is not worse is ever thrown out for being worse, however often this is asked; 0 never throws out.
    """
    evidence = compare(pairs)
    if failures:
        return Decision("reject", f"it failed to answer {failures} times", evidence)
    found = worse(pairs, alpha, least_outcomes, evidence) if alpha else None
    if found:
        return Decision("reject", found, evidence)
    if now - since < least or len(pairs) < least_outcomes:
        return Decision("wait", f"{len(pairs):,} of {least_outcomes:,} outcomes, {(now - since) / timedelta(days=1):.1f} days", evidence)
    if evidence["better_by"] < 0 and evidence["p_worse"] <= ALPHA:  # not enough to throw it out, too much to let it on
        return Decision("wait", f"it looks worse than the champion (p = {evidence['p_worse']:.3f}); more outcomes will tell", evidence)
    step = step or ("canary" if stage == "shadow" else "promote")
    lower = evidence["better_by"] >= 0
    difference = f"its loss is {abs(evidence['better_by']):.4f} {'lower' if lower else 'higher'}"
    reason = difference if lower else f"no evidence that it is worse: {difference}"
    return Decision(step, f"{reason} than the champion's on {len(pairs):,} outcomes", evidence)


def worse(pairs: Sequence[Pair], alpha: float, least_outcomes: int, compared: dict[str, Any] | None = None) -> str | None:
    """Why the challenger of these pairs is worse beyond chance, or None. May be asked after each outcome: see `sequential.above_zero`."""
    evidence = compared or compare(pairs)
    evidence["needed"] = 1 / alpha
    if evidence["blocks"] < FEWEST_BLOCKS or evidence["better_by"] >= 0 or len(pairs) < least_outcomes or evidence["evidence"] < 1 / alpha:
        return None
    return (
        f"worse than the champion by {-evidence['better_by']:.4f} on {len(pairs):,} outcomes of {evidence['blocks']} blocks "
        f"(evidence {evidence['evidence']:.3g}; {1 / alpha:.3g} is enough)"
    )


def decide_ab(a: Sample, b: Sample, test: ABTest, since: datetime, now: datetime) -> Decision:
    """Decide about the challenger (b) of an A/B test: 'promote' when it won, 'reject' when it lost or nothing was found in time, else 'wait'."""
    difference, error, found = differs(a, b, test.effect)
    better = (difference < 0) if test.less or test.metric == "loss" else (difference > 0)
    needed = 1 / test.false_alarms
    numbers = {
        "units": [a.count, b.count], "means": [a.mean, b.mean], "difference": difference, "error": error if np.isfinite(error) else None,
        "evidence": min(found, 1e300), "needed": needed,
    }  # fmt: skip
    name = "outcome" if test.metric == "outcome" else "loss"
    said = f"the mean {name} is {b.mean:.4f} against the champion's {a.mean:.4f}, on {b.count:,} and {a.count:,} units"
    if found >= needed:
        return Decision("promote" if better else "reject", f"{said} (evidence {found:.3g}; {needed:.3g} is enough)", numbers)
    if now - since >= test.most:
        return Decision("reject", f"no difference was found in {test.most / timedelta(days=1):g} days: {said}", numbers)
    return Decision("wait", f"{said}; evidence {found:.3g} of {needed:.3g}", numbers)


def compare(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Mean loss difference champion - challenger, the one-sided p-value of the challenger being worse, and lasting evidence of it.

    A t-test whose unit is the block (cluster-robust variance with the few-clusters correction and blocks - 1 degrees of freedom: Cameron and
    Miller 2015, "A Practitioner's Guide to Cluster-Robust Inference"), since rows of one day share their luck.
    """
    if not pairs:
        return {"outcomes": 0, "blocks": 0, "better_by": 0.0, "p_worse": 1.0, "evidence": 1.0}
    blocks = np.array([p.block for p in pairs])
    difference = np.array([p.champion_loss - p.challenger_loss for p in pairs])
    names, position = np.unique(blocks, return_inverse=True)
    observed = float(difference.mean())
    count = len(names)
    p_worse = 1.0
    if count >= 2:
        residual = np.bincount(position, weights=difference - observed)
        error = float(np.sqrt(count / (count - 1) * np.sum(residual**2)) / len(difference))
        p_worse = _below(observed / error, count - 1) if error > 0 else float(observed >= 0)
    means = np.bincount(position, weights=difference) / np.bincount(position)
    evidence = min(above_zero(list(-means)), 1e300)
    return {"outcomes": len(pairs), "blocks": count, "better_by": observed, "p_worse": p_worse, "evidence": evidence}


def _below(t: float, freedom: int) -> float:
    """P(T <= t) of Student's t, by numerical integration: SciPy would be a heavy guest here."""
    # With t = sqrt(freedom) * tan(u) the density is cos(u) ** (freedom - 1), up to a factor.
    u = np.linspace(-np.pi / 2, np.arctan(t / np.sqrt(freedom)), 4_001)
    whole = np.linspace(-np.pi / 2, np.pi / 2, 4_001)
    return float(np.trapezoid(np.cos(u) ** (freedom - 1), u) / np.trapezoid(np.cos(whole) ** (freedom - 1), whole))
