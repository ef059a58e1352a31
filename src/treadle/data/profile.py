"""A profile: what each column of a file is for (key, event time, target or input), so that a first project can be written from it.

Nothing is guessed silently: a column that is not offered as an input carries the reason, and doubts are listed as warnings.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Literal

import polars as pl

from treadle.core.declare.model import Task
from treadle.core.errors import DataError
from treadle.data.columns import MOST_CLASSES, ColumnProfile, look, read
from treadle.data.privacy import suspicions

__all__ = ["ColumnProfile", "Profile", "TargetProfile", "TimeProfile", "profile"]

ROW_NUMBER = "row_number"
LEAST_ROWS = 20
_KEY_WORDS = {"id", "ids", "key", "uuid", "guid", "pk", "rowid", "index", "idx", "nr", "no", "num", "number", "code", "ref", "reference"}
_ID_WORDS = {"id", "ids", "uuid", "guid", "key", "pk"}
_EVENT_WORDS = (
    {"event", "occurred", "happened", "timestamp", "scheduled", "requested", "ordered", "observed", "measured", "recorded"},
    {"time", "datetime", "ts", "created", "started", "start", "opened", "placed", "booked", "departure", "pickup", "begin"},
    {"date", "at", "day", "when", "on", "moment"},
)
_BIRTH_WORDS = {"birth", "birthday", "birthdate", "born", "dob", "geburtsdatum", "geburtstag"}
# Moments that come after the event are no moment to ask for a prediction at.
_LATER_WORDS = {"end", "ended", "updated", "modified", "closed", "resolved", "landed", "arrival", "arrived", "expiry", "expires", "due", "deleted",
                "delivered", "delivery", "paid", "returned", "finished", "completed", "dropoff", "cancelled"}  # fmt: skip


@dataclass(frozen=True)
class TimeProfile:
    """The column that says when a row's event happens. `clock`: it tells the time of day; `test`: its last fifth; `block`: of watching.

    `fresh` is how old the newest row may be, twice the longest pause there was; '' for a file that is older than that already.
    """

    name: str
    first: datetime
    last: datetime
    clock: bool
    test: str
    block: str
    fresh: str = ""


@dataclass(frozen=True)
class TargetProfile:
    """The column to predict. `classes` is the number of different values of a class target, 0 for a number."""

    name: str
    task: Task
    classes: int = 0


@dataclass(frozen=True)
class Profile:
    """What a file holds. `key` is None where no column names a row once; `null_values` are spellings beyond those `tr.csv` knows."""

    rows: int
    columns: tuple[ColumnProfile, ...]
    format: Literal["csv", "parquet", "jsonl"]
    separator: str = ","
    null_values: tuple[str, ...] = ()
    decimal_comma: bool = False
    key: str | None = None
    event_time: TimeProfile | None = None
    target: TargetProfile | None = None
    warnings: tuple[str, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns a model may be asked with."""
        return tuple(c.name for c in self.columns if not c.left_out)

    def column(self, name: str) -> ColumnProfile:
        """One column by its name."""
        return next(c for c in self.columns if c.name == name)


