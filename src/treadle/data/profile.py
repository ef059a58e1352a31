"""A profile: what a file of rows holds, found by looking at every value, so that a first project can be written from it.

Nothing is guessed silently: a column that is not offered as an input carries the reason, and doubts are listed as warnings.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Literal

import polars as pl

from treadle.core.declare import data as declare
from treadle.core.declare.model import Task
from treadle.core.errors import DataError
from treadle.core.schema import Kind
from treadle.data import parsing

ROW_NUMBER = "row_number"
LEAST_ROWS = 20
MOST_CLASSES = 30
INPUT_KINDS = ("number", "integer", "category", "boolean")
NULLS: tuple[str, ...] = declare.csv("").options["null_values"]
# Spellings that never mean a value, and spellings that may ("none" as a kind of garage): those count as missing only
# where a column is made of numbers or times but for them.
ALWAYS_NULL = ("nan", "n/a", "#N/A", "#NA", "<NA>", "NaT", "?")
MAYBE_NULL = ("None", "none", "NONE", "Null", "nil", "na", "-", "--", ".", "..", "unknown", "Unknown", "missing", "#VALUE!", "#DIV/0!")
_SEPARATORS = ("\t", ";", "|", ",")  # when two split a file equally well, the one that is rarer in prose is meant
_TRUTH = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"})
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
class ColumnProfile:
    """What one column holds.

    Args:
        kind: None for what a contract has no word for (lists, a column without a name).
        missing, distinct: how many rows have no value; how many different values there are.
        low, high: observed range of numbers.
        values: the different values of a category or class, sorted, when they are few.
        unique: no value is missing or stands twice.
        left_out: why it is no input of the model; empty for an input.
    """

    name: str
    kind: Kind | None
    missing: int = 0
    distinct: int = 0
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    unique: bool = False
    constant: bool = False
    left_out: str = ""

    @property
    def nullable(self) -> bool:
        """Whether a value may be missing."""
        return self.missing > 0


@dataclass(frozen=True)
class TimeProfile:
    """The column that says when a row's event happens. `clock`: it tells the time of day; `test`: its last fifth; `block`: of watching."""

    name: str
    first: datetime
    last: datetime
    clock: bool
    test: str
    block: str


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
    format: Literal["csv", "parquet"]
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


def profile(path: Path, target: str | None = None) -> Profile:
    """Look at every value of a CSV or Parquet file.

    Args:
        target: the column to predict, if one is to be predicted.
    Raises: DataError, one sentence, when the file cannot be read, has too few rows, or its target cannot be learnt.
    """
    frame, found = _read(path)
    where, warnings = path.name, list(found.warnings)
    if frame.height == 0:
        raise DataError("The file has a header but no rows.", where=where, hint="Check that it was written completely.")
    if target is not None and target not in frame.columns:
        raise _no_such_target(target, frame.columns, where)
    if frame.height < LEAST_ROWS:
        raise DataError(
            f"The file has {frame.height} rows; fewer than {LEAST_ROWS} say nothing about its columns.", where=where, hint="Give more rows."
        )
    typed: dict[str, pl.Series] = {}
    columns = []
    for name in frame.columns:
        column, typed[name] = _look(frame[name], found.decimal_comma, is_target=name == target, warnings=warnings)
        columns.append(column)
    aim = _target(next(c for c in columns if c.name == target), typed[target], where, warnings) if target is not None else None
    key = _key(columns, target, frame)
    if key is None and ROW_NUMBER in frame.columns:
        raise DataError(
            f"Column {ROW_NUMBER!r} does not number the rows: a number is missing or stands twice.", where=where, hint="Rename the column."
        )
    time = _event_time(columns, typed, target, warnings)
    reasons = {c.name: _no_input(c, typed[c.name], key, time, aim) for c in columns}
    if aim is not None:
        reasons |= _leaks({c: s for c, s in typed.items() if not reasons[c]}, typed[aim.name], aim, warnings)
        if all(reasons.values()):
            why = "; ".join(f"{name!r}: {reason}" for name, reason in islice(reasons.items(), 6))
            raise DataError("No column is left to predict from.", where=where, hint=f"Left out are {why}.")
    return replace(
        found, columns=tuple(replace(c, left_out=reasons[c.name]) for c in columns), key=key, event_time=time, target=aim, warnings=tuple(warnings)
    )


