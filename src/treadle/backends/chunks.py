"""Cutting rows into files so that versions share them: where a cut is depends on the rows there and not on how many rows come before.

A row ends a chunk when the hash of its key says so (content-defined chunking, as in rsync and restic). No chunk but the last has fewer rows than
half the target, none more than twice the target. So a row that comes in anywhere changes its own chunk, now and then the next one, and no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

LARGEST, SMALLEST = 1 << 17, 1 << 12  # rows
_BYTES = 32 << 20  # of a chunk in memory, about


def target_rows(schema: pl.Schema) -> int:
    """How many rows a chunk should have: a power of two, small enough for a chunk to fit easily into memory however many columns there are."""
    width = sum(16 if isinstance(t, pl.String | pl.Binary) or t.is_nested() else 8 for t in schema.values()) or 8
    return int(min(LARGEST, max(SMALLEST, 1 << ((_BYTES // width).bit_length() - 1))))


class Chunker:
    """Takes rows in pieces, in order, and gives them back in chunks.

    Args:
        by: columns whose values decide where a cut is; all if empty.
    """

    def __init__(self, by: Sequence[str], target: int) -> None:
        self._by, self._target = list(by), target
        self._pieces: list[pl.DataFrame] = []
        self._rows = 0
        self._cuts: list[int] = []  # rows before each possible cut, counted from the start of the chunk

    @property
    def between(self) -> bool:
        """Whether the last row ended a chunk, so that what comes next starts one."""
        return self._rows == 0

    def feed(self, piece: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The chunks that are complete with these rows."""
        if not piece.height:
            return
        hashes = piece.select(self._by).hash_rows(seed=0).to_numpy() if self._by else piece.hash_rows(seed=0).to_numpy()
        ends: Any = np.flatnonzero(hashes % np.uint64(max(1, self._target // 2)) == 0)
        self._cuts += (ends + (self._rows + 1)).tolist()
        self._pieces.append(piece)
        self._rows += piece.height
        yield from self._complete()

    def finish(self) -> Iterator[pl.DataFrame]:
        """The rows that are left, if there are any."""
        if self._rows:
            yield self._take(self._rows)

    def _complete(self) -> Iterator[pl.DataFrame]:
        while True:
            cut = next((c for c in self._cuts if c >= self._target // 2), 2 * self._target)
            if min(cut, 2 * self._target) > self._rows:
                return
            yield self._take(min(cut, 2 * self._target))

    def _take(self, rows: int) -> pl.DataFrame:
        whole = pl.concat(self._pieces, rechunk=False) if len(self._pieces) > 1 else self._pieces[0]
        chunk, rest = whole[:rows], whole[rows:]
        self._pieces, self._rows = ([rest] if rest.height else []), rest.height
        self._cuts = [c - rows for c in self._cuts if c > rows]
        return chunk


def cut(pieces: Iterable[pl.DataFrame], by: Sequence[str]) -> Iterator[pl.DataFrame]:
    """All rows in chunks."""
    chunker: Chunker | None = None
    for piece in pieces:
        if chunker is None:
            chunker = Chunker(by, target_rows(piece.schema))
        yield from chunker.feed(piece)
    if chunker is not None:
        yield from chunker.finish()
