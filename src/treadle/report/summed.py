"""From sums by day to what a page says: months, totals, and how sure one can be.

Intervals resample whole days, since rows of one day share their luck (see `training.evaluate`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from treadle.core.clock import iso
from treadle.core.declare.model import Task
from treadle.core.records import Record
from treadle.report.sums import BINS, FROZEN, LOOP, Day, Sums, date_of

REPLICATES, LEAST_DAYS = 400, 5
WHO = {"loop": LOOP, "frozen": FROZEN}


def summed(sums: Sums, first: Record, problem: str, seed: int) -> dict[str, Any]:
    """All that is said of a log. `problem`: why the first version could not be asked, or empty."""
    task: Task = first["task"]
    days = dict(sorted(sums.days.items()))
    compared = [d for d in days.values() if d.compared]
    months: dict[str, list[Day]] = {}
    for number, day in days.items():
        months.setdefault(date_of(number)[:7], []).append(day)
    every = np.sum(list(sums.scored.values()), axis=0) if sums.scored else None
    loss = "mae" if task == "regression" else "log_loss"
    return {
        "frozen": int(first["number"]), "primary": "roc_auc" if task == "binary" else loss, "loss": loss, "problem": problem,
        "rows": sum(d.rows for d in days.values()), "matured": sum(d.matured for d in days.values()), "compared": sum(d.compared for d in compared),
        "served": {str(n): _moments(s) for n, s in sorted(sums.served.items())},
        "days": [_of_day(number, day) for number, day in days.items()],
        "months": [{"month": month, **_of_days(inside, task, sums.scored.get(month))} for month, inside in months.items()],
        "totals": {**_of_days(compared, task, every), **_difference(compared, task, every, seed), "days": len(compared)} if compared else None,
        "constant": _constant(list(sums.classes.values())),
        "example": {"id": sums.example.id, "version": sums.example.version, "moment": _iso(sums.example.moment)} if sums.example else None,
    }  # fmt: skip


def areas(negative: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """AUC from counts by bin, shape (..., bins), ties within a bin counting half; NaN with one class.

    >>> areas(np.array([2.0, 0.0]), np.array([1.0, 1.0])).item()
    0.75
    """
    below = np.cumsum(negative, axis=-1) - negative / 2
    pairs = negative.sum(axis=-1) * positive.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = np.where(pairs > 0, (positive * below).sum(axis=-1) / pairs, np.nan)
    return found


def _of_day(number: int, day: Day) -> dict[str, Any]:
    known = day.matured or None
    return {
        "day": date_of(number), "rows": day.rows, "matured": day.matured, "predicted": day.predicted / known if known else None,
        "observed": day.observed / known if known else None,
    }  # fmt: skip


def _of_days(days: Sequence[Day], task: Task, scored: np.ndarray | None) -> dict[str, Any]:
    """Rows, and the metrics of the loop and of the frozen version on those of them that both can be scored on."""
    compared = sum(d.compared for d in days)
    found: dict[str, Any] = {
        "rows": sum(d.rows for d in days), "compared": compared, "answering": sorted({n for d in days for n in d.answering}),
        "loop": {}, "frozen": {},
    }  # fmt: skip
    if not compared:
        return found
    loss = sum((d.loss for d in days), np.zeros(2)) / compared
    for name, who in WHO.items():
        if scored is not None:
            found[name]["roc_auc"] = _area(scored, who)
        found[name]["mae" if task == "regression" else "log_loss"] = float(loss[who])
    return found


def _difference(days: Sequence[Day], task: Task, every: np.ndarray | None, seed: int) -> dict[str, Any]:
    """By how much the loop is better, positive is better, with 95 % intervals over resampled days (None with too few days)."""
    rows = np.array([d.compared for d in days], dtype=np.float64)
    losses = np.stack([d.loss for d in days])
    name = "mae" if task == "regression" else "log_loss"
    draws = np.random.default_rng(seed).multinomial(len(days), np.full(len(days), 1 / len(days)), size=REPLICATES).astype(np.float64)
    totals = draws @ rows
    means = (draws @ losses) / totals[:, None]
    observed = losses.sum(axis=0) / rows.sum()
    better: dict[str, Any] = {name: _interval(float(observed[FROZEN] - observed[LOOP]), means[:, FROZEN] - means[:, LOOP], len(days))}
    if every is not None:
        resampled = []
        for who in (LOOP, FROZEN):
            scored = np.stack([d.scored[who] if d.scored is not None else np.zeros((2, BINS)) for d in days]).astype(np.float32)
            negative, positive = (draws.astype(np.float32) @ scored[:, c] for c in (0, 1))
            resampled.append(areas(negative.astype(np.float64), positive.astype(np.float64)))
        better["roc_auc"] = _interval(_area(every, LOOP) - _area(every, FROZEN), resampled[LOOP] - resampled[FROZEN], len(days))
    return {"better_by": better}


def _area(scored: np.ndarray, who: int) -> float:
    return float(areas(scored[who, 0].astype(np.float64), scored[who, 1].astype(np.float64)))


def _interval(value: float, replicates: np.ndarray, days: int) -> dict[str, Any]:
    usable = replicates[np.isfinite(replicates)]
    if days < LEAST_DAYS or len(usable) < REPLICATES // 2:
        return {"value": value, "low": None, "high": None}
    low, high = np.percentile(usable, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def _constant(classes: Sequence[int]) -> float | None:
    """The log loss of always answering with the true share of each class, which nobody knows beforehand: the entropy of the shares."""
    if not classes:
        return None
    shares = np.array([c for c in classes if c]) / sum(classes)
    return float(-(shares * np.log(shares)).sum())


def _moments(served: dict[str, Any]) -> dict[str, Any]:
    times = ("first", "first_canary", "first_champion", "last")
    return {**served, **{k: _iso(served[k]) if served.get(k) is not None else None for k in times}}


def _iso(micros: int) -> str:
    return iso(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))
