"""The false alarms that a watch tolerates, beside those its thresholds gave on replays of days without drift when they were set."""

from __future__ import annotations

from datetime import timedelta

from treadle.core.declare.operations import Watch
from treadle.monitoring.thresholds import Thresholds

QUARTER = timedelta(days=91)


def rates(watch: Watch, thresholds: Thresholds, version: int) -> str:
    """A sentence. The rate of a kind is of the thresholds that were simulated: those of single columns are set from replays taken together."""
    tolerated = watch.false_alarms.within(watch.every) * (QUARTER / watch.every)
    said = f"{tolerated:.2g} false alarms a quarter are tolerated"
    had = {kind: rate * (QUARTER / watch.every) for kind, rate in thresholds.achieved.items()}
    if not had:
        return f"{said}; what the thresholds of version {version} give is not known: there were too few days without drift to try them on"
    each = ", ".join(f"{kind} {rate:.2f}" for kind, rate in had.items())
    return f"{said}; on replays of days without drift the thresholds of version {version} gave {sum(had.values()):.2f} ({each})"
