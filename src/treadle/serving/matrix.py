"""From columns of feature values to the model's float32 matrix: bit for bit what `encode.Encoder` gives of the same values, row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl


class ColumnEncoder:
    """The encoder of one package, over columns. See `backends.encoder_table` for the description it follows."""

    def __init__(self, encoder: Sequence[Mapping[str, Any]]) -> None:
        self._entries = list(encoder)
        self.width = sum(1 if entry["kind"] == "number" else len(entry["unknown"]) for entry in self._entries)
        self._tables = {
            i: (pl.Series(list(entry["table"]), dtype=pl.String), np.array([*entry["table"].values(), entry["unknown"]], dtype=np.float32))
            for i, entry in enumerate(self._entries) if entry["kind"] == "category"
        }  # fmt: skip

    def matrix(self, features: pl.DataFrame) -> np.ndarray:
        """Features by name (numbers as Float64, texts as String, null or NaN for missing) to float32 of shape (n, width)."""
        filled = np.empty((features.height, self.width), dtype=np.float32)
        at = 0
        for i, entry in enumerate(self._entries):
            values = features[entry["name"]]
            if entry["kind"] == "number":
                filled[:, at] = _numbers(values, entry)
                at += 1
            else:
                texts, rows = self._tables[i]
                filled[:, at : at + rows.shape[1]] = rows[_places(values, texts)]
                at += rows.shape[1]
        return filled


def _numbers(values: pl.Series, entry: Mapping[str, Any]) -> np.ndarray:
    fill = math.nan if entry["fill"] is None else float(entry["fill"])
    typed = values if values.dtype == pl.Float64 else values.cast(pl.Float64)
    numbers = (typed.fill_null(math.nan) if typed.null_count() else typed).to_numpy()
    if fill == fill:
        numbers = np.where(np.isnan(numbers), fill, numbers)
    mean, scale = float(entry.get("mean", 0.0)), float(entry.get("scale", 1.0))
    with np.errstate(over="ignore"):
        if mean != 0.0 or scale != 1.0:
            numbers = (numbers - mean) / scale
        return numbers.astype(np.float32)


def _places(values: pl.Series, texts: pl.Series) -> np.ndarray:
    """Where each text stands in `texts`; one past the end where it does not. A missing one is looked up as ''."""
    given = values.fill_null("") if values.null_count() else values
    places = given.replace_strict(texts, pl.Series(range(len(texts)), dtype=pl.UInt32), default=len(texts), return_dtype=pl.UInt32)
    return places.to_numpy()
