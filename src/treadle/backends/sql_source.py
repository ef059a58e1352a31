"""Rows of a database, whichever it is: what is asked, from where on, and how the answers become columns.

A dialect (one file a database) says how to connect, quote and fetch; everything is asked within one read-only snapshot, so that the rows, the newest
watermark and the counts are of one moment. Rows come in batches of text, and each batch is made into columns of the database's types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

import polars as pl

from treadle.core.canonical import digest
from treadle.core.clock import iso, parse_time
from treadle.core.declare.source import Source
from treadle.core.errors import DataError
from treadle.core.schema import Kind
from treadle.ports.source import Rows, Unparsed

Tag = Literal["integer", "number", "decimal", "boolean", "date", "moment", "local", "text"]
"""What a column holds. A 'moment' is an instant; a 'local' moment has no zone; a 'decimal' is kept as text, to the last digit."""

FRESH = timedelta(seconds=2)  # a watermark this young may get more rows without growing
_KINDS: dict[Tag, Kind] = {
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "date": "timestamp",
    "moment": "timestamp",
    "local": "timestamp",
}
_MOMENT = r"^(\d{4,}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?))? ?(Z|[+-]\d{2}(?::?\d{2})?)?$"
_STYLE = re.compile(
    r"^\d{4}-\d{2}-\d{2}(?:(?P<mark>[T ])\d{2}:\d{2}(?P<seconds>:\d{2}(?:\.(?P<fraction>\d+))?)?)?(?P<zone> ?(?:Z|[+-]\d{2}(?::?\d{2})?))?$"
)


@dataclass(frozen=True)
class SqlColumn:
    """A column of what is read: its name, the database's word for its type, and what that is to us."""

    name: str
    type: str
    tag: Tag


class Session(Protocol):
    """One snapshot of a database. `relation` is a table, or a query in brackets with a name."""

    def shape(self, relation: str) -> list[SqlColumn]: ...

    def row(self, query: str) -> list[str | None]:
        """The first row of a query, as text."""
        ...

    def batches(self, relation: str, columns: Sequence[SqlColumn], where: str) -> Iterator[pl.DataFrame]:
        """Its rows: a column as text, or already in its type."""
        ...

    def columns_of(self, table: str) -> list[str]:
        """Names of tables there, to tell whoever misspelt one."""
        ...


class Dialect(Protocol):
    shown: str
    now: str  # an expression for the present moment, as text in UTC

    def session(self, timeout: float) -> AbstractContextManager[Session]: ...

    def quote(self, name: str) -> str: ...

    def text(self, value: str) -> str:
        """A text as a literal."""
        ...

    def as_text(self, expression: str) -> str: ...

    def state(self) -> str | None:
        """What changes whenever anything in the database does, if that is cheap to know."""
        ...


