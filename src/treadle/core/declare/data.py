"""Declarations of data: what rows must be, what to do with those that are not, and what is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from treadle.core.declare.place import here, length
from treadle.core.declare.source import Source
from treadle.core.errors import ProjectError
from treadle.core.schema import Column


def number(*, ge: float | None = None, le: float | None = None, nullable: bool = False, unit: str = "", description: str = "") -> Column:
    """A column of real numbers within [ge, le]."""
    return Column("number", nullable=nullable, ge=ge, le=le, unit=unit, description=description)


def integer(
    *, ge: float | None = None, le: float | None = None, nullable: bool = False, unique: bool = False, unit: str = "", description: str = ""
) -> Column:
    """A column of whole numbers within [ge, le]."""
    return Column("integer", nullable=nullable, ge=ge, le=le, unique=unique, unit=unit, description=description)


def category(*, isin: tuple[Any, ...] | None = None, nullable: bool = False, description: str = "") -> Column:
    """A column of text with few different values; `isin` lists the only ones allowed."""
    return Column("category", nullable=nullable, isin=isin, description=description)


def text(*, nullable: bool = False, unique: bool = False, description: str = "") -> Column:
    """A column of free text."""
    return Column("text", nullable=nullable, unique=unique, description=description)


def boolean(*, nullable: bool = False, description: str = "") -> Column:
    """A column of true and false."""
    return Column("boolean", nullable=nullable, description=description)


def timestamp(*, nullable: bool = False, description: str = "") -> Column:
    """A column of moments. Without a time zone they are taken as UTC."""
    return Column("timestamp", nullable=nullable, description=description)


@dataclass(frozen=True)
class Contract:
    """What rows must obey. Rows that do not are set aside with the reason; more than `at_most` of them stops the run.

    Args:
        columns: name to Column. Columns of the data that are not named are kept and not checked.
        rules: sentence to a Polars expression that is true for a good row (null counts as true).
        at_most: the largest share of rows, 0 to 1, that may be quarantined.
    """

    columns: Mapping[str, Column]
    rules: Mapping[str, Any] = field(default_factory=dict)
    at_most: float = 0.05

    def __post_init__(self) -> None:
        for name, column in self.columns.items():
            if not isinstance(column, Column):
                raise ProjectError(f"Contract column {name!r} is {column!r}.", where=here(), hint="Use tr.number(), tr.category(), ...")
        if not 0 <= self.at_most <= 1:
            raise ProjectError(f"at_most={self.at_most} is not a share between 0 and 1.", where=here(), hint="Write for example 0.05.")


@dataclass(frozen=True)
class Dataset:
    """A named set of rows with a key and its times.

    Args:
        key: the column(s) that name a row once.
        event_time: when the row's event happens (for a prediction: the moment it is asked for).
        known_time: when the row's truth became known; what a view or a training may see is decided by it.
        exclude: sentence to expression: rows out of scope by a declared rule, counted but not faults.
        subject: the column that names the person a row is about, if it is about one; `treadle erase` and `treadle export` go by it.
        keep: how long a version that nothing uses is kept; for ever if not given.
    """

    name: str
    source: Source
    key: tuple[str, ...]
    event_time: str | None = None
    known_time: str | None = None
    contract: Contract | None = None
    exclude: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""
    description: str = ""
    place: str = field(default="", compare=False)
    subject: str = ""
    keep: timedelta | None = None


@dataclass(frozen=True)
class View:
    """Features of an entity over time, joined to rows as they were KNOWN at the row's moment.

    Three sorts: `features` a list of columns (the latest known value within `ttl`); `features` a mapping of name to aggregate with
    `window` and `every` (computed on a grid over rows whose known time lies in (g - window, g]; empty windows give null); or a `function`.
    """

    name: str
    source: Dataset
    entity: tuple[str, ...]
    features: tuple[str, ...] = ()
    aggregates: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[[Any], Any] | None = None
    window: timedelta | None = None
    every: timedelta | None = None
    ttl: timedelta | None = None
    owner: str = ""
    description: str = ""
    place: str = field(default="", compare=False)

    def feature_names(self) -> tuple[str, ...]:
        """The names of the features this view gives."""
        return tuple(self.aggregates) if self.aggregates else self.features


def names(value: str | Iterable[str]) -> tuple[str, ...]:
    """One name or several, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def optional_span(value: str | timedelta | None) -> timedelta | None:
    """A span, or None."""
    return None if value is None else length(value)
