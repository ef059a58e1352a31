"""The guard: throws a version out when what it does as a service is worse than its declared limits, and says on how many calls it knows that.

Looked at twice a second, so it uses tests that may be looked at all the time (`serving.sequential`). What began well may break later: each hour is
judged anew, with a part of the tolerated false alarms that shrinks as 1 / ((k + 1) (k + 2)) in hour k and adds up to the whole. So the probability
that a version as good as its limits is ever thrown out stays below `false_alarms`, over its whole life and all limits together.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from treadle.core.declare.rollout import Rollback
from treadle.serving.sequential import more_often
from treadle.serving.service import Counts, Service

HOUR = timedelta(hours=1)
FEWEST = 3  # calls that failed, or were slow, before anything is said: one may be anything


@dataclass(frozen=True)
class Verdict:
    """A version is to go: which limit it broke, in a sentence, and the numbers."""

    version: int
    limit: str
    sentence: str
    evidence: dict[str, Any]


class Guard:
    """Watches one version at a time.

    Args:
        rollback: the limits.
        processes: how many processes watch the same version, each on its own calls; they share the tolerated false alarms.
    """

    def __init__(self, rollback: Rollback, processes: int = 1) -> None:
        self.rollback = rollback
        self._alpha = rollback.alpha / max(1, processes)
        self._watched: tuple[int, datetime, int] | None = None
        self._service: Service | None = None
        self._before = Counts()

    def look(self, version: int, service: Service, since: datetime, now: datetime) -> Verdict | None:
        """Judge what the version did in this hour.

        Args:
            since: when its stage began.
        """
        hour = max(0, int((now - since) / HOUR))
        watched = (version, since, hour)
        if watched != self._watched or service is not self._service:
            self._watched, self._service, self._before = watched, service, service.counts
            service.judged_by(self.rollback.slow[0] if self.rollback.slow else None, self.rollback.slower)
        return judge(self.rollback, self._alpha, version, service.counts.since(self._before), hour)


def judge(rollback: Rollback, alpha: float, version: int, counts: Counts, hour: int = 0) -> Verdict | None:
    """The first limit that is broken for sure, or None. Pure.

    Args:
        alpha: tolerated probability of a false alarm of each limit, over the version's whole life.
        hour: which hour of its stage the counts are of, from 0.
    """
    needed = (hour + 1) * (hour + 2) / alpha
    tests = [("errors", counts.failed, counts.calls, rollback.errors, "calls failed")]
    if rollback.slow is not None:
        tests.append(("slow", counts.slow, counts.calls, rollback.slow[1], f"calls took more than {rollback.slow[0] * 1000:g} ms"))
    if rollback.slower is not None:
        tests.append(("slower", counts.slower, counts.pairs, 0.5, f"calls took more than {rollback.slower:g} times the other version's time"))
    for name, times, of, limit, what in tests:
        if times < FEWEST or times <= limit * of:
            continue
        evidence = more_often(times, of, limit)
        if evidence >= needed:
            sentence = f"{times:,} of {of:,} {what}; {100 * limit:g} % are allowed"
            said = {"limit": name, "times": times, "of": of, "allowed": limit, "evidence": evidence, "needed": needed, "hour": hour}
            return Verdict(version, name, sentence, said)
    return None
