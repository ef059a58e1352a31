"""What a search tried and why its winner won, as a table and in plain sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from treadle.core.declare.model import Candidate
from treadle.training.losses import as_shown
from treadle.training.search import Found
from treadle.training.trials import Trial


def leaderboard(trials: Sequence[Trial], most: int = 50) -> list[dict[str, Any]]:
    """The settings, best first: those judged in all folds, then those that were given up, then those that failed."""
    order = {"done": 0, "small": 1, "pruned": 2, "failed": 3}

    def key(trial: Trial) -> tuple[Any, ...]:
        loss = trial.loss if trial.loss is not None else float(np.mean(trial.fold_losses)) if trial.fold_losses else np.inf
        return order.get(trial.status, 4), -(trial.rows or 1 << 60), loss

    return [
        {
            "place": i, "trial": t.number, "family": t.family, "params": Candidate("", t.params).said()[1], "status": t.status, "loss": t.loss,
            "folds": len(t.fold_losses), "rows": t.rows, "seconds": round(t.seconds, 3), "error": t.error,
        }
        for i, t in enumerate(sorted(trials, key=key)[:most], 1)
    ]  # fmt: skip


def expected(trials: Sequence[Trial], best: Trial) -> float | None:
    """The winner's loss with the luck of having been chosen taken off; None where it was judged in one fold only.

    Source: Tibshirani and Tibshirani (2009), "A Bias Correction for the Minimum Error Rate in Cross-Validation": how much better, in each fold, the
    best of that fold was than the winner.
    """
    table = np.array([t.fold_losses for t in trials if t.status == "done" and len(t.fold_losses) == len(best.fold_losses)])
    if best.loss is None or len(best.fold_losses) < 2 or not len(table):
        return None
    return float(best.loss + np.mean(np.asarray(best.fold_losses) - table.min(axis=0)))


def explanation(
    found: Found, loss: str, *, metric: str = "", budget: float = 0.0, taken: int = 0, nested: Sequence[float] = ()
) -> list[str]:  # fmt: skip
    """What was tried and why the winner won, in sentences. `loss`: the name of the mean loss of a row; `metric`: what the search went by."""
    what = metric or loss

    def shown(value: float) -> str:
        return f"{as_shown(metric, value):.5f}"

    best, trials = found.best, found.trials
    assert best is not None
    by_status = {s: sum(t.status == s for t in trials) for s in ("done", "small", "pruned", "failed")}
    families = list(dict.fromkeys(t.family for t in trials))
    counts = ", ".join(f"{f} {sum(t.family == f for t in trials)}" for f in families)
    seconds = sum(t.seconds for t in trials)
    told = [f"{len(trials)} settings of {len(families)} {'family' if len(families) == 1 else 'families'} were tried in {seconds:.1f} s: {counts}."]
    if budget:
        told.append(f"The budget was {budget:g} s; {'it ended the search' if found.spent else 'the search ended before it'}.")
    if taken:
        told.append(f"{taken} of them were on record from a run that was stopped, and were taken over.")
    parts = [
        f"{by_status['done']} were judged in all {len(best.fold_losses)} folds" if by_status["done"] else "",
        f"{by_status['small']} were looked at on fewer rows only" if by_status["small"] else "",
        f"{by_status['pruned']} were given up when they were behind the best beyond chance" if by_status["pruned"] else "",
        f"{by_status['failed']} failed" if by_status["failed"] else "",
    ]
    told.append("; ".join(p for p in parts if p) + ".")
    setting = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in best.params.items())
    on = f" (on {best.rows:,} rows: no setting could be judged on all)" if best.rows else ""
    told.append(f"The winner is {best.family} with {setting or 'its usual setting'}: {what} {shown(best.loss or 0.0)}{on}.")
    simple = float(np.mean(found.baseline_losses)) if found.baseline_losses else None
    if simple and best.loss is not None:
        verdict = "better" if best.loss < simple else "NO better"
        told.append(f"The trivial baseline has {shown(simple)} in the same folds: the winner is {verdict}.")
    told += _runner_up(found, best, shown)
    worth = expected(trials, best)
    if worth is not None and best.loss is not None:
        told.append(f"With the luck of having been chosen taken off, {shown(worth)} is to be expected of it on new rows.")
    if nested:
        said = shown(float(np.mean(nested)))
        told.append(f"The whole search, repeated in {len(nested)} outer folds, found models with {said} on rows it had not seen.")
    failures = sorted({f"{t.family}: {t.error}" for t in trials if t.status == "failed"})
    told += [f"Failed: {reason}" for reason in failures[:5]]
    return told


def _runner_up(found: Found, best: Trial, shown: Callable[[float], str]) -> list[str]:
    """The best setting of another family, and whether the difference is beyond chance."""
    others = [t for t in found.trials if t.family != best.family and t.loss is not None and t.status == "done"]
    if not others or best.loss is None:
        behind = [t for t in found.trials if t.family != best.family and t.fold_losses]
        names = ", ".join(dict.fromkeys(t.family for t in behind))
        return [f"No setting of another family ({names}) came through all folds."] if behind else []
    second = min(others, key=lambda t: t.loss if t.loss is not None else np.inf)
    mine, its = found.losses.get(best.number), found.losses.get(second.number)
    assert second.loss is not None
    line = f"The best of another family is {second.family} with {shown(second.loss)}"
    if mine is None or its is None:
        return [line + "."]
    gap = np.concatenate([b - a for (_, a), (_, b) in zip(mine, its)]).astype(np.float64)
    error = float(gap.std(ddof=1) / np.sqrt(len(gap))) if len(gap) > 1 else 0.0
    beyond = error > 0 and abs(gap.mean()) > 1.96 * error
    return [line + ("; row by row the difference is beyond chance." if beyond else "; row by row the difference may be chance.")]
