"""Feature values handed to a model as they are: for models made elsewhere, which take texts, whole numbers or vectors, and encode for themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from treadle.serving.encode import Encoder


class AsIs:
    """Rows of values as an array of objects, of shape (n, fields): a model's format knows what to make of each."""

    def __init__(self, encoder: Sequence[Mapping[str, Any]], features: Sequence[str]) -> None:
        position = {name: i for i, name in enumerate(features)}
        self._positions = [position[entry["name"]] for entry in encoder]
        self.width = len(self._positions)

    def matrix(self, rows: Sequence[Sequence[Any]]) -> np.ndarray:
        """Feature values of n rows, in the encoder's order."""
        out = np.empty((len(rows), self.width), dtype=object)
        for i, row in enumerate(rows):
            for k, position in enumerate(self._positions):
                out[i, k] = row[position]
        return out


def encoder_of(encoder: Sequence[Mapping[str, Any]], features: Sequence[str]) -> Encoder | AsIs:
    """What fills a model's matrix, by its package's encoder description."""
    return AsIs(encoder, features) if encoder and encoder[0]["kind"] == "as is" else Encoder(encoder, features)
