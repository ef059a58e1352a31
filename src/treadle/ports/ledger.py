"""The door to the one record of the loop: records with a kind, links between them, a hash-chained event log, metric points.

Promises every ledger keeps:

- What `put`, `link`, `append` or `log_points` returned from is durable: it survives the death of the process, and of the machine
  if the backend says so. Inside `transaction()` that holds when the block has ended; a block that raises leaves nothing behind.
- A reader sees whole transactions only. `put` with `expect` is a compare-and-set: of two that expect the same version, one wins,
  the other gets Conflict.
- Events get consecutive numbers from 1 in the order of their commits, and each hash covers the one before it.
- Several processes and threads may use one ledger at once.
- A full or read-only disk raises StorageError; nothing half-written remains. A server that cannot be reached raises Unavailable, and works again
  when it can; a transaction that was under way then is gone as a whole.
- What can be pickled opens the same ledger elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from treadle.core.records import Event, Link, Point, Record, Ref


class Ledger(Protocol):
    def put(self, kind: str, id: str, body: Mapping[str, Any], *, expect: int | None = None) -> Record:
        """Write a record whole.

        Args:
            expect: the version it must have now: 0 for "must be new", None for "whatever". Else Conflict.
        Returns: the record as stored, with its new version and times.
        """
        ...

    def get(self, kind: str, id: str) -> Record | None:
        """The record, or None."""
        ...

    def find(
        self, kind: str, where: Mapping[str, Any] | None = None, *, newest_first: bool = False, limit: int | None = None, after: str | None = None,
        past: tuple[str, str] | None = None,
    ) -> list[Record]:  # fmt: skip
        """Records of a kind whose body fields equal `where`, in order of creation (ties by id).

        Args:
            where: body field (dots reach into objects) to a JSON scalar it equals; None is met by null and by an absent field.
            after: only records created after this ISO time.
            past: (created_at, id) of a record: only those that come after it in the order asked for, so that a long list is read page by page.
        """
        ...

    def count(self, kind: str, where: Mapping[str, Any] | None = None) -> int:
        """How many records `find` would give."""
        ...

    def link(self, link: Link) -> None:
        """Record that `link.source` stands in a relation to `link.target`. Saying it twice is the same as once."""
        ...

    def links(self, ref: Ref, *, back: bool = False, relation: str | None = None) -> Sequence[Link]:
        """Links that start at `ref` (or end there, if `back`), in the order they were made."""
        ...

    def append(self, kind: str, subject: Ref, body: Mapping[str, Any] | None = None, *, actor: str = "treadle") -> Event:
        """Add an event to the audit log and return it with its number, time and hash."""
        ...

    def events_since(
        self, seq: int = 0, *, limit: int = 1000, kinds: Sequence[str] = (), actor: str = "", subject_kind: str = "", subject_id: str = "",
        since: str = "", until: str = "",
    ) -> list[Event]:  # fmt: skip
        """Events with a number above `seq`, oldest first, that meet every condition given.

        Args:
            kinds: any of these; one that ends with a dot stands for all that begin so.
            since, until: ISO times; from `since` on, and before `until`. Raises UsageError for what is none.
        """
        ...

    def events_before(
        self, seq: int | None = None, *, limit: int = 100, kinds: Sequence[str] = (), actor: str = "", subject_kind: str = "", subject_id: str = "",
        since: str = "", until: str = "",
    ) -> list[Event]:  # fmt: skip
        """The same for a number below `seq` (any if None), newest first."""
        ...

    def log_points(self, points: Iterable[Point]) -> None:
        """Store metric points in one commit. A point without a time gets the present."""
        ...

    def points(self, run: str, name: str | None = None) -> list[Point]:
        """Points of a run, by name, then step, then order of writing."""
        ...

    def last_points(self, run: str | None = None, name: str | None = None) -> list[Point]:
        """The last point of each metric (that of the highest step, the last written of it) of a run, or of one name in all runs, or of all."""
        ...

    def best_points(
        self, name: str, *, most: bool = True, at_least: float | None = None, at_most: float | None = None, limit: int = 100
    ) -> list[Point]:
        """Of the last points of this name in all runs those with the most (or least) value within the limits, best first, equal ones by run. Not
        those that are not a number.
        """
        ...

    def verify_chain(self) -> int:
        """Read the whole event log again; returns how many events it has. Raises Corrupt naming the first that is not as it was written."""
        ...

    def close(self) -> None:
        """Let go of files and connections. A ledger that is used again opens anew."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All writes of the block become visible and durable together, or none does.

        Blocks may nest. An inner block that raises loses its own writes; if the error is caught the outer block goes on, and the outermost decides.
        """
        ...
