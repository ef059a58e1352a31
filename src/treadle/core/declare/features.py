"""Features computed from the request itself. One rule, two executions (columns in training, one value in serving), tested to be equal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from treadle.core.declare.place import here
from treadle.core.declare.place import length as span_length
from treadle.core.errors import ProjectError
from treadle.core.formula import read
from treadle.core.schema import Kind


@dataclass(frozen=True)
class Derived:
    """A feature computed from request columns. `rule` is (name of the rule, its arguments as text)."""

    name: str
    rule: tuple[str, ...]
    kind: Kind = "number"

    @property
    def columns(self) -> tuple[str, ...]:
        """The request columns it needs; those of a formula may also be features of the model's views."""
        if self.rule[0] == "formula":
            return tuple(read(self.rule[1], name=self.name).names)
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


def formula(name: str, text: str) -> Derived:
    """A feature computed by a formula, for example `tr.formula("speed", "distance / (air_time / 60) if air_time > 0 else missing")`.

    The names in it are columns of the request or features of the model's views. Missing in, missing out. See docs/how-to/features.md.
    """
    place = here()
    if not isinstance(name, str) or not name:
        raise ProjectError(f"{name!r} is not a name for a formula.", where=place, hint='Write tr.formula("speed", "distance / air_time").')
    return Derived(name, ("formula", text), "category" if read(text, name=name, place=place).kind == "text" else "number")


@dataclass(frozen=True)
class Within:
    """An aggregate with a window of its own."""

    window: timedelta
    aggregate: Any


def within(window: str | timedelta, aggregate: Any) -> Within:
    """An aggregate of a view over a window of its own, so that one view may have several: `tr.within("7d", pl.col("late").mean())`."""
    given = span_length(window)
    if not given:
        raise ProjectError(f"window={window!r} is no time.", where=here(), hint="For example '7d'.")
    return Within(given, aggregate)
