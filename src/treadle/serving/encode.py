"""From feature values to the model's float32 matrix, strictly by the encoder description in the package.

One row is put together from bytes that were made once (a category's columns, whatever their number, are one copy); many rows go column by column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from struct import Struct
from typing import Any

import numpy as np

FEW = 8  # rows up to which one after the other is quicker than column by column


class Encoder:
    """The encoder of one package. See `backends.encoder_table` for the description it follows.

    Args:
        encoder: the entries, in the order of the matrix.
        features: names of the features in the order values are given in.
    """

    def __init__(self, encoder: Sequence[Mapping[str, Any]], features: Sequence[str]) -> None:
        position = {name: i for i, name in enumerate(features)}
        self.width = 0
        self._columns: list[tuple[int, int, int, Callable[[Any], np.ndarray]]] = []  # position, from, to, encode
        parts: list[_Numbers | _Category] = []
        for entry in encoder:
            at = position[entry["name"]]
            if entry["kind"] == "number":
                width = 1
                last = parts[-1] if parts else None
                numbers = last if isinstance(last, _Numbers) else _Numbers()
                if numbers is not last:
                    parts.append(numbers)
                numbers.add(at, entry)
                self._columns.append((at, self.width, self.width + 1, _number_column(entry)))
            else:
                width = len(entry["unknown"])
                category = _Category(at, entry)
                parts.append(category)
                self._columns.append((at, self.width, self.width + width, category.column))
            self.width += width
        self._parts = [part.bytes_of for part in parts]

    def matrix(self, rows: Sequence[Sequence[Any]]) -> np.ndarray:
        """Feature values (None for missing) of n rows to float32 of shape (n, width)."""
        if len(rows) <= FEW:
            try:
                packed = bytearray().join([part(row) for row in rows for part in self._parts])  # scikit-learn wants it writable
                return np.frombuffer(packed, np.float32).reshape(len(rows), self.width)
            except OverflowError:  # a number beyond float32, which becomes infinite
                pass
        return self.columns(list(zip(*rows)), len(rows))

    def columns(self, columns: Sequence[Sequence[Any] | np.ndarray], count: int) -> np.ndarray:
        """The same from one sequence of `count` values a feature."""
        out = np.empty((count, self.width), np.float32)
        with np.errstate(over="ignore"):
            for position, start, end, encode in self._columns:
                out[:, start:end] = encode(columns[position])
        return out


class _Numbers:
    """Numbers that stand side by side in the matrix: packed in one call."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, float, float, float]] = []  # position, what a missing value becomes (scaled), mean, scale

    def add(self, position: int, entry: Mapping[str, Any]) -> None:
        fill, mean, scale = _number(entry)
        self._steps.append((position, (fill - mean) / scale, mean, scale))
        self._pack = Struct(f"<{len(self._steps)}f").pack
        self._plain = all(mean == 0.0 and scale == 1.0 for _, _, mean, scale in self._steps)

    @property
    def bytes_of(self) -> Callable[[Sequence[Any]], bytes]:
        pack = self._pack
        if self._plain:
            plain = [(position, fill) for position, fill, _, _ in self._steps]
            return lambda row: pack(*[fill if (v := row[at]) is None or v != v else v for at, fill in plain])
        steps = self._steps
        return lambda row: pack(*[fill if (v := row[at]) is None or v != v else (v - mean) / scale for at, fill, mean, scale in steps])


class _Category:
    def __init__(self, position: int, entry: Mapping[str, Any]) -> None:
        self._at = itemgetter(position)
        self._width = len(entry["unknown"])
        self._table: dict[Any, bytes] = {text: np.asarray(floats, np.float32).tobytes() for text, floats in entry["table"].items()}
        self._unknown = np.asarray(entry["unknown"], np.float32).tobytes()
        self._table.setdefault("", self._unknown)
        self._table[None] = self._table[""]

    @property
    def bytes_of(self) -> Callable[[Sequence[Any]], bytes]:
        at, get, unknown = self._at, self._table.get, self._unknown
        return lambda row: get(at(row), unknown)

    def column(self, values: Sequence[Any]) -> np.ndarray:
        get, unknown = self._table.get, self._unknown
        return np.frombuffer(b"".join([get(value, unknown) for value in values]), np.float32).reshape(len(values), self._width)


def _number(entry: Mapping[str, Any]) -> tuple[float, float, float]:
    return math.nan if entry["fill"] is None else float(entry["fill"]), float(entry.get("mean", 0.0)), float(entry.get("scale", 1.0))


def _number_column(entry: Mapping[str, Any]) -> Callable[[Sequence[Any]], np.ndarray]:
    fill, mean, scale = _number(entry)

    def encode(values: Sequence[Any]) -> np.ndarray:
        column = np.array(values, dtype=np.float64)  # None becomes NaN
        if fill == fill:
            column[np.isnan(column)] = fill
        if mean != 0.0 or scale != 1.0:
            column = (column - mean) / scale
        return column.reshape(-1, 1)

    return encode
