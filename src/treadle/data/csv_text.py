"""The text of a CSV file, taken apart into a frame of text: one set of rules for quotes, missing cells, encodings and lines that do not fit.

A text that keeps strictly to the form (quotes only around whole fields, every line as long as the header) is taken apart by Polars, many times faster
than by Python's csv; whether it does is looked at in its bytes before. Any other text goes the slow way, which says what is wrong and where.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from treadle.core.errors import DataError

_FOREIGN = {
    b"PK\x03\x04": "an Excel workbook or zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed with gzip",
    b"BZh": "compressed with bzip2",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"ARROW1": "an Arrow file",
    b"%PDF": "a PDF",
}
_CONTROL = bytes(set(range(32)) - set(b"\t\n\x0b\x0c\r\x1b"))
_CHUNK = 50_000


def read_strings(
    path: Path, *, separator: str = ",", null_values: Sequence[str] = ("",), encoding: str = "", name: str = ""
) -> pl.DataFrame:
    """A CSV file as a frame of text, cell by cell; empty cells and `null_values` (spaces around them do not count) are null.

    A line with nothing in it is not a row. Quoted fields may hold separators and line breaks.
    Raises: DataError when there is no header, a name stands twice, or a line has more or fewer fields than the header.
    """
    return missing_as_null(split_fields(read_text(path, encoding, name), separator, name or path.name), null_values)


def missing_as_null(frame: pl.DataFrame, null_values: Sequence[str]) -> pl.DataFrame:
    """The frame of text with empty cells and these spellings null, and without the rows that then hold nothing."""
    spellings = pl.Series([*{"", *null_values}], dtype=pl.String).implode()
    # Series and not pl.col(name): a column may be called '*' or '^a$', which Polars would take as a pattern of names.
    frame = frame.with_columns([column.set(column.str.strip_chars().is_in(spellings), None) for column in frame])
    return frame.filter(~pl.all_horizontal(pl.all().is_null())) if frame.width > 1 else frame


def read_text(path: Path, encoding: str = "", name: str = "") -> str:
    """The text of a file in `encoding`, or else in UTF-8, UTF-16 with its mark, or Windows or ISO Latin-1.

    Raises: DataError when it holds no text, or none in that encoding.
    """
    data, name = path.read_bytes(), name or path.name
    if not data.strip(b"\0 \t\r\n\xef\xbb\xbf"):
        raise DataError("The file is empty.", where=name, hint="Check that it was written completely.")
    foreign = next((what for magic, what in _FOREIGN.items() if data.startswith(magic)), None)
    if foreign:
        raise DataError(f"The file is {foreign}, not CSV or Parquet.", where=name, hint="Save or unpack it as CSV or Parquet.")
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if not encoding and not marked:
        sample = data[:65536]
        if 0 in sample or len(sample) - len(sample.translate(None, _CONTROL)) > len(sample) // 100:
            raise DataError("The file is neither text nor Parquet.", where=name, hint="Give a CSV file with a header line, or a Parquet file.")
    text = _decoded(data, encoding or ("utf-16" if marked else "utf-8-sig"), encoding != "" or marked, name)
    return text if "\r" not in text else text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes, encoding: str, certain: bool, name: str) -> str:
    try:
        return data.decode("utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding)
    except UnicodeError:
        # Letters of Windows or ISO Latin hardly ever happen to be UTF-8; where there are more such letters than other bytes, it is damaged UTF-8.
        replaced = data.decode("utf-8", "replace")
        wrong = replaced.count("\ufffd")
        if certain or wrong <= sum(map(len, re.findall(r"[^\x00-\x7f\ufffd]+", replaced))):
            raise bad_byte(data, encoding, name) from None
    try:
        return data.decode("cp1252")  # Windows-1252 is Latin-1 with the euro sign and typographic quotes
    except UnicodeDecodeError:
        return data.decode("latin-1")


def bad_byte(data: bytes, encoding: str, name: str) -> DataError:
    """The error that names the first byte which does not read, and its line."""
    start, known = 0, {"utf-8-sig": "UTF-8"}.get(encoding, encoding.upper())
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        start = error.start + (3 if encoding == "utf-8-sig" and data.startswith(codecs.BOM_UTF8) else 0)
    line = data[:start].count(b"\n") + 1
    hint = "Say what it is written in, such as tr.csv(..., encoding='cp1250'), or save it as UTF-8."
    if start >= len(data) - 4:
        hint = "Its end is missing: was it written completely? " + hint
    return DataError(f"Byte {start + 1:,} (line {line:,}) is {data[start]:#04x}, which is not {known}.", where=name, hint=hint)


def records(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The records of a CSV text that hold anything, each with the number of the line it starts at."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    start = 1
    for record in reader:
        if record:
            yield start, record
        start = reader.line_num + 1


def split_fields(text: str, separator: str, where: str, *, before: int = 0) -> pl.DataFrame:
    """A CSV text as a frame of text. `before`: lines of the file that are not in the text. Raises: DataError as `read_strings`."""
    try:
        return _split_fields(text, separator, where, before)
    except csv.Error as error:  # a field beyond csv.field_size_limit
        raise DataError(f"The file does not read as CSV: {error}.", where=where, hint="Is a quote opened and never closed?") from None


def _split_fields(text: str, separator: str, where: str, before: int) -> pl.DataFrame:
    header = next((record for record in csv.reader(_lines(text), delimiter=separator) if record), [])
    _check_header(header, where)
    schema = dict.fromkeys(header, pl.String)
    data = text.rstrip("\n").encode()
    begin = _body(data, separator.encode(), len(header))
    if begin == len(data) + 1:
        return pl.DataFrame(schema=schema)
    if begin:  # without the header, whose quotes Polars leaves as they are
        return pl.read_csv(data[begin:], has_header=False, schema=schema, separator=separator, quote_char='"' if b'"' in data else None)
    del data
    if '"' not in text:  # without quotes a line is a record and Polars splits them many times faster
        lines = pl.Series("lines", text.split("\n"), dtype=pl.String)
        numbers = (lines != "").arg_true()[1:]
        lines = lines.gather(numbers)
        counts = lines.str.count_matches(separator, literal=True) + 1
        ragged = (counts != len(header)).arg_true()
        if len(ragged):
            raise _ragged(before + int(numbers[int(ragged[0])]) + 1, int(counts[int(ragged[0])]), len(header), separator, where)
        if len(header) == 1:
            return pl.DataFrame({header[0]: lines}, schema=schema)
        fields = lines.str.split_exact(separator, len(header) - 1).struct.unnest()
        return fields.rename(dict(zip(fields.columns, header)))
    rows = records(text, separator)
    next(rows)
    chunks = [pl.DataFrame(schema=schema)]
    while chunk := list(islice(rows, _CHUNK)):
        for line, record in chunk:
            if len(record) != len(header):
                raise _ragged(before + line, len(record), len(header), separator, where)
        chunks.append(pl.DataFrame([record for _, record in chunk], schema=schema, orient="row"))
    return pl.concat(chunks)


def _lines(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _body(data: bytes, separator: bytes, width: int) -> int:
    """Where the second record begins, if every one has `width` fields, two at least, and quotes stand around whole fields only; else 0. The last
    record has no end."""
    if width < 2 or len(separator) != 1:
        return 0
    signs = np.frombuffer(data, np.uint8)
    ends, marks = np.flatnonzero(signs == ord("\n")), np.flatnonzero(signs == ord(separator))
    if b'"' in data:
        quoted = signs == ord('"')
        quotes = np.flatnonzero(quoted)
        opening, closing = quotes[::2], quotes[1::2]
        if len(opening) != len(closing):
            return 0
        around = [ord("\n"), ord(separator), ord('"')]  # a quote inside a quoted field is written twice: it closes and opens
        before, after = signs[opening[opening > 0] - 1], signs[closing[closing + 1 < len(signs)] + 1]
        if not (np.isin(before, around).all() and np.isin(after, around).all()):
            return 0
        inside = np.cumsum(quoted, dtype=np.uint8) & 1
        ends, marks = ends[inside[ends] == 0], marks[inside[marks] == 0]
    if len(marks) != (width - 1) * (len(ends) + 1):
        return 0
    of_line = marks.reshape(-1, width - 1)
    whole = (of_line[:-1, -1] < ends).all() and (of_line[1:, 0] > ends).all()
    return (int(ends[0]) if len(ends) else len(data)) + 1 if whole else 0


def _check_header(header: list[str], where: str) -> None:
    unnamed = [str(i) for i, name in enumerate(header, 1) if not name.strip()]
    if len(unnamed) > 1:
        raise DataError(f"Columns {', '.join(unnamed)} have no name in the header.", where=where, hint="Name them or delete them.")
    first: dict[str, int] = {}
    for position, name in enumerate(header, 1):
        if name in first:
            raise DataError(
                f"The header names column {name!r} twice (columns {first[name]} and {position}).", where=where, hint="Rename or delete one of them."
            )
        first[name] = position


def _ragged(line: int, found: int, expected: int, separator: str, where: str) -> DataError:
    mark = "tab" if separator == "\t" else repr(separator)
    return DataError(
        f"Line {line} has {found} field{'s' * (found != 1)} where the header has {expected}.",
        where=where,
        hint=f"Look there for a missing field, a {mark} that should be quoted, or a quote that is never closed.",
    )