class SqlSource:
    """A table or query as a connector."""

    forgets = False

    def __init__(self, source: Source, dialect: Dialect) -> None:
        self._asked, self._dialect = source.options, dialect
        self._tz = str(source.options.get("tz", "UTC"))
        self._watermark = str(self._asked["watermark"])
        if self._asked["query"]:
            self._relation = f"(\n{self._asked['query']}\n) AS treadle_rows"  # lines of their own: a query may end in a comment
        else:
            self._relation = ".".join(dialect.quote(part) for part in self._asked["table"].split("."))

    @property
    def shown(self) -> str:
        return self._dialect.shown

    def fingerprint(self, since: Mapping[str, Any] | None = None) -> str | None:
        if not self._watermark and not self._asked["changed"]:
            return self._dialect.state()
        with self._dialect.session(self._asked["timeout"]) as session:
            if self._asked["changed"]:
                return digest(["changed", session.row(self._asked["changed"])])
            shape = self._shape(session)
            end = self._end(session, shape)
            young = end.young(timedelta(seconds=self._late))
            if since and (young or end.without or end.newest is None or self._whole_due(since)):
                return None  # rows may have changed that neither the newest watermark nor the counts tell
            said: list[Any] = [[[c.name, c.type] for c in shape], end.newest, end.count, end.without]
            if end.newest is not None:
                at = f"{self._dialect.quote(self._watermark)} = {self._literal(end, end.newest)}"
                said.append(session.row(f"SELECT COUNT(*) FROM {self._relation} WHERE {at}"))
            return digest([*said, young])  # once it has settled it is another one: the last rows of an overlap are read then

    def read(self, since: Mapping[str, Any] | None = None) -> Rows:
        with self._dialect.session(self._asked["timeout"]) as session:
            shape = self._shape(session)
            columns = [[c.name, c.type] for c in shape]
            go_on = since if since and since["columns"] == columns and since.get("watermark") is not None and not self._whole_due(since) else None
            position: dict[str, Any] = {"columns": columns}
            where = ""
            if self._watermark:
                end = self._end(session, shape)
                position |= {"watermark": end.reached(self._tz), "whole_at": go_on["whole_at"] if go_on else iso(end.now)}
                if go_on:
                    column, start = self._dialect.quote(self._watermark), self._start(go_on["watermark"], end.tag)
                    # Rows without a watermark would never be found again.
                    where = f" WHERE {column} >= {self._literal(end, start)} OR {column} IS NULL"
            frames: list[pl.DataFrame] = []
            unparsed: list[Unparsed] = []
            height = 0
            for batch in session.batches(self._relation, shape, where):
                frame, misread = typed(batch, shape, self._tz, height)
                frames.append(frame)
                unparsed += misread
                height += frame.height
            if not frames:
                frames = [typed(pl.DataFrame(schema={c.name: pl.String for c in shape}), shape, self._tz, 0)[0]]
        decimals = frozenset(c.name for c in shape if c.tag == "decimal")
        return Rows(pl.concat(frames), position, full=go_on is None, unparsed=unparsed, decimals=decimals)

    @property
    def _late(self) -> float:
        return float(self._asked["overlap"]) if self._asked["overlap_is_time"] else 0.0

    def _shape(self, session: Session) -> list[SqlColumn]:
        shape = session.shape(self._relation)
        names = [c.name for c in shape]
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise DataError(
                f"Two columns of the query are called {twice!r}.", where=self.shown, hint="Name one of them otherwise: ... AS other_name."
            )
        if self._watermark and self._watermark not in names:
            raise DataError(f"There is no column {self._watermark!r}, the watermark.", where=self.shown, hint=f"It has: {', '.join(names[:30])}.")
        return shape

    def _end(self, session: Session, shape: Sequence[SqlColumn]) -> _End:
        column = self._dialect.quote(self._watermark)
        tag = next(c.tag for c in shape if c.name == self._watermark)
        if tag == "boolean":
            raise DataError(
                f"Column {self._watermark!r} is true or false, and cannot grow.", where=self.shown, hint="Name a time or a number as watermark."
            )
        newest, count, known, now = session.row(
            f"SELECT {self._dialect.as_text(f'MAX({column})')}, COUNT(*), COUNT({column}), {self._dialect.now} FROM {self._relation}"
        )
        end = _End(tag, newest, int(count or 0), int(count or 0) - int(known or 0), _moment(str(now), "UTC") or datetime.now(UTC), self._tz)
        if self._asked["overlap"] and newest is not None and end.is_time != self._asked["overlap_is_time"]:
            wanted = "a span such as overlap='10m'" if end.is_time else "a number such as overlap=1000"
            raise DataError(
                f"The overlap does not fit the watermark {self._watermark!r}, which holds {newest!r}.", where=self.shown, hint=f"Write {wanted}."
            )
        return end

    def _start(self, reached: str, tag: Tag) -> str:
        back = self._asked["overlap"]
        if tag == "local" and self._tz != "UTC":
            back = max(back, 3600)  # clocks that are set back show an hour twice
        if not back:
            return reached
        if self._asked["overlap_is_time"] or tag == "local":
            found = _wall(reached)
            return reached if found is None else _like(reached, found - timedelta(seconds=back))
        try:
            return str(Decimal(reached) - int(back))
        except InvalidOperation:
            return reached

    def _literal(self, end: _End, value: str) -> str:
        if end.tag in ("integer", "number", "decimal") and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value):
            return value
        return self._dialect.text(value)

    def _whole_due(self, since: Mapping[str, Any] | None) -> bool:
        every = self._asked["whole_every"]
        return bool(every and since and since.get("whole_at") and datetime.now(UTC) - parse_time(since["whole_at"]) >= timedelta(seconds=every))


@dataclass(frozen=True)
class _End:
    """Where the rows end: the newest watermark as the database writes it, how many rows there are, and how many have none."""

    tag: Tag
    newest: str | None
    count: int
    without: int
    now: datetime
    tz: str

    @property
    def is_time(self) -> bool:
        return self.tag in ("moment", "local", "date") or (self.tag == "text" and self.newest is not None and _wall(self.newest) is not None)

    def reached(self, tz: str) -> str | None:
        """Where to go on from: a row from the future must not hide those that come until then."""
        if self.newest is None or not self.is_time:
            return self.newest
        found = _moment(self.newest, tz)
        if found is not None and found <= self.now:
            return self.newest
        zone = UTC if self.tag == "moment" or (_STYLE.match(self.newest) or {"zone": None})["zone"] else ZoneInfo(tz)
        return _like(self.newest, self.now.astimezone(zone).replace(tzinfo=None))

    def young(self, overlap: timedelta) -> bool:
        """Whether rows may still come that this end does not tell from those that are there."""
        if not self.is_time or self.newest is None:
            return False
        found = _moment(self.newest, self.tz)
        return found is None or self.now - found < max(overlap, FRESH)


