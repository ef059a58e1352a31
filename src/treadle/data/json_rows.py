"""Rows from JSON objects: of files with one a line, and of a stream's messages.

>>> frame([{"id": 1, "paid": 2}, {"id": 2, "paid": 2.5, "tags": ["new"]}]).to_dicts()
[{'id': 1, 'paid': 2.0, 'tags': None}, {'id': 2, 'paid': 2.5, 'tags': '["new"]'}]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from treadle.core.errors import DataError
from treadle.data.csv_text import bad_byte

_CHUNK = 50_000  # lines decoded at once
_decode = msgspec.json.Decoder().decode


def decoded(data: bytes | str) -> dict[str, Any]:
    """The JSON object in a text. NaN and Infinity are read, as Python and JavaScript libraries write them. Raises ValueError with one sentence."""
    value = any_json(data)
    if not isinstance(value, dict):
        raise ValueError("it is JSON, but no object")
    return value


def any_json(data: bytes | str) -> Any:
    """The JSON in a text, read like `decoded`, whatever it is. Raises ValueError with one sentence."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            value = json.loads(data)
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeDecodeError as error:
            raise ValueError(f"byte {error.object[error.start]:#04x} is not UTF-8") from None
        except UnicodeEncodeError:
            raise ValueError("a text holds half of a character (a lone surrogate)") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(str(error)) from None
        return value


def frame(objects: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """Objects as rows; a key that an object lacks is null.

    Booleans, whole numbers of 64 bits, numbers and texts keep their type; objects, lists and columns of several types come as text.
    """
    names = dict.fromkeys(name for one in objects for name in one)
    return pl.DataFrame([_series(name, [one.get(name) for one in objects]) for name in names])


def together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames one beneath the other: columns that one lacks are null there, numbers meet as numbers, other types meet as text."""
    types: dict[str, Any] = {}
    for one in frames:
        for name, dtype in one.schema.items():
            known = types.get(name, pl.Null())
            types[name] = dtype if known == pl.Null else known if dtype in (pl.Null, known) else _meet(known, dtype)
    types = {name: pl.String() if dtype == pl.Null else dtype for name, dtype in types.items()}
    return pl.concat([one.select(_as(one, name, dtype) for name, dtype in types.items()) for one in frames])


def read_lines(path: Path, name: str) -> pl.DataFrame:
    """A file of one JSON object a line; blank lines do not count. Raises: DataError with the line that is none."""
    frames, chunk, line = [], [], 0
    with path.open("rb") as handle:
        for line, data in enumerate(handle, 1):
            if line == 1:
                data = data.removeprefix(b"\xef\xbb\xbf")
            if data.isspace() or not data:
                continue
            try:
                chunk.append(decoded(data))
            except ValueError as error:
                raise _broken(path, name, line, data, str(error)) from None
            if len(chunk) == _CHUNK:
                frames.append(frame(chunk))
                chunk = []
    if chunk or not frames:
        frames.append(frame(chunk))
    return together(frames)


def _broken(path: Path, name: str, line: int, data: bytes, why: str) -> DataError:
    try:
        data.decode()
    except UnicodeDecodeError:
        return bad_byte(path.read_bytes(), "utf-8", name)
    if line == 1 and data.startswith((b"PK", b"\x1f\x8b", b"PAR1", b"[")):
        hint = "Give a file with one JSON object a line; a list in brackets is not that, nor is a compressed file."
    else:
        hint = "Look there for an object that is broken off or spans several lines."
    return DataError(f"Line {line} is not a JSON object: {why}.", where=name, hint=hint)


def _series(name: str, values: list[Any]) -> pl.Series:
    types = {type(value) for value in values} - {type(None)}
    try:
        if not types:
            return pl.Series(name, values, dtype=pl.Null)
        if types == {bool}:
            return pl.Series(name, values, dtype=pl.Boolean)
        if types == {int}:
            return pl.Series(name, values, dtype=pl.Int64)
        if types <= {int, float}:
            return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64)
    except (OverflowError, TypeError):
        pass  # a whole number beyond 64 bits
    return pl.Series(name, list(_texts(values)), dtype=pl.String)


def _texts(values: Iterable[Any]) -> Iterable[str | None]:
    return (v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False, separators=(",", ":")) for v in values)


def _meet(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    return pl.Float64() if one.is_numeric() and other.is_numeric() else pl.String()


def _as(rows: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.Series:
    if name not in rows.columns:
        return pl.Series(name, [None], dtype=dtype).extend_constant(None, rows.height - 1) if rows.height else pl.Series(name, [], dtype=dtype)
    return rows[name].cast(dtype)