def sniff(text: str) -> str:
    """The separator of a CSV text: the one that splits its first lines most evenly into at least two fields; ',' when none does."""
    sample = text[:65536]
    best, found = (0.0, 0), ","
    for separator in _SEPARATORS:
        rows = [record for _, record in islice(parsing.records(sample, separator), 200)]
        if len(text) > len(sample) and len(rows) > 2:
            rows.pop()  # cut off in the middle
        width = len(rows[0]) if rows else 0
        score = (sum(len(r) == width for r in rows) / max(len(rows), 1), width)
        if width > 1 and score > best:
            best, found = score, separator
    return found


def _read(path: Path) -> tuple[pl.DataFrame, Profile]:
    if not path.exists():
        raise DataError(f"There is no file {str(path)!r}.", hint="Check the name and the folder you are in.")
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder.", hint="Name one CSV or Parquet file in it.")
    try:
        with path.open("rb") as handle:
            parquet = handle.read(4) == b"PAR1"
    except PermissionError:
        raise DataError(f"{str(path)!r} may not be read.", hint="Check its permissions.") from None
    if parquet:
        try:
            frame = pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"The Parquet file does not read: {str(error).splitlines()[0]}", where=path.name, hint="Write it again.") from None
        return frame, Profile(frame.height, (), "parquet")
    text = parsing.read_text(path)
    separator = sniff(text)
    frame = parsing.missing_as_null(parsing.split_fields(text, separator, path.name), NULLS)
    uniques = {c: frame[c].drop_nulls().str.strip_chars().unique() for c in frame.columns}
    plain = [_plain_part(u) for u in uniques.values()]
    warnings: list[str] = []
    comma = _decimal_comma([u for u in plain if len(u) and u.str.contains("^[-+0-9.,]+$").all()], separator, warnings)
    missing = sorted(set().union(*(_spelled_missing(u, comma) for u in uniques.values())))
    header = pl.Series(frame.columns)
    if parsing.plain_numbers(header.str.strip_chars()).is_not_null().sum() * 2 > len(header):
        warnings.append("Most names in the first line are numbers: is it a row of data? A CSV file needs a line of column names first.")
    frame = parsing.missing_as_null(frame, missing) if missing else frame
    return frame, Profile(frame.height, (), "csv", separator, tuple(missing), comma, warnings=tuple(warnings))


def _plain_part(unique: pl.Series) -> pl.Series:
    return unique.filter(~unique.is_in([*ALWAYS_NULL, *MAYBE_NULL]))


def _spelled_missing(unique: pl.Series, comma: bool) -> set[str]:
    """The spellings in a column that mean that there is no value."""
    always, maybe = (set(unique.filter(unique.is_in(s)).to_list()) for s in (ALWAYS_NULL, MAYBE_NULL))
    rest = _plain_part(unique)
    return always | (maybe if maybe and len(rest) > 1 and _kind(rest, comma) in ("number", "integer", "timestamp") else set())


def _decimal_comma(columns: list[pl.Series], separator: str, warnings: list[str]) -> bool:
    """Whether numbers are written 1,5: some column reads only so and none reads only the other way."""
    only_comma = only_dot = either = False
    for unique in columns:
        dot = parsing.plain_numbers(unique).null_count() == 0
        comma = parsing.plain_numbers(unique, decimal_comma=True).null_count() == 0
        only_comma |= comma and not dot
        only_dot |= dot and not comma
        either |= comma and dot and bool(unique.str.contains(",", literal=True).any())
    if only_comma and only_dot:
        warnings.append("Some columns write 1,5 and others 1.5: the decimal point is taken as right, the columns with a comma are kept as text.")
    elif either and not only_comma and not only_dot and separator != ",":
        warnings.append("Numbers like 1,234 are read as a bit more than one, because the file is not separated by commas.")
        return True
    return only_comma and not only_dot


def _kind(unique: pl.Series, comma: bool) -> Kind | Literal["string"]:
    """The narrowest kind that all these different texts (stripped, none missing) read as."""
    plain = parsing.plain_numbers(unique, decimal_comma=comma)
    if plain.null_count() == 0:
        if unique.str.contains(r"^[+-]?0[0-9]").any():
            return "string"  # 00123 is a code: as a number it would lose its zeros
        if plain.str.contains(r"[.eE]").any():
            return "number" if parsing.parse(unique, "number", decimal_comma=comma).null_count() == 0 else "string"
        # A whole number too long for 64 bits is a code, and as a float it would lose its last digits.
        return "integer" if parsing.parse(unique, "integer", decimal_comma=comma).null_count() == 0 else "string"
    if len(unique) <= 4 and set(unique.str.to_lowercase().to_list()) in _TRUTH:
        return "boolean"
    return "timestamp" if parsing.parse(unique, "timestamp").null_count() == 0 else "string"