def profile(path: Path, target: str | None = None, *, now: datetime | None = None) -> Profile:
    """Look at every value of a CSV or Parquet file, or of one with a JSON object a line.

    Args:
        target: the column to predict, if one is to be predicted.
        now: the clock, for how fresh the data are.
    Raises: DataError, one sentence, when the file cannot be read, has too few rows, or its target cannot be learnt.
    """
    frame, writing = read(path)
    where, warnings = path.name, list(writing.warnings)
    if frame.height == 0:
        what = "The file has no rows." if writing.format == "jsonl" else "The file has a header but no rows."
        raise DataError(what, where=where, hint="Check that it was written completely.")
    if target is not None and target not in frame.columns:
        raise _no_such_target(target, frame.columns, where)
    if frame.height < LEAST_ROWS:
        raise DataError(
            f"The file has {frame.height} rows; fewer than {LEAST_ROWS} say nothing about its columns.", where=where, hint="Give more rows."
        )
    typed: dict[str, pl.Series] = {}
    columns = []
    for name in frame.columns:
        column, typed[name] = look(frame[name], writing.decimal_comma, is_target=name == target, warnings=warnings)
        columns.append(column)
    aim = _target(next(c for c in columns if c.name == target), typed[target], where, warnings) if target is not None else None
    key = _key(columns, target, frame)
    if key is None and ROW_NUMBER in frame.columns:
        raise DataError(
            f"Column {ROW_NUMBER!r} does not number the rows: a number is missing or stands twice.", where=where, hint="Rename the column."
        )
    time = _event_time(columns, typed, target, warnings)
    if time is not None:
        time = replace(time, fresh=_fresh(typed[time.name], now or datetime.now(UTC)))
    columns, warnings = _personal(columns, typed, target, warnings)
    reasons = {c.name: _no_input(c, typed[c.name], key, time, aim) for c in columns}
    if aim is not None:
        reasons |= _leaks({c: s for c, s in typed.items() if not reasons[c]}, typed[aim.name], aim, warnings)
        if all(reasons.values()):
            why = "; ".join(f"{name!r}: {reason}" for name, reason in islice(reasons.items(), 6))
            raise DataError("No column is left to predict from.", where=where, hint=f"Left out are {why}.")
    return Profile(
        frame.height, tuple(replace(c, left_out=reasons[c.name]) for c in columns), writing.format, separator=writing.separator,
        null_values=writing.null_values, decimal_comma=writing.decimal_comma, key=key, event_time=time, target=aim, warnings=tuple(warnings),
    )  # fmt: skip


def _personal(
    columns: list[ColumnProfile], typed: dict[str, pl.Series], target: str | None, warnings: list[str]
) -> tuple[list[ColumnProfile], list[str]]:
    """The columns with those marked that seem to hold personal data, of which no value is told, and what to look at."""
    known = {c.name: typed[c.name] for c in columns if c.kind is not None and c.name.strip() and c.name != target}
    found = {s.column: s for s in suspicions(pl.DataFrame(known))}
    marked = [replace(c, personal=found[c.name].kind, values=()) if c.name in found else c for c in columns]
    kept = [w for w in warnings if not any(w.startswith(f"Column {name!r} ") for name in found)]
    told = [f"Column {s.column!r} looks like personal data ({s.kind}): {s.why}. It is declared so, and left out." for s in found.values()]
    return marked, [*kept, *told]


def _fresh(values: pl.Series, now: datetime) -> str:
    moments = values.drop_nulls().unique().sort()
    pause, newest = moments.diff().max(), moments.max()
    assert isinstance(pause, timedelta)
    assert isinstance(newest, datetime)
    spans = (("1h", 1), ("6h", 6), ("1d", 24), ("2d", 48), ("7d", 168), ("14d", 336), ("30d", 720), ("90d", 2160))
    fit = [text for text, hours in spans if timedelta(hours=hours) >= 2 * pause]
    return fit[0] if fit and timedelta(0) <= now - newest <= timedelta(hours=dict(spans)[fit[0]]) else ""


def _no_such_target(target: str, names: list[str], where: str) -> DataError:
    plain = {n.strip().casefold(): n for n in names}
    same = plain.get(target.strip().casefold())
    close = [same] if same else [plain[m] for m in difflib.get_close_matches(target.strip().casefold(), list(plain), 3, 0.6)]
    if close:
        hint = f"Did you mean {' or '.join(repr(c) for c in close)}?"
    else:
        hint = f"It has: {', '.join(repr(n) for n in names[:30])}{', ...' if len(names) > 30 else ''}."
    return DataError(f"There is no column {target!r} to predict.", where=where, hint=hint)