def _wall(text: str) -> datetime | None:
    """The date and clock in a text, whatever its zone."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None) if _STYLE.match(text) else None
    except ValueError:
        return None


def _moment(text: str, tz: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None  # infinity, or a year beyond 9999
    return (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(tz))).astimezone(UTC)


def _like(text: str, moment: datetime) -> str:
    """A moment in the spelling of another, never later than it is, so that texts compare as moments do."""
    style = _STYLE.match(text)
    if style is None:
        return moment.isoformat(" ")
    if not style["mark"]:
        return moment.date().isoformat()
    clock = moment.strftime("%H:%M:%S") if style["seconds"] else moment.strftime("%H:%M")
    fraction = "." + f"{moment.microsecond:06d}".ljust(9, "0")[: len(style["fraction"])] if style["fraction"] else ""
    return f"{moment.date().isoformat()}{style['mark']}{clock}{fraction}{style['zone'] or ''}"


def typed(batch: pl.DataFrame, shape: Sequence[SqlColumn], tz: str, first_row: int) -> tuple[pl.DataFrame, list[Unparsed]]:
    """A batch in its types, and the cells that are none of their type's."""
    columns, unparsed = [], []
    for column in shape:
        before = batch[column.name]
        after = _typed(before, column.tag, tz)
        if after.null_count() > before.null_count():
            lost = (before.is_not_null() & after.is_null()).arg_true().to_list()
            unparsed += [Unparsed(first_row + row, column.name, str(before[row]), _KINDS.get(column.tag, "text")) for row in lost]
        columns.append(after)
    return pl.DataFrame(columns), unparsed


def _typed(values: pl.Series, tag: Tag, tz: str) -> pl.Series:
    if tag in ("text", "decimal"):
        return values.cast(pl.String)
    if tag == "integer":
        return values.cast(pl.Int64, strict=False)
    if tag == "number":
        return values.cast(pl.Float64, strict=False)
    if tag == "boolean":
        if values.dtype != pl.String:
            return values.cast(pl.Boolean)
        lower = values.str.to_lowercase()
        yes, no = lower.is_in(["t", "true", "1"]), lower.is_in(["f", "false", "0"])
        return pl.select(pl.when(yes).then(True).when(no).then(False).alias(values.name)).to_series()
    if tag == "date":
        return values.str.to_date("%Y-%m-%d", strict=False) if values.dtype == pl.String else values.cast(pl.Date)
    return _moments(values, tz if tag == "local" else "UTC")


def _moments(values: pl.Series, tz: str) -> pl.Series:
    if isinstance(values.dtype, pl.Datetime):
        if values.dtype.time_zone is not None:
            return values.dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
        return _in_zone(values.cast(pl.Datetime("us")), tz)
    parts = values.str.extract_groups(_MOMENT).struct.unnest()
    day, clock, zone = parts.columns
    # Most columns are of one zone and one precision; then the text reads as it stands.
    written = parts.select(pl.format("{} {}", pl.col(day), pl.col(clock).fill_null("00:00:00"))).to_series()
    short = written.str.len_chars() == 16
    written = pl.select(pl.when(short).then(written + ":00").otherwise(written)).to_series()
    local = written.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False).rename(values.name)
    zones = parts[zone]
    if zones.null_count() == len(zones):
        return _in_zone(local, tz)
    digits = zones.str.replace(":", "", literal=True)
    minutes = digits.str.slice(1, 2).cast(pl.Int64, strict=False).fill_null(0) * 60 + digits.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    sign = pl.select(pl.when(digits.str.starts_with("-")).then(-1).otherwise(1)).to_series()
    ahead = (minutes * sign * 60_000_000).cast(pl.Duration("us"))
    moved = (local - ahead).rename(values.name).dt.replace_time_zone("UTC")
    if zones.null_count() == 0:
        return moved
    return pl.select(pl.when(zones.is_null()).then(_in_zone(local, tz)).otherwise(moved).alias(values.name)).to_series()


def _in_zone(values: pl.Series, tz: str) -> pl.Series:
    if tz == "UTC":
        return values.dt.replace_time_zone("UTC")
    return values.dt.replace_time_zone(tz, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
