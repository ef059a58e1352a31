"""What policies were worth, side by side: quality by month and in all with intervals, trainings, CPU, money, alarms, faults found and missed.

All are compared on the same rows with the policy that never retrains, or else the first one; intervals resample days, whose rows share their luck.

Money, where the user says what an error costs: of a binary task each row is decided at the threshold that makes costs least if the probabilities are
right, false alarm / (false alarm + miss) (Elkan 2001, "The Foundations of Cost-Sensitive Learning"); of numbers the absolute error is charged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from treadle.backtest.history import History, moment_of
from treadle.backtest.live import DAY, Lived
from treadle.backtest.policies import Policy
from treadle.core.clock import iso, parse_time
from treadle.training.evaluate import better
from treadle.training.losses import loss_name, metrics, row_loss

REPLICATES = 400
BINS = 1_000
LEAST = 50  # rows of a month from which on its metrics say something


@dataclass(frozen=True)
class Prices:
    """What things cost, in one currency. `miss` and `false_alarm` are of a row; of a number `miss` is the price of a unit of absolute error."""

    cpu_hour: float = 0.0
    training: float = 0.0
    miss: float = 0.0
    false_alarm: float = 0.0
    currency: str = ""

    @property
    def errors(self) -> bool:
        """Whether it is said what an error costs."""
        return bool(self.miss or self.false_alarm)


def compared(model: str, history: History, policies: Sequence[Policy], lives: Sequence[Lived], prices: Prices) -> dict[str, Any]:
    """All of it, as JSON values."""
    task, rows = history.target.judged_as, history.between(history.begin, history.end)
    truth, moments = history.truth[rows], history.moments[rows]
    there = np.isfinite(truth) if history.target.task == "regression" else truth >= 0
    truth, moments = truth[there], moments[there]
    truth = truth if history.target.task == "regression" else truth.astype(np.int64)
    heard = [np.asarray(lived.heard[there], dtype=np.float64) for lived in lives]
    names, day = np.unique(moments // DAY, return_inverse=True)
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=REPLICATES).astype(np.float64)
    against = next((i for i, p in enumerate(policies) if p.retrain is None), 0)
    named, month = metrics(task), (moments.astype("datetime64[us]")).astype("datetime64[M]")
    primary = next(iter(named))
    losses = [row_loss(task, truth, h) for h in heard]
    drawn: dict[str, list[np.ndarray]] = {"loss": [_mean_drawn(loss, day, draws) for loss in losses]}
    if primary == "roc_auc":
        drawn[primary] = [_area_drawn(truth, h[:, 1], day, draws) for h in heard]
    elif primary in ("log_loss", "mae"):
        drawn[primary] = drawn["loss"]
    worth = [_worth(history, truth, h, prices) for h in heard]
    found = []
    for i, (policy, lived) in enumerate(zip(policies, lives)):
        later = lived.trainings[1:]
        cpu = sum(t["cpu"] for t in later)
        spent = cpu / 3600 * prices.cpu_hour + len(later) * prices.training
        entry: dict[str, Any] = {
            "policy": policy.name, "says": policy.says,
            "metrics": {name: _one(metric(truth, heard[i], np.ones((1, len(truth))))) for name, metric in named.items()},
            "better_by": {name: _gain(name, values[i], values[against]) for name, values in drawn.items()} if i != against else {},
            "loss": float(losses[i].mean()), "retrained": len(later), "took_over": sum(t["status"] == "took over" for t in later),
            "refused": sum(t["status"] == "thrown out" for t in later), "cpu": round(cpu, 2), "spent": round(spent, 2),
            "alarmed": len(lived.alarms), "by_kind": _counted(a["kind"] for a in lived.alarms),
            "months": [
                {"month": str(m), "rows": int((month == m).sum()), primary: _of_month(named[primary], truth, heard[i], month == m),
                 "loss": float(losses[i][month == m].mean())}
                for m in np.unique(month)
            ],
            "faults": [_found(f, lived) for f in history.faults], **lived.body(),
        }  # fmt: skip
        if worth[i] is not None and worth[against] is not None:
            entry["errors_cost"] = round(worth[i] or 0.0, 2)
            entry["earned"] = round((worth[against] or 0.0) - (worth[i] or 0.0) - spent, 2)
        found.append(entry)
    return {
        "model": model, "task": task, "primary": primary, "loss_name": loss_name(task), "from": iso(moment_of(history.begin)),
        "to": iso(moment_of(history.end)), "rows": int(there.sum()), "days": len(names), "against": policies[against].name,
        "higher_is_better": better(primary, 1.0, 0.0), "prices": asdict(prices), "faults": [f.sentence() for f in history.faults], "policies": found,
        "best": _best(found, primary),
    }  # fmt: skip


def _mean_drawn(values: np.ndarray, day: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The mean of row values in each replicate of days, (replicates,), from sums by day."""
    return np.asarray(draws @ np.bincount(day, values) / (draws @ np.bincount(day)))


