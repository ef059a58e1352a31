"""What time it is: the machine's clock, or a replay's.

Everything that decides by time (windows, schedules, rollouts) asks a Clock, so that a year can be replayed in a minute
through the code that runs in production.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Protocol

from treadle.core.errors import UsageError

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|[smhdw])")


class Clock(Protocol):
    def now(self) -> datetime:
        """The present moment, timezone-aware, in UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ReplayClock:
    """A clock that stands where it was last set. It refuses to go back."""

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        return self._now

    def set(self, moment: datetime) -> None:
        if moment < self._now:
            raise UsageError(f"A replay cannot go back from {self._now.isoformat()} to {moment.isoformat()}.")
        self._now = moment.astimezone(UTC)


def span(text: str | timedelta) -> timedelta:
    """A length of time from '15m', '3h', '7d', '2w' (ms, s, m, h, d, w; parts may be joined: '1d12h').

    >>> span("1d12h")
    datetime.timedelta(days=1, seconds=43200)
    """
    if isinstance(text, timedelta):
        return text
    parts = _SPAN.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text.replace(" ", ""):
        raise UsageError(f"{text!r} is not a length of time.", hint="Write for example '30m', '3h', '7d' or '1d12h'.")
    try:
        return timedelta(seconds=sum(float(n) * _UNITS[u] for n, u in parts))
    except OverflowError:
        raise UsageError(f"{text!r} is not a length of time: it is too long.", hint="Write for example '30m', '3h', '7d' or '1d12h'.") from None


def iso(moment: datetime) -> str:
    """A moment as text that sorts by time: UTC, microseconds, 'Z'."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str, what: str = "time") -> datetime:
    """A moment from ISO 8601 text; without an offset it is taken as UTC. Raises UsageError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a {what}.", hint="Write ISO 8601, for example 2013-04-01 or 2013-04-01T12:30:00Z.") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