def _target(column: ColumnProfile, values: pl.Series, where: str, warnings: list[str]) -> TargetProfile:
    name, rows = column.name, len(values)

    def unfit(what: str, hint: str) -> DataError:
        return DataError(f"The target {name!r} {what}", where=where, hint=hint)

    if column.kind is None:
        raise unfit("holds neither numbers, text, truth values nor times.", "Choose another column.")
    if column.missing * 2 > rows:
        raise unfit(f"is missing in {column.missing} of {rows} rows.", "Give rows whose outcome is known; at least half of them.")
    if column.distinct < 2:
        raise unfit(f"is always {values.drop_nulls()[0]!r}: there is nothing to predict.", "Give rows that also show the other outcome.")
    if column.kind == "timestamp":
        raise unfit("holds times, which are not predicted.", "Make it a number, such as the hours until then.")
    if column.kind == "text" and column.distinct == rows - column.missing:
        raise unfit("is different in every row.", "Choose a column whose values repeat, or a number.")
    if column.kind == "boolean" or column.distinct == 2:
        task: Task = "binary"
    elif column.kind in ("category", "text"):
        if column.distinct > MOST_CLASSES:
            raise unfit(f"has {column.distinct} different texts; at most {MOST_CLASSES} classes are predicted.", "Group them, or choose a number.")
        task = "multiclass"
    else:
        codes = column.kind == "integer" and column.distinct <= MOST_CLASSES and (column.low or 0) >= 0 and (column.high or 0) <= 100
        task = "multiclass" if codes and rows >= 5 * column.distinct else "regression"
    if task == "regression":
        return TargetProfile(name, task)
    counts = values.drop_nulls().alias("value").value_counts().filter(pl.col("count") < 5).sort("count", "value")
    if counts.height:
        rare = ", ".join(f"{value!r} ({count})" for value, count in counts.rows())
        warnings.append(f"The target {name!r} has values in fewer than 5 rows, too few to learn from: {rare}.")
    return TargetProfile(name, task, column.distinct)


def is_identifier(name: str) -> bool:
    """Whether a column is called like something that names its row, or another: 'ticket_id', 'uuid'."""
    return bool(set(_word_list(name)[-1:]) & _ID_WORDS)


def _words(name: str) -> set[str]:
    return set(_word_list(name))


