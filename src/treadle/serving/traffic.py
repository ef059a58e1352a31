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

ALPHA = 0.05


@dataclass(frozen=True)
class Pair:
    """One request scored by both versions, its outcome known: the row losses, and the block (day) it lies in."""

    block: int
    champion_loss: float
    challenger_loss: float


@dataclass(frozen=True)
class Decision:
    """What to do now: 'wait', 'canary', 'promote' or 'reject', why, and on which numbers."""

    action: str
    reason: str
    evidence: dict[str, Any]


def decide(
    stage: str, since: datetime, now: datetime, least: timedelta, least_outcomes: int, pairs: Sequence[Pair], failures: int = 0, seed: int = 0
) -> Decision:
    """Decide about a challenger in 'shadow' or 'canary'.

    Args:
        least: how long the stage lasts at least.
        least_outcomes: how many matured outcomes it needs.
        pairs: of this stage only.
        failures: answers of the challenger that raised or were not finite.
    """
    evidence = compare(pairs, seed)
    if failures:
        return Decision("reject", f"it failed to answer {failures} times", evidence)
    worse = evidence["blocks"] >= 2 and evidence["better_by"] < 0 and evidence["p_worse"] <= ALPHA
    if len(pairs) >= least_outcomes and worse:
        return Decision("reject", f"worse than the champion by {-evidence['better_by']:.4f} on {len(pairs):,} outcomes (p = {evidence['p_worse']:.3f})", evidence)
    if now - since < least or len(pairs) < least_outcomes:
        return Decision("wait", f"{len(pairs):,} of {least_outcomes:,} outcomes, {(now - since) / timedelta(days=1):.1f} days", evidence)
    step = "canary" if stage == "shadow" else "promote"
    return Decision(step, f"not worse than the champion (better by {evidence['better_by']:+.4f}) on {len(pairs):,} outcomes", evidence)


def compare(pairs: Sequence[Pair], seed: int = 0, replicates: int = 500) -> dict[str, Any]:
    """Mean loss difference champion - challenger, and the one-sided p-value of the challenger being worse, by resampling blocks."""
    if not pairs:
        return {"outcomes": 0, "blocks": 0, "better_by": 0.0, "p_worse": 1.0}
    blocks = np.array([p.block for p in pairs])
    difference = np.array([p.champion_loss - p.challenger_loss for p in pairs])
    names, position = np.unique(blocks, return_inverse=True)
    sums = np.bincount(position, weights=difference)
    counts = np.bincount(position)
    observed = float(difference.mean())
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates)
    means = (draws @ sums) / np.maximum(1, draws @ counts)
    p_worse = float((1 + np.sum(means - observed <= observed)) / (1 + replicates))
    return {"outcomes": len(pairs), "blocks": len(names), "better_by": observed, "p_worse": p_worse}
