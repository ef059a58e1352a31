"""What the winner is worth when one does not flatter it for having been chosen: the search's own figure, corrected for the number of settings tried.

The best of many settings was, among other things, lucky on the rows it was chosen on. Here the choice itself is repeated on resampled validation
rows and judged on those left out: the bootstrap bias-corrected cross-validation of Tsamardinos, Greasidou and Borboudakis (2018), "Bootstrapping the
out-of-sample predictions for efficient and accurate cross-validation", Machine Learning 107. No model is fitted again. Whole blocks are resampled
where rows share their luck. It needs the row losses of every setting that was tried to the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

REPLICATES = 400
MOST_ROWS = 20_000

Losses = Sequence[tuple[np.ndarray, np.ndarray]]


def adjusted(
    losses: Mapping[int, Losses], trivial: Sequence[np.ndarray], blocks: np.ndarray, tried: int, seed: int = 0, loss: str = "log loss"
) -> dict[str, Any] | None:
    """The winner's loss as the search saw it, and as it is to be expected; None when there is nothing to correct.

    Args:
        losses: trial to, for each fold, the positions of its validation rows and their losses.
        trivial: for each fold the losses of the trivial baseline, fitted on its training rows, on the same validation rows.
        blocks: of the search rows.
        tried: how many settings were tried in all, those given up early too. `loss`: what the losses are called.
    Returns: {'tried', 'judged', 'rows', 'seen', 'expected', 'low', 'high', 'optimism', 'baseline', 'better_by', 'better_low', 'p', 'loss'}: mean row
        losses. `p` is how often, in the resampled choices, the chosen setting is no better than the baseline on the rows left out.
    """
    if not losses or any(len(folds) == 0 for folds in losses.values()):
        return None
    first = next(iter(losses.values()))
    rows = np.concatenate([positions for positions, _ in first])
    table = np.column_stack([np.concatenate([loss for _, loss in folds]) for folds in losses.values()]).astype(np.float64)
    simple = np.concatenate(list(trivial))
    block = np.unique(blocks[rows], return_inverse=True)[1]
    count = int(block.max()) + 1
    if count < 10:
        return None
    sums = np.zeros((count, table.shape[1] + 1))
    np.add.at(sums, block, np.column_stack([table, simple]))
    sizes = np.bincount(block, minlength=count).astype(np.float64)
    rng = np.random.default_rng(seed + 11)
    seen = float((sums[:, :-1].sum(axis=0) / sizes.sum()).min())
    outside, gains = [], []
    for _ in range(REPLICATES):
        weight = rng.multinomial(count, np.full(count, 1 / count))
        left = weight == 0
        if not left.any():
            continue
        chosen = int(np.argmin((weight @ sums[:, :-1]) / (weight @ sizes)))
        total = sizes[left].sum()
        outside.append(sums[left, chosen].sum() / total)
        gains.append((sums[left, -1].sum() - sums[left, chosen].sum()) / total)
    low, high = np.percentile(outside, [2.5, 97.5])
    return {
        "tried": tried, "judged": table.shape[1], "rows": len(rows), "seen": seen, "expected": float(np.mean(outside)), "low": float(low),
        "high": float(high), "optimism": float(np.mean(outside)) - seen, "baseline": float(simple.mean()), "better_by": float(np.mean(gains)),
        "better_low": float(np.percentile(gains, 5)), "p": float(np.mean(np.array(gains) <= 0)),
        "loss": loss,
    }  # fmt: skip