def _typed_kind(dtype: pl.DataType) -> Kind | None:
    """The kind of a column that has a type (Parquet)."""
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "integer"
    if dtype.is_numeric():
        return "number"
    return "timestamp" if isinstance(dtype, pl.Datetime | pl.Date) else None


def _look(raw: pl.Series, comma: bool, *, is_target: bool, warnings: list[str]) -> tuple[ColumnProfile, pl.Series]:
    name = raw.name
    if isinstance(raw.dtype, pl.Categorical | pl.Enum | pl.Null):
        raw = raw.cast(pl.String)
    kind: Kind | Literal["string"] | None = _typed_kind(raw.dtype)
    if raw.dtype == pl.String:
        unique = raw.drop_nulls().str.strip_chars().unique()
        unique = unique.filter(unique != "")
        kind = _kind(unique, comma) if len(unique) else "string"
        if kind == "string":
            _doubt(name, unique, comma, warnings)
    if not name.strip() or kind is None:
        return ColumnProfile(name, None, raw.null_count()), raw
    if kind == "integer" and is_target and bool(raw.cast(pl.String).str.strip_chars().drop_nulls().is_in(["0", "1"]).all()):
        kind = "boolean"
    values = parsing.parse(raw, "category" if kind == "string" else kind, decimal_comma=comma)
    if kind == "integer" and values.null_count() > raw.null_count() and raw.dtype != pl.String:
        kind, values = "string", parsing.parse(raw, "category")  # longer than 64 bits: a code
    missing, distinct = values.null_count(), values.n_unique() - (values.null_count() > 0)
    if kind == "number" and raw.dtype.is_float() and (infinite := int(raw.is_infinite().sum())):
        warnings.append(f"Column {name!r} is infinite in {infinite} row{'s' * (infinite != 1)}, which will be set aside.")
    if kind == "number" and is_target and bool(values.drop_nulls().is_in([0.0, 1.0]).all()):
        kind, values = "boolean", parsing.parse(raw, "boolean", decimal_comma=comma)
    if kind == "string":
        present = len(values) - missing
        free = (distinct > 50 and distinct * 2 > present) or distinct == present
        kind = "text" if free else "category"
        values = parsing.parse(raw, kind)  # text keeps its spaces: two that differ only there are two
        distinct = values.n_unique() - (missing > 0)
    low, high = _range(values) if kind in ("number", "integer") else (None, None)
    few = kind == "category" and distinct <= MOST_CLASSES
    return (
        ColumnProfile(
            name, kind, missing, distinct, low, high, tuple(sorted(values.drop_nulls().unique().to_list())) if few else (),
            unique=missing == 0 and distinct == len(values), constant=distinct == 1 and missing == 0,
        ),
        values,
    )  # fmt: skip


def _range(values: pl.Series) -> tuple[float | None, float | None]:
    low, high = values.min(), values.max()
    assert low is None or isinstance(low, int | float)
    assert high is None or isinstance(high, int | float)
    return low, high


def _doubt(name: str, unique: pl.Series, comma: bool, warnings: list[str]) -> None:
    """Say what a column of text nearly was."""
    if parsing.ambiguous_dates(unique):
        warnings.append(f"Column {name!r} holds dates like {unique[0]} and no value tells whether the day or the month is first: it is kept as text.")
        return
    kinds: tuple[tuple[Kind, str], ...] = (("number", "numbers"), ("timestamp", "times"))
    for kind, many in kinds:
        lost = unique.filter(parsing.parse(unique, kind, decimal_comma=comma).is_null())
        if 0 < len(lost) * 10 <= len(unique):
            example = lost.sort()[0]
            warnings.append(
                f"Column {name!r} holds {many} but for {len(lost)} spelling{'s' * (len(lost) != 1)} like {example!r}: it is kept as text."
            )


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
    ends_like_id = bool(set(_word_list(name)[-1:]) & _ID_WORDS)
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
