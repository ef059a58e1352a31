"""Moments as integers: microseconds since 1970 UTC take a quarter of the room of ISO text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from treadle.core.clock import iso, parse_time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(text: str) -> int:
    """ISO text to microseconds. Raises UsageError."""
    return (parse_time(text) - _EPOCH) // _MICROSECOND


def from_micros(number: int) -> str:
    """Microseconds to ISO text."""
    return iso(_EPOCH + timedelta(microseconds=number))
