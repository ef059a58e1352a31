"""Bringing rows into a table that is stored in chunks: chunks in which nothing changes are passed on unread.

The outcome is, chunk for chunk, what cutting all rows anew would give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from treadle.backends.chunks import Chunker, target_rows
from treadle.core.errors import DataError

_INDEX, _HASH, _CHUNK = "__index__", "__hash__", "__chunk__"
_KEYS = 1 << 22  # keys that are joined at once
_T = TypeVar("_T")
Load = Callable[[_T, Sequence[str] | None], pl.LazyFrame]


@dataclass(frozen=True)
class Merged:
    """What is to be brought in where, and what that changes."""

    rows: pl.DataFrame  # those that differ from what is there, with __chunk__: the place in the order they belong to
    touched: frozenset[int]  # chunks that hold rows which are changed
    gone: pl.DataFrame | None  # keys under which what is there goes: of changed rows, and of those to be removed
    added: int
    changed: int
    removed: int


def compare(
    chunks: Sequence[_T], load: Load[_T], incoming: pl.DataFrame, *, mode: str, key: Sequence[str], sort: Sequence[str],
    remove: pl.DataFrame | None = None,
) -> Merged:  # fmt: skip
    """Find out which of the incoming rows are new, changed or there already. Raises DataError for rows appended under a key that is taken."""
    key = list(key)
    if not key:
        if mode == "upsert":
            raise DataError("Rows without a key cannot be upserted.", hint="Name the columns that name a row once.")
        return Merged(_placed(chunks, load, incoming, sort), frozenset(), None, incoming.height, 0, 0)
    twice = incoming.select(pl.struct(key).is_duplicated().sum()).item() if incoming.height else 0
    if twice:
        raise DataError(f"{twice:,} rows share their key ({', '.join(key)}) with another row that comes with them.", hint="Remove the duplicates.")
    said = incoming.select(key).with_columns(incoming.hash_rows(seed=0).alias(_HASH)).with_row_index(_INDEX)
    if remove is not None:
        remove = remove.unique().join(said.select(key), on=key, how="anti", nulls_equal=True)
    same: list[pl.Series] = []
    touched: set[int] = set()
    changed = removed = 0
    for i, hits, lost in _hits(chunks, load, key, said, remove):
        removed += lost
        if lost:
            touched.add(i)
        if not hits.height:
            continue
        held = load(chunks[i], None).collect()
        known = held.select(key).with_columns(held.hash_rows(seed=0).alias(_HASH))
        equal = hits.join(known, on=[*key, _HASH], how="semi", nulls_equal=True)
        same.append(equal[_INDEX])
        if equal.height < hits.height:
            touched.add(i)
            changed += hits.height - equal.height
    if changed and mode == "append":
        raise DataError(
            f"{changed:,} rows are appended under a key ({', '.join(key)}) that the table holds with other values.",
            hint="Upsert them, or replace all.",
        )
    if same:
        there = pl.concat(same).to_frame()
        incoming = incoming.with_row_index(_INDEX).join(there, on=_INDEX, how="anti", maintain_order="left").drop(_INDEX)
    gone = pl.concat([incoming.select(key), *([remove] if remove is not None else [])]) if touched else None
    return Merged(_placed(chunks, load, incoming, sort), frozenset(touched), gone, incoming.height - changed, changed, removed)


def merge(
    chunks: Sequence[_T], load: Load[_T], schema: pl.Schema, merged: Merged, *, by: Sequence[str], key: Sequence[str], sort: Sequence[str]
) -> Iterator[_T | pl.DataFrame]:
    """The table with the rows in it: old chunks as they are, or frames to be stored as new ones."""
    key = list(key)
    chunker = Chunker(by, target_rows(schema))
    rows = merged.rows
    gone = merged.gone
    fresh = rows  # rows that go where their place in the order is; without an order, those whose key is not there
    if not sort and gone is not None:
        for i in sorted(merged.touched):
            fresh = fresh.join(load(chunks[i], key).collect(), on=key, how="anti", nulls_equal=True, maintain_order="left")
    for i, chunk in enumerate(chunks):
        arriving = fresh.filter(pl.col(_CHUNK) == i).drop(_CHUNK)
        if chunker.between and i not in merged.touched and not arriving.height:
            yield chunk
            continue
        held = load(chunk, None).collect()
        if i in merged.touched and gone is not None:
            left = held.join(gone, on=key, how="anti", nulls_equal=True, maintain_order="left")
            held = left if sort else _in_place(held, rows.drop(_CHUNK), gone, key)
        if arriving.height:
            held = pl.concat([held, arriving])
            if sort:
                held = held.sort(*sort, maintain_order=True)
        yield from chunker.feed(held)
    if not chunks:
        yield from chunker.feed(fresh.drop(_CHUNK))
    yield from chunker.finish()


def _hits(
    chunks: Sequence[_T], load: Load[_T], key: list[str], said: pl.DataFrame, remove: pl.DataFrame | None
) -> Iterator[tuple[int, pl.DataFrame, int]]:
    """The chunks that hold keys which come, or are to go: which rows come for them, and how many of theirs go.

    Keys of many chunks are joined at once.
    """
    waiting: list[pl.DataFrame] = []
    rows = 0
    for i, chunk in enumerate(chunks):
        waiting.append(load(chunk, key).with_columns(pl.lit(i, pl.Int64).alias(_CHUNK)).collect())
        rows += waiting[-1].height
        if rows < _KEYS and i + 1 < len(chunks):
            continue
        keys = pl.concat(waiting)
        waiting, rows = [], 0
        going = keys.join(remove, on=key, how="semi", nulls_equal=True)[_CHUNK].value_counts() if remove is not None else pl.DataFrame()
        counts = dict(going.iter_rows()) if going.width else {}
        hits = keys.join(said, on=key, how="inner", nulls_equal=True).partition_by(_CHUNK, as_dict=True, include_key=False)
        for (number,), found in hits.items():
            yield int(number), found, int(counts.pop(number, 0))
        for number, count in counts.items():
            yield int(number), said.head(0), int(count)


def _placed(chunks: Sequence[_T], load: Load[_T], rows: pl.DataFrame, sort: Sequence[str]) -> pl.DataFrame:
    """The rows with the number of the chunk each belongs to: the last one that does not begin after it."""
    if not sort or len(chunks) < 2 or not rows.height:
        return rows.with_columns(pl.lit(max(0, len(chunks) - 1), pl.Int64).alias(_CHUNK))
    starts = pl.concat([load(chunk, sort).head(1).with_columns(pl.lit(i, pl.Int64).alias(_CHUNK)) for i, chunk in enumerate(chunks)]).collect()
    marks = rows.select(sort).with_row_index(_INDEX).with_columns(pl.lit(None, pl.Int64).alias(_CHUNK)).select(*sort, _CHUNK, _INDEX)
    starts = starts.with_columns(pl.lit(None, marks.schema[_INDEX]).alias(_INDEX)).select(*sort, _CHUNK, _INDEX)
    both = pl.concat([starts, marks]).sort(*sort, maintain_order=True).with_columns(pl.col(_CHUNK).forward_fill().fill_null(0))
    places = both.filter(pl.col(_INDEX).is_not_null()).sort(_INDEX)[_CHUNK]
    return rows.with_columns(places.alias(_CHUNK))


def _in_place(held: pl.DataFrame, rows: pl.DataFrame, gone: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The rows of a chunk, those with a new row of the same key replaced where they stand."""
    numbered = held.with_row_index(_INDEX)
    stay = numbered.join(gone, on=key, how="anti", nulls_equal=True)
    new = rows.join(numbered.select(*key, _INDEX), on=key, how="inner", nulls_equal=True)
    return pl.concat([stay, new.select(stay.columns)]).sort(_INDEX).drop(_INDEX)
