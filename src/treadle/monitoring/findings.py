"""A finding: one thing that is not as it was, with where it shows, how large it is, and what it is probably about."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

FindingKind = Literal[
    "quality", "calibration", "input", "prediction", "data_quality", "skew", "volume", "fairness", "attribution", "outliers", "service", "staleness",
    "rollback", "fallback",
]
Severity = Literal["low", "medium", "high"]
Row = tuple[str, float, float]  # name, value, limit


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was.

    Args:
        window_start, window_end: in microseconds, where it shows.
        features: what it is about with its values, worst first.
        severity: from the size of the effect, not from how sure it is; '' where the kind alone says it.
        slices: 'column = value' and its share of what was found, largest first.
        suspected, evidence: what kind of change it probably is, and why.
    """

    kind: FindingKind
    metric: str
    value: float
    threshold: float
    window_start: int
    window_end: int
    features: tuple[tuple[str, float], ...]
    sentence: str
    severity: str = ""
    slices: tuple[tuple[str, float], ...] = ()
    suspected: str = ""
    evidence: tuple[str, ...] = ()


def found(
    kind: FindingKind, metric: str, value: float, threshold: float, start: int, end: int, sentence: str, rows: Iterable[Row] = (), severity: str = ""
) -> Finding:
    """A finding whose sentence begins with a capital."""
    features = tuple((name, v) for name, v, _ in rows)
    return Finding(kind, metric, value, threshold, start, end, features, sentence[0].upper() + sentence[1:], severity)


def by_share(share: float) -> Severity:
    """Severity of something that holds for this share of the rows."""
    return "high" if share >= 0.5 else "medium" if share >= 0.15 else "low"


def by_psi(value: float) -> Severity:
    """Severity of a population that moved: 0.25 is another one, 1 is one that shares little with the old."""
    return "high" if value >= 1.0 else "medium" if value >= 0.5 else "low"


def by_loss(loss: float, usual: float) -> Severity:
    """Severity of a loss against what is usual, as a part of it."""
    worse = (loss - usual) / usual if usual > 0 else 0.0
    return "high" if worse >= 0.2 else "medium" if worse >= 0.08 else "low"


def listed(rows: Iterable[Row]) -> str:
    """The names of rows as a phrase: 'a', 'b' and 2 more."""
    every = list(rows)
    names = [repr(name) for name, _, _ in every[:3]]
    parts = names + ([f"{len(every) - 3} more"] if len(every) > 3 else [])
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
