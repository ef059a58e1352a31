"""Declarations of data: what rows must be, what to do with those that are not, and what is computed from them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from treadle.core.clock import parse_time
from treadle.core.declare.datasheet import Datasheet
from treadle.core.declare.place import here, length
from treadle.core.declare.source import Source
from treadle.core.errors import ProjectError, UsageError
from treadle.core.schema import Column, Policy

PROMISES = ("at_most", "fresh", "volume", "like", "schema")
STOPS = ("at_most", "volume", "schema")  # what stops a run unless the contract says otherwise
EFFECTS = ("psi", "ks", "missing")
POLICIES = ("", "deprecated", "protected")


def number(
    *, ge: float | None = None, le: float | None = None, nullable: bool = False, unit: str = "", description: str = "", personal: str = "",
    policy: Policy = "",
) -> Column:  # fmt: skip
    """A column of real numbers within [ge, le].

    Args:
        personal: what sort of personal data it holds, such as 'location'; its values are masked wherever they would be shown.
        policy: 'deprecated' or 'protected': a model may use it only with a reason, `allow={column: reason}`.
    """
    return _column(Column("number", nullable, ge, le, unit=unit, description=description, personal=personal, policy=policy))


def integer(
    *, ge: float | None = None, le: float | None = None, nullable: bool = False, unique: bool = False, unit: str = "", description: str = "",
    personal: str = "", policy: Policy = "",
) -> Column:  # fmt: skip
    """A column of whole numbers within [ge, le]. `personal` and `policy` as for `number`."""
    return _column(Column("integer", nullable, ge, le, unique=unique, unit=unit, description=description, personal=personal, policy=policy))


def category(
    *, isin: tuple[Any, ...] | None = None, nullable: bool = False, description: str = "", personal: str = "", policy: Policy = "",
    pattern: str = "", length: tuple[int | None, int | None] | None = None,
) -> Column:  # fmt: skip
    """A column of text with few different values; `isin` lists the only ones allowed.

    Args:
        pattern: a regular expression that the whole text matches.
        length: (least, most) characters; None for no bound.
        personal, policy: as for `number`.
    """
    low, high = _length(length)
    return _column(
        Column(
            "category", nullable, isin=None if isin is None else tuple(isin), description=description, personal=personal, pattern=pattern,
            min_length=low, max_length=high, policy=policy,
        )
    )  # fmt: skip


def text(
    *, nullable: bool = False, unique: bool = False, description: str = "", personal: str = "", policy: Policy = "", pattern: str = "",
    length: tuple[int | None, int | None] | None = None,
) -> Column:  # fmt: skip
    """A column of free text. `pattern`, `length`, `personal` and `policy` as for `category`."""
    low, high = _length(length)
    return _column(
        Column(
            "text", nullable, unique=unique, description=description, personal=personal, pattern=pattern, min_length=low, max_length=high,
            policy=policy,
        )
    )  # fmt: skip


def boolean(*, nullable: bool = False, description: str = "", personal: str = "", policy: Policy = "") -> Column:
    """A column of true and false. `personal` and `policy` as for `number`."""
    return _column(Column("boolean", nullable, description=description, personal=personal, policy=policy))


def timestamp(
    *, nullable: bool = False, description: str = "", personal: str = "", policy: Policy = "", not_after: str = "",
    tolerance: str | timedelta = "0s",
) -> Column:  # fmt: skip
    """A column of moments. Without a time zone they are taken as UTC.

    Args:
        not_after: 'now', or an ISO time: a later moment is set aside. A row from the future is let in when its time has come.
        tolerance: how far the clocks that wrote the moments may be ahead.
        personal, policy: as for `number`.
    """
    if not_after and not_after != "now":
        _moment(not_after)
    return _column(
        Column("timestamp", nullable, description=description, personal=personal, not_after=not_after, tolerance=length(tolerance), policy=policy)
    )


def _column(column: Column) -> Column:
    """The column, if what it says can be."""
    if column.ge is not None and column.le is not None and column.ge > column.le:
        raise ProjectError(f"ge={column.ge:g} is above le={column.le:g}: no value fits.", where=here())
    if column.isin is not None and not column.isin:
        raise ProjectError("isin=() allows no value.", where=here(), hint="List the allowed values.")
    if column.min_length is not None and column.max_length is not None and column.min_length > column.max_length:
        raise ProjectError(f"length=({column.min_length}, {column.max_length}): no text is that long.", where=here(), hint="Write (least, most).")
    if column.policy not in POLICIES:
        raise ProjectError(f"There is no policy {column.policy!r}.", where=here(), hint="Use 'deprecated' or 'protected'.")
    if column.pattern:
        try:
            re.compile(column.pattern)
        except re.error as error:
            raise ProjectError(f"The pattern {column.pattern!r} is no regular expression: {error}.", where=here()) from None
    return column


def _length(bounds: tuple[int | None, int | None] | None) -> tuple[int | None, int | None]:
    if bounds is None:
        return None, None
    if not isinstance(bounds, tuple | list) or len(bounds) != 2 or not all(b is None or (isinstance(b, int) and b >= 0) for b in bounds):
        raise ProjectError(f"length={bounds!r} is not (least, most).", where=here(), hint="Write for example length=(2, 40) or (None, 40).")
    return bounds[0], bounds[1]


def _moment(text: str) -> None:
    try:
        parse_time(text)
    except UsageError as error:
        raise ProjectError(error.what, where=here(), hint="Write 'now' or an ISO time such as 2026-01-01.") from None


@dataclass(frozen=True)
class Like:
    """Columns that must stay like those of an earlier version. Made by `like`."""

    version: str
    limits: Mapping[str, Mapping[str, float]]


def like(version: str = "previous", limits: Mapping[str, Mapping[str, float]] | None = None, /, **columns: Mapping[str, float]) -> Like:
    """Hold each version of a data set against an earlier one, column by column, by limits on effect sizes.

    Args:
        version: 'previous' (the newest version that was taken), a number, or the id of a version.
        limits, columns: column to {'psi': limit, 'ks': limit, 'missing': limit}.
            psi: population stability index over the reference's deciles (for text: its values down to a share of 1 %), missing being one more bin.
            ks: the largest distance between the two distribution functions, for numbers and moments.
            missing: how much the share of missing values may change, 0 to 1.

        >>> import treadle as tr
        >>> tr.like("previous", amount={"psi": 0.2}, city={"missing": 0.05}).version
        'previous'
    """
    wanted = {**(limits or {}), **columns}
    if not wanted:
        raise ProjectError("like() names no column.", where=here(), hint="For example tr.like('previous', amount={'psi': 0.2}).")
    for name, sizes in wanted.items():
        for size, limit in dict(sizes).items():
            if size not in EFFECTS:
                raise ProjectError(f"There is no effect size {size!r} for {name!r}.", where=here(), hint="Use 'psi', 'ks' or 'missing'.")
            if not isinstance(limit, int | float) or limit <= 0:
                raise ProjectError(f"The limit {size}={limit!r} of {name!r} is not a number above 0.", where=here())
    return Like(str(version), {name: {size: float(limit) for size, limit in sizes.items()} for name, sizes in wanted.items()})


@dataclass(frozen=True)
class Contract:
    """What rows must obey. Rows that do not are set aside with the reason; what is promised of all rows together stops the run, or warns.

    Args:
        columns: name to Column. Columns of the data that are not named are kept and not checked.
        rules: sentence to a Polars expression, or SQL text such as 'paid <= amount', that is true for a good row (null counts as true).
        at_most: the largest share of rows, 0 to 1, that may be quarantined.
        unique: groups of columns whose values together name a row once, beyond the data set's key.
        fresh: how old the newest row may be ('1d'), by its known time, or else event time, against the clock.
        volume: (least, most) rows of a version; None for no bound.
        volume_change: how much the number of rows may change ('50%' or 0.5) against the median of the last five versions.
        like: columns that must stay like those of an earlier version; see `like`.
        stop_on: which broken promises stop the run: of 'at_most', 'fresh', 'volume', 'like', 'schema' (a breaking change of columns).
            The others warn: an alarm goes to the data set's owner, and the run goes on.
    """

    columns: Mapping[str, Column]
    rules: Mapping[str, Any] = field(default_factory=dict)
    at_most: float = 0.05
    unique: Iterable[str | tuple[str, ...]] = ()
    fresh: str | timedelta | None = None
    volume: tuple[int | None, int | None] | None = None
    volume_change: str | float | None = None
    like: Like | None = None
    stop_on: Iterable[str] = STOPS

    def __post_init__(self) -> None:
        for name, column in self.columns.items():
            if not isinstance(column, Column):
                raise ProjectError(f"Contract column {name!r} is {column!r}.", where=here(), hint="Use tr.number(), tr.category(), ...")
        if not 0 <= self.at_most <= 1:
            raise ProjectError(f"at_most={self.at_most} is not a share between 0 and 1.", where=here(), hint="Write for example 0.05.")
        groups = tuple(names(group) for group in ((self.unique,) if isinstance(self.unique, str) else self.unique))
        object.__setattr__(self, "unique", groups)
        if self.fresh is not None:
            object.__setattr__(self, "fresh", length(self.fresh))
            if not self.fresh:
                raise ProjectError("fresh='0s' can never be kept.", where=here(), hint="Write for example fresh='1d'.")
        if self.volume is not None:
            object.__setattr__(self, "volume", _volume(self.volume))
        if self.volume_change is not None:
            object.__setattr__(self, "volume_change", _change(self.volume_change))
        if self.like is not None and not isinstance(self.like, Like):
            raise ProjectError(f"like={self.like!r}.", where=here(), hint="Use tr.like('previous', amount={'psi': 0.2}).")
        object.__setattr__(self, "stop_on", names(self.stop_on))
        unknown = next((p for p in self.stop_on if p not in PROMISES), None)
        if unknown is not None:
            raise ProjectError(f"stop_on names {unknown!r}, which is no promise.", where=here(), hint=f"Use {', '.join(map(repr, PROMISES))}.")


def _volume(bounds: Any) -> tuple[int | None, int | None]:
    fits = isinstance(bounds, tuple | list) and len(bounds) == 2 and all(b is None or (isinstance(b, int) and b >= 0) for b in bounds)
    if not fits or (bounds[0] is not None and bounds[1] is not None and bounds[0] > bounds[1]):
        raise ProjectError(f"volume={bounds!r} is not (least, most) rows.", where=here(), hint="For example volume=(900, 5_000) or (900, None).")
    return bounds[0], bounds[1]


def _change(value: str | float) -> float:
    try:
        number = float(value[:-1]) / 100 if isinstance(value, str) and value.endswith("%") else float(value)
    except ValueError:
        number = -1.0
    if not 0 < number < math.inf:
        raise ProjectError(f"volume_change={value!r} is not a share above 0.", where=here(), hint="Write for example '50%' or 0.5.")
    return number


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
        datasheet: what only people know of it, for `treadle datasheet`.
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
    datasheet: Datasheet = field(default=Datasheet(), compare=False)


@dataclass(frozen=True)
class View:
    """Features of an entity over time, joined to rows as they were KNOWN at the row's moment.

    Three sorts: `features` a list of columns (the latest known value within `ttl`); `features` a mapping of name to aggregate with
    `window` and `every` (computed on a grid over rows whose known time lies in (g - window, g]; empty windows give null); or a `function`.
    `windows` names the aggregates that have a window of their own; `descriptions` says what single features are.
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
    windows: Mapping[str, timedelta] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    fresh: timedelta | None = None  # how old its newest online value may be before its owner is told; else its ttl, or two steps of the grid

    def feature_names(self) -> tuple[str, ...]:
        """The names of the features this view gives."""
        return tuple(self.aggregates) if self.aggregates else self.features


def names(value: str | Iterable[str]) -> tuple[str, ...]:
    """One name or several, as a tuple."""
    return (value,) if isinstance(value, str) else tuple(value)


def optional_span(value: str | timedelta | None) -> timedelta | None:
    """A span, or None."""
    return None if value is None else length(value)
