"""The policies a backtest compares: when a retraining starts, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from treadle.core.canonical import plain
from treadle.core.clock import span
from treadle.core.declare.operations import Rate, Retrain, Watch, on_evidence
from treadle.core.errors import ProjectError, UsageError

USUAL = ("never", "every:30d", "drift", "quality", "new:20%", "combined")
WITHOUT_END = Rate(1_000_000, timedelta(days=1))
_HINT = "Use never, every:30d, drift, quality, new:20%, new:5000, combined, or project for what the project declares; +recalibrated after any."


@dataclass(frozen=True)
class Policy:
    """A policy: its name, in words, and what it declares; None never retrains."""

    name: str
    says: str
    retrain: Retrain | None
    recalibrated: bool = False

    def said(self) -> list[object]:
        """As JSON values, for a digest."""
        return [self.name, plain(self.retrain) if self.retrain else None, *([True] if self.recalibrated else [])]


def policies(names: Sequence[str], watch: Watch, *, at_most: Rate | None = None) -> list[Policy]:
    """Policies from their names. What the project declares beside when to retrain (window, cooldown, envelope) holds for all of them.

    Args:
        at_most: the budget of every policy; without it those by evidence have the project's, or one training a month.
    Raises: UsageError for a name that is none, or comes twice.
    """
    chosen = list(names) or list(USUAL)
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"A policy is named twice: {', '.join(chosen)}.")
    own = replace(watch.retrain, ask="never") if watch.retrain else Retrain(Rate(1, timedelta(days=30)), ask="never")  # nobody can be asked
    budget = at_most or own.at_most
    return [_named(name, own, budget, watch) for name in chosen]


def _named(name: str, own: Retrain, budget: Rate, watch: Watch) -> Policy:
    plain_name, _, more = name.partition("+")
    if more not in ("", "recalibrated"):
        raise UsageError(f"{more!r} is nothing a policy can have beside it.", hint="For example every:30d+recalibrated.")
    found = _policy(plain_name, own, budget, watch)
    return found if not more else replace(found, name=name, says=f"{found.says}; answers recalibrated online", recalibrated=True)


def _policy(name: str, own: Retrain, budget: Rate, watch: Watch) -> Policy:
    kind, _, value = name.partition(":")
    blank = replace(own, at_most=budget, on=(), every=None, new_rows=None)
    if name == "never":
        return Policy(name, "the first version answers for ever", None)
    if name == "project":
        if watch.retrain is None:
            raise UsageError("The project declares no retraining.", where=watch.place, hint="Add retrain=tr.on_evidence(...) to its watch.")
        return Policy(name, "as the project declares", own)
    if kind == "every" and value:
        return Policy(name, f"by the calendar, every {value}", replace(blank, at_most=WITHOUT_END, every=span(value)))
    if name == "drift":
        return Policy(name, "when inputs or answers have moved", replace(blank, on=("input", "prediction")))
    if name == "quality":
        return Policy(name, "when quality or calibration has fallen", replace(blank, on=("quality", "calibration")))
    if kind == "new" and value:
        try:
            rows = on_evidence(new_rows=value).new_rows
        except ProjectError:
            raise UsageError(f"{value!r} is no number of new rows.", hint=_HINT) from None
        return Policy(name, f"when {value} new rows have their outcome", replace(blank, at_most=WITHOUT_END, new_rows=rows))
    if name == "combined":
        every = own.every or timedelta(days=60)
        says = f"when quality has fallen, and after {every / timedelta(days=1):g} days without a training"
        return Policy(name, says, replace(blank, on=("quality", "calibration"), every=every))
    raise UsageError(f"There is no policy {name!r}.", hint=_HINT)