def _area_drawn(truth: np.ndarray, score: np.ndarray, day: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The area under the ROC curve in each replicate of days, (replicates,), from counts by day in a thousand bins of the score: rows of a bin count
    as ties, which changes an area by less than 0.0001."""
    edges = np.unique(np.quantile(score, np.linspace(0, 1, BINS + 1)[1:-1]))
    at = np.searchsorted(edges, score, side="right")
    width, days = len(edges) + 1, draws.shape[1]
    counts = [draws @ np.bincount(day[m] * width + at[m], minlength=days * width).reshape(days, width) for m in (truth == 1, truth == 0)]
    p, n = counts
    below = np.cumsum(n, axis=1) - n / 2
    total = p.sum(axis=1) * n.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(total > 0, (p * below).sum(axis=1) / total, np.nan))


def _best(found: Sequence[dict[str, Any]], primary: str) -> str:
    """The policy that earned most, or else had the best metric."""
    if found and "earned" in found[0]:
        return str(max(found, key=lambda e: e["earned"])["policy"])
    known = [e for e in found if e["metrics"][primary] is not None]
    sign = 1 if better(primary, 1.0, 0.0) else -1
    return str(max(known, key=lambda e: sign * e["metrics"][primary])["policy"]) if known else ""


def _gain(name: str, ours: np.ndarray, theirs: np.ndarray) -> dict[str, float | None]:
    """How much better: positive is better, whatever the metric."""
    gain = (ours - theirs) if name != "loss" and better(name, 1.0, 0.0) else (theirs - ours)
    gain = gain[np.isfinite(gain)]
    if len(gain) < 20:
        return {"low": None, "high": None, "value": None}
    low, high = np.percentile(gain, [2.5, 97.5])
    return {"value": float(gain.mean()), "low": float(low), "high": float(high)}


def _of_month(metric: Any, truth: np.ndarray, heard: np.ndarray, mask: np.ndarray) -> float | None:
    return _one(metric(truth[mask], heard[mask], np.ones((1, int(mask.sum()))))) if mask.sum() >= LEAST else None


def _one(values: np.ndarray) -> float | None:
    return float(values[0]) if np.isfinite(values[0]) else None


def _worth(history: History, truth: np.ndarray, heard: np.ndarray, prices: Prices) -> float | None:
    """What the errors of all rows cost; None where it is not said, or not for this task."""
    if not prices.errors:
        return None
    if history.target.task == "regression":
        return float(np.abs(truth - heard[:, 0]).sum() * prices.miss)
    if history.target.task != "binary":
        return float((heard.argmax(axis=1) != truth).sum() * prices.miss)
    acted = heard[:, 1] >= prices.false_alarm / (prices.false_alarm + prices.miss)
    return float(((truth == 1) & ~acted).sum() * prices.miss + ((truth == 0) & acted).sum() * prices.false_alarm)


def _found(fault: Any, lived: Lived) -> dict[str, Any]:
    """The first alarm that came while the fault was there or within a week after, and that began no earlier; for a feature one that names it, else
    one about what harm it does."""
    end = fault.start + fault.length + timedelta(days=7)
    for alarm in lived.alarms:
        raised = parse_time(alarm["raised"])
        if fault.start < raised <= end and (alarm["kind"] in ("quality", "calibration", "prediction") or fault.feature in alarm["features"]):
            days = (raised - fault.start) / timedelta(days=1)
            return {"fault": fault.sentence(), "alarm": alarm["id"], "kind": alarm["kind"], "after_days": round(days, 2)}
    return {"fault": fault.sentence(), "alarm": "", "kind": "", "after_days": None}


def _counted(kinds: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for kind in kinds:
        found[kind] = found.get(kind, 0) + 1
    return found
