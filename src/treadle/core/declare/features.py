"""Features computed from the request itself. One rule, two executions (columns in training, one value in serving), tested to be equal."""

from __future__ import annotations

from dataclasses import dataclass

from treadle.core.schema import Kind


@dataclass(frozen=True)
class Derived:
    """A feature computed from request columns. `rule` is (name of the rule, its arguments as text)."""

    name: str
    rule: tuple[str, ...]
    kind: Kind = "number"

    @property
    def columns(self) -> tuple[str, ...]:
        """The request columns it needs."""
        return (self.rule[1], self.rule[2]) if self.rule[0] in ("difference", "ratio") else (self.rule[1],)


def hour(column: str, *, tz: str = "UTC") -> Derived:
    """Hour of the day, 0 to 23, of a timestamp in time zone `tz`."""
    return Derived(f"{column}_hour", ("hour", column, tz))


def minute_of_day(column: str, *, tz: str = "UTC") -> Derived:
    """Minutes since midnight, 0 to 1439, of a timestamp in time zone `tz`."""
    return Derived(f"{column}_minute", ("minute_of_day", column, tz))


def weekday(column: str, *, tz: str = "UTC") -> Derived:
    """Day of the week, Monday = 1 to Sunday = 7, of a timestamp in time zone `tz`."""
    return Derived(f"{column}_weekday", ("weekday", column, tz))


def month(column: str, *, tz: str = "UTC") -> Derived:
    """Month, 1 to 12, of a timestamp in time zone `tz`."""
    return Derived(f"{column}_month", ("month", column, tz))


def difference(name: str, left: str, right: str) -> Derived:
    """`left - right` of two number columns."""
    return Derived(name, ("difference", left, right))


def ratio(name: str, left: str, right: str) -> Derived:
    """`left / right` of two number columns; missing where `right` is zero."""
    return Derived(name, ("ratio", left, right))


def length(column: str) -> Derived:
    """Number of characters of a text column."""
    return Derived(f"{column}_length", ("length", column))
