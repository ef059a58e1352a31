"""Columns: what each column of a file holds, found by reading every value of it.

Nothing is guessed silently: doubts are listed as warnings.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import polars as pl

from treadle.core.declare import source as declare
from treadle.core.errors import DataError
from treadle.core.schema import Kind
from treadle.data import csv_text, json_rows, parsing

MOST_CLASSES = 30
NULLS: tuple[str, ...] = declare.csv("").options["null_values"]
# Spellings that never mean a value, and spellings that may ("none" as a kind of garage): those count as missing only
# where a column is made of numbers or times but for them.
ALWAYS_NULL = ("nan", "n/a", "#N/A", "#NA", "<NA>", "NaT", "?")
MAYBE_NULL = ("None", "none", "NONE", "Null", "nil", "na", "-", "--", ".", "..", "unknown", "Unknown", "missing", "#VALUE!", "#DIV/0!")
_SEPARATORS = ("\t", ";", "|", ",")  # when two split a file equally well, the one that is rarer in prose is meant
_JSON = (".jsonl", ".ndjson", ".json")
_FIRST = 65_536  # bytes that are looked at to tell what a file is
_TRUTH = ({"true", "false"}, {"yes", "no"}, {"y", "n"}, {"t", "f"})


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
        personal: what sort of personal data it seems to hold; empty if none.
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
    personal: str = ""

    @property
    def nullable(self) -> bool:
        """Whether a value may be missing."""
        return self.missing > 0


@dataclass(frozen=True)
class Writing:
    """How a file is written: `jsonl` is one JSON object a line.

    `null_values` are spellings beyond those `tr.csv` knows; `warnings` are doubts about the file as a whole.
    """

    format: Literal["csv", "parquet", "jsonl"]
    separator: str = ","
    null_values: tuple[str, ...] = ()
    decimal_comma: bool = False
    warnings: tuple[str, ...] = ()


def read(path: Path) -> tuple[pl.DataFrame, Writing]:
    """The rows of a CSV file, every field still text, or of a Parquet file or JSON lines, with their types.

    Raises: DataError, one sentence, when the file cannot be read.
    """
    if not path.exists():
        raise DataError(f"There is no file {str(path)!r}.", hint="Check the name and the folder you are in.")
    if path.is_dir():
        raise DataError(f"{str(path)!r} is a folder.", hint="Name one file in it: CSV, Parquet or JSON lines.")
    try:
        with path.open("rb") as handle:
            first = handle.read(_FIRST)
    except PermissionError:
        raise DataError(f"{str(path)!r} may not be read.", hint="Check its permissions.") from None
    if first.startswith(b"PAR1"):
        try:
            frame = pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(f"The Parquet file does not read: {str(error).splitlines()[0]}", where=path.name, hint="Write it again.") from None
        return frame, Writing("parquet")
    if path.suffix.lower() in _JSON or _is_object(first):
        return json_rows.read_lines(path, path.name), Writing("jsonl")
    text = csv_text.read_text(path)
    separator = sniff(text)
    frame = csv_text.missing_as_null(csv_text.split_fields(text, separator, path.name), NULLS)
    uniques = {c: frame[c].drop_nulls().str.strip_chars().unique() for c in frame.columns}
    plain = [_plain_part(u) for u in uniques.values()]
    warnings: list[str] = []
    comma = _decimal_comma([u for u in plain if len(u) and u.str.contains("^[-+0-9.,]+$").all()], separator, warnings)
    missing = sorted(set().union(*(_spelled_missing(u, comma) for u in uniques.values())))
    header = pl.Series(frame.columns)
    if parsing.plain_numbers(header.str.strip_chars()).is_not_null().sum() * 2 > len(header):
        warnings.append("Most names in the first line are numbers: is it a row of data? A CSV file needs a line of column names first.")
    frame = csv_text.missing_as_null(frame, missing) if missing else frame
    return frame, Writing("csv", separator, tuple(missing), comma, tuple(warnings))


def _is_object(first: bytes) -> bool:
    """Whether a file that begins so has a JSON object in its first line. No header of a CSV file has."""
    line, end, _ = first.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if not line.startswith(b"{"):
        return False
    if not end and len(first) == _FIRST:  # longer than what was read of it
        return line.startswith(b'{"')
    try:
        json_rows.decoded(line)
    except ValueError:
        return False
    return True


def look(raw: pl.Series, comma: bool, *, is_target: bool, warnings: list[str]) -> tuple[ColumnProfile, pl.Series]:
    """What one column holds, and its values as that; doubts are added to the warnings."""
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


def sniff(text: str) -> str:
    """The separator of a CSV text: the one that splits its first lines most evenly into at least two fields; ',' when none does."""
    sample = text[:65536]
    best, found = (0.0, 0), ","
    for separator in _SEPARATORS:
        rows = [record for _, record in islice(csv_text.records(sample, separator), 200)]
        if len(text) > len(sample) and len(rows) > 2:
            rows.pop()  # cut off in the middle
        width = len(rows[0]) if rows else 0
        score = (sum(len(r) == width for r in rows) / max(len(rows), 1), width)
        if width > 1 and score > best:
            best, found = score, separator
    return found


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


def _range(values: pl.Series) -> tuple[float | None, float | None]:
    low, high = values.min(), values.max()
    assert low is None or isinstance(low, int | float)
    assert high is None or isinstance(high, int | float)
    return low, high


def _doubt(name: str, unique: pl.Series, comma: bool, warnings: list[str]) -> None:
    """Say what a column of text nearly was."""
    if parsing.ambiguous_dates(unique):
        example = unique.sort()[0]
        warnings.append(f"Column {name!r} holds dates like {example} and no value tells whether the day or the month is first: it is kept as text.")
        return
    kinds: tuple[tuple[Kind, str], ...] = (("number", "numbers"), ("timestamp", "times"))
    for kind, many in kinds:
        lost = unique.filter(parsing.parse(unique, kind, decimal_comma=comma).is_null())
        if 0 < len(lost) * 10 <= len(unique):
            example = lost.sort()[0]
            warnings.append(
                f"Column {name!r} holds {many} but for {len(lost)} spelling{'s' * (len(lost) != 1)} like {example!r}: it is kept as text."
            )