def _word_list(name: str) -> list[str]:
    """The words of a column name, lower case: 'customerID' and 'Customer Id' both give customer, id."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return [w for w in re.split(r"[\W_]+", split.casefold()) if w]


def _key(columns: list[ColumnProfile], target: str | None, frame: pl.DataFrame) -> str | None:
    fit = [c for c in columns if c.unique and c.name != target and c.kind in ("integer", "category", "text")]
    named = [c for c in fit if set(_word_list(c.name)[-1:]) & _KEY_WORDS]
    named.sort(key=lambda c: not set(_word_list(c.name)) & _ID_WORDS)  # 'order_id' before 'house_no'
    if named:
        return named[0].name
    first = columns[0]
    # Tables of things start with the name of the thing: a tail number, a product code.
    if first in fit and first.kind != "integer" and not frame[first.name].cast(pl.String).str.contains(r"\s|.{41}").any():
        return first.name
    return None


def _event_time(columns: list[ColumnProfile], typed: dict[str, pl.Series], target: str | None, warnings: list[str]) -> TimeProfile | None:
    times = [c for c in columns if c.kind == "timestamp" and c.name != target and not _words(c.name) & _BIRTH_WORDS and c.distinct > 1]
    ranked = [(rank, c) for rank, words in enumerate(_EVENT_WORDS) for c in times if _words(c.name) & words and not _words(c.name) & _LATER_WORDS]
    candidates = [c for _, c in ranked] or (times if len(times) == 1 else [])
    for column in candidates:
        if column.missing:
            warnings.append(
                f"Column {column.name!r} looks like the time of the event, but is missing in {column.missing} rows: it is not used as that."
            )
            continue
        values = typed[column.name]
        first, last = values.min(), values.max()
        assert isinstance(first, datetime)
        assert isinstance(last, datetime)
        if last - first < timedelta(minutes=10):
            continue
        clock = bool((values.dt.time() != datetime.min.time()).any())
        return TimeProfile(column.name, first, last, clock, _test_span(values, first, last), _block(len(values), last - first))
    return None


def _test_span(values: pl.Series, first: datetime, last: datetime) -> str:
    """The last fifth of the time, or, where that holds far less or more than a fifth of the rows, the last fifth of the rows."""
    fifth = (last - first) / 5
    share = int((values > last - fifth).sum()) / len(values)
    if not 0.1 <= share <= 0.4:
        eighty = values.sort()[int(0.8 * (len(values) - 1))]
        fifth = last - eighty if timedelta(minutes=1) <= last - eighty <= (last - first) / 2 else fifth
    for unit, length in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("m", timedelta(minutes=1))):
        if fifth >= 2 * length or unit == "m":
            break
    return f"{max(1, round(fifth / length))}{unit}"


def _block(rows: int, length: timedelta) -> str:
    """The shortest block of watching that holds some twenty rows on average."""
    for text, block in (("1h", 1 / 24), ("1d", 1), ("7d", 7)):
        if rows * block * 86400 / length.total_seconds() >= (200 if text == "1h" else 20):
            return text
    return "30d"


def _no_input(column: ColumnProfile, values: pl.Series, key: str | None, time: TimeProfile | None, target: TargetProfile | None) -> str:
    """Why a column cannot be an input, looking at it alone; empty if it can."""
    name, rows = column.name, len(values)
    ends_like_id = is_identifier(name)
    if target is not None and name == target.name:
        return "it is the target"
    if not name.strip():
        return "it has no name"
    if column.kind is None:
        return "it holds neither numbers, text, truth values nor times"
    if column.missing == rows:
        return "every value is missing"
    if name == key:
        return "it is the key"
    if time is not None and name == time.name:
        return "it is the event time"
    if column.personal:
        return f"it seems to hold personal data ({column.personal})"
    if column.constant:
        return "every row has the same value"
    if column.kind == "timestamp":
        return "it is a time"
    if column.kind == "text":
        return "every value is different" if column.distinct == rows - column.missing else "it is free text"
    if ends_like_id and (column.kind == "integer" or column.distinct > 50):
        return "it looks like an identifier"
    if column.unique and column.kind == "integer" and (column.high or 0) - (column.low or 0) == rows - 1:
        return "it numbers the rows"
    return ""


def _leaks(inputs: dict[str, pl.Series], truth: pl.Series, target: TargetProfile, warnings: list[str]) -> dict[str, str]:
    """Columns that say the same as the target: they are known when it is known, which is too late."""
    reasons = {}
    for name, values in inputs.items():
        pairs = pl.DataFrame({"x": values, "y": truth}).filter(pl.col("y").is_not_null())
        x, y, both = pairs["x"].n_unique(), pairs["y"].n_unique(), pairs.n_unique()
        if x == y == both and both * 2 <= pairs.height:
            reasons[name] = "it tells the target one to one: is it known before?"
        elif target.task == "regression":
            if _same_order(pairs.drop_nulls()):
                reasons[name] = "it rises or falls exactly with the target: is it known before?"
        elif y == 2 and 0 < pairs["x"].null_count() < pairs.height and pairs.select(pl.col("x").is_null(), "y").n_unique() == 2:
            reasons[name] = "it is missing exactly where the target has one value: is it known before?"
        elif x == both and x * 10 <= pairs.height:
            warnings.append(f"Column {name!r} alone tells the target of every row: make sure that it is known before.")
    return reasons


def _same_order(pairs: pl.DataFrame) -> bool:
    if pairs.height < LEAST_ROWS or not all(t.is_numeric() for t in pairs.dtypes) or pairs["x"].n_unique() != pairs["y"].n_unique():
        return False
    ranks = pairs.select(pl.all().rank("dense").cast(pl.Int64))
    return any(ranks.select((pl.col("x") == pl.col("y")).all(), ((pl.col("x") + pl.col("y")) == pl.col("x").max() + 1).alias("reverse").all()).row(0))
