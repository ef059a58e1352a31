"""The door to tables: immutable versions of rows, lone ones addressed by content, and numbered ones of a named table.

Promises every table store keeps:

- A version once written never changes; equal rows in equal order with equal types have one address; a version is visible whole or not at all, also
  after `kill -9`. What a dead writer left is swept later.
- `commit` gives a named table a new version, unless its content is what the newest version holds. Of two who commit at once one wins, and the other
  goes on from there; with `expect` it gets Conflict instead.
- Versions share the files whose rows they have in common.
- Every version can be read until it is dropped. `scan` trusts the files; `verify` reads the bytes and says whether they are what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import polars as pl

Mode = Literal["replace", "append", "upsert"]


@dataclass(frozen=True)
class Commit:
    """One version of a named table.

    Args:
        number: of the version, counted by the table; it grows, not always by one.
        address: of its rows; it changes when rows are erased from it, its number does not.
        digest: of its content: types, rows and their order.
        bytes: of its files, compressed, whoever else shares them.
        added, changed, removed: rows against the version before it, by key.
        moment: when it was committed, ISO text.
    """

    table: str
    number: int
    address: str
    digest: str
    rows: int
    bytes: int
    added: int
    changed: int
    removed: int
    moment: str = ""


class Tables(Protocol):
    def put(self, frame: pl.DataFrame) -> str:
        """Store rows that belong to no table and return their address."""
        ...

    def commit(
        self, table: str, rows: pl.DataFrame | Iterable[pl.DataFrame], *, mode: Mode, key: Sequence[str], sort: Sequence[str],
        expect: int | None = None, remove: pl.DataFrame | None = None,
    ) -> Commit:  # fmt: skip
        """A new version of a named table, or the newest one when it holds the same rows already.

        Args:
            rows: as one frame, or as frames that follow each other in the order of `sort` and have one schema: then never more than a few of them
                are in memory.
            mode: 'replace' all rows; 'append' rows with new keys; 'upsert' rows by key: those that are there are changed.
            key: columns that name a row once; without them rows cannot be upserted.
            sort: the order rows are kept in; without it the order they come in, changed rows in their old place.
            remove: with 'upsert', keys of rows that go, if they are there.
            expect: the number of the version this one goes on from; Conflict when there is another by now. -1: there is none yet.
        Raises: Conflict, DataError for types that cannot be stored and rows that cannot be appended, StorageError.
        """
        ...

    def scan(self, address: str) -> pl.LazyFrame:
        """The rows, lazily, in their order. Raises NotFound."""
        ...

    def files(self, address: str) -> list[Path]:
        """Local Parquet files with the rows, in order; not to be written to. Types are plain ones that every reader knows. Raises NotFound."""
        ...

    def exists(self, address: str) -> bool:
        """Whether this version is there."""
        ...

    def verify(self, address: str) -> None:
        """Read the bytes again. Raises NotFound, or Corrupt naming the file whose bytes are not what was written."""
        ...

    def discard(self, address: str) -> int:
        """Remove those files of a version that are damaged, so that committing the same rows writes them anew; returns how many."""
        ...

    def commits(self, table: str) -> list[Commit]:
        """The versions of a table that were not dropped, oldest first; empty for a table nobody wrote."""
        ...

    def names(self) -> list[str]:
        """The named tables."""
        ...

    def drop(self, table: str, numbers: Iterable[int]) -> int:
        """Remove versions for good, and the files nobody else shares; returns the bytes freed. The newest one cannot be dropped: Conflict."""
        ...

    def rewrite(self, addresses: Iterable[str], change: Callable[[pl.LazyFrame], pl.LazyFrame]) -> dict[str, str]:
        """Take rows out of what is stored for good: lone tables, and every version of each named table that is named.

        `change` gets rows, not always all of a version at once, and returns those that stay, in their order. The old files and what the log told
        about them are gone when it returns. When it was interrupted, doing it again finishes it.

        Returns: old address to new address, of all versions; the same one where nothing was taken out.
        """
        ...

    def sweep(self, older_than_seconds: float = 3600.0) -> int:
        """Remove left-overs of writes that never finished; returns how many."""
        ...
