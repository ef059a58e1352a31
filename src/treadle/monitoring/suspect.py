"""What kind of change an alarm is probably about, with the evidence for it: to know whom to ask first.

| suspected | evidence |
|---|---|
| pipeline bug | a data-quality measure, a change of unit, a jump against the fortnight before, or served features that the data do not give |
| seasonality | far from training, but like the same weekday of the last four weeks, and no outcome is worse |
| population shift | inputs or answers moved, and the outcomes are as the model expects them |
| concept change | outcomes are worse than the model expects, and no input moved or is broken |
| shift with harm | both: the rows changed, and the model does not carry over to them |

The terms are those of Moreno-Torres et al. (2012), "A Unifying View on Dataset Shift in Classification": a covariate shift changes P(x), a concept
shift P(y | x). It is a suspicion from what was measured, not a diagnosis.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PIPELINE, SEASON, POPULATION, CONCEPT, HARM = "pipeline bug", "seasonality", "population shift", "concept change", "shift with harm"
UNKNOWN = "unknown"
_BROKEN = ("data_quality", "skew", "volume", "service", "staleness")
_MOVED = ("input", "prediction", "outliers", "attribution")
_WORSE = ("quality", "calibration", "fairness")
LIKE = 0.1  # PSI below which a block is like the same weekday of the last weeks


@dataclass(frozen=True)
class Suspicion:
    """`kind` in words, and the sentences that speak for it."""

    kind: str
    evidence: tuple[str, ...]


def suspect(kind: str, metric: str, others: Iterable[str], seasonal: float | None = None, features: Sequence[str] = ()) -> Suspicion:
    """The suspected kind of one finding.

    Args:
        kind, metric: of the finding.
        others: kinds that are open for the same version at the time, this one included or not.
        seasonal: PSI of the worst feature against the same weekday of the last weeks, where it was measured.
        features: the features named by the finding, worst first.
    """
    together = {kind, *others}
    named = ", ".join(map(repr, features[:3]))
    if metric == "jump":
        return Suspicion(PIPELINE, (f"{named} changed from one block to the next by more than neighbouring blocks ever did",))
    if kind in _BROKEN:
        return Suspicion(PIPELINE, (f"{metric.replace('_', ' ')}{f' of {named}' if named else ''} is beyond its limit, for whole blocks at once",))
    broken = sorted(together & set(_BROKEN))
    if broken:
        return Suspicion(PIPELINE, (f"at the same time there is an alarm about {' and '.join(b.replace('_', ' ') for b in broken)}",))
    moved, worse = bool(together & set(_MOVED)), sorted(together & set(_WORSE))
    if kind in _MOVED and not worse:
        if seasonal is not None and seasonal < LIKE:
            near = f"against the same weekday of the last four weeks the index is {seasonal:.2f}"
            return Suspicion(SEASON, (near, "no outcome is worse than expected"))
        evidence = [f"{named or 'the answers'} moved", "outcomes so far are as the model expects them"]
        if seasonal is not None:
            evidence.append(f"against the same weekday of the last four weeks the index is {seasonal:.2f}: it is new")
        return Suspicion(POPULATION, tuple(evidence))
    if worse and moved:
        return Suspicion(HARM, ("inputs or answers moved", f"{' and '.join(worse)} is worse than the model expects"))
    if worse:
        return Suspicion(CONCEPT, (f"{' and '.join(worse)} is worse than the model expects", "no input moved and none is broken"))
    return Suspicion(UNKNOWN, ())
