"""From feature values to the model's float32 matrix, strictly by the encoder description in the package."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


class Encoder:
    """The encoder of one package. See `backends.encoder_table` for the description it follows.

    Args:
        encoder: the entries, in the order of the matrix.
        features: names of the features in the order values are given in.
    """

    def __init__(self, encoder: Sequence[Mapping[str, Any]], features: Sequence[str]) -> None:
        position = {name: i for i, name in enumerate(features)}
        self._steps: list[tuple[int, Callable[[Any], list[float]]]] = []
        self.width = 0
        for entry in encoder:
            if entry["kind"] == "number":
                self._steps.append((position[entry["name"]], _number(entry)))
                self.width += 1
            else:
                self._steps.append((position[entry["name"]], _category(entry)))
                self.width += len(entry["unknown"])

    def matrix(self, rows: Sequence[Sequence[Any]]) -> np.ndarray:
        """Feature values (None for missing) of n rows to float32 of shape (n, width)."""
        steps = self._steps
        filled: list[list[float]] = []
        for row in rows:
            line: list[float] = []
            for position, encode in steps:
                line += encode(row[position])
            filled.append(line)
        with np.errstate(over="ignore"):
            return np.array(filled, dtype=np.float64).astype(np.float32).reshape(len(rows), self.width)


def _number(entry: Mapping[str, Any]) -> Callable[[Any], list[float]]:
    fill = math.nan if entry["fill"] is None else float(entry["fill"])
    mean, scale = float(entry.get("mean", 0.0)), float(entry.get("scale", 1.0))
    if mean == 0.0 and scale == 1.0:
        return lambda value: [fill if value is None or value != value else value]
    filled = (fill - mean) / scale
    return lambda value: [filled if value is None or value != value else (value - mean) / scale]


def _category(entry: Mapping[str, Any]) -> Callable[[Any], list[float]]:
    table: dict[str, list[float]] = entry["table"]
    unknown: list[float] = entry["unknown"]
    return lambda value: table.get("" if value is None else value, unknown)
