"""Columns of typed fields handed to a model as they are: for models made elsewhere, value for value what a row of a request brings them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from treadle.serving.matrix import ColumnEncoder

ROWS = 1_024  # of one call: as many as the endpoint hands over at once; such a model may have a time limit for each


class ColumnsAsIs:
    """Fields as an array of objects, of shape (n, fields), as `as_is.AsIs` gives them row by row."""

    def __init__(self, encoder: Sequence[Mapping[str, Any]]) -> None:
        self._names = [str(entry["name"]) for entry in encoder]
        self.width = len(self._names)

    def matrix(self, typed: pl.DataFrame) -> np.ndarray:
        """Fields by name: numbers and truths as floats, moments as microseconds, texts, lists of floats; None for missing."""
        out = np.empty((typed.height, self.width), dtype=object)
        for k, name in enumerate(self._names):
            column = typed[name]
            if column.dtype.base_type() == pl.Datetime:
                column = column.cast(pl.Int64)
            elif column.dtype.is_numeric() or column.dtype == pl.Boolean:
                column = column.cast(pl.Float64)
            for i, value in enumerate(column.to_list()):
                out[i, k] = value
        return out


def encoder_of(encoder: Sequence[Mapping[str, Any]]) -> ColumnEncoder | ColumnsAsIs:
    """What fills a model's matrix from columns, by its package's encoder description."""
    return ColumnsAsIs(encoder) if encoder and encoder[0]["kind"] == "as is" else ColumnEncoder(encoder)
