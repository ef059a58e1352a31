"""The door to what a store really holds: everything it keeps as text, and forgetting for good what was replaced or removed.

A ledger offers it, and so may any store that leaves old bytes lying about. Promises:

- `everything` gives each record, link, event and name as it is kept, so that what is not in it is in no answer of the store.
- When `scrub` returns, what was replaced or removed before is no longer in the store's files: no free pages, no log of past writes.
  What lies beneath is not reached: backups, snapshots of the file system, worn cells of a disk.
- Both may run while others use the store. `scrub` raises Unavailable when others hold on to an old state for too long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from treadle.core.records import Ref


@runtime_checkable
class Scrubbable(Protocol):
    def everything(self) -> Iterator[tuple[Ref, str]]:
        """Each thing kept, with where: Ref(kind, id) of a record, or Ref of kind 'link', 'event' or 'metric'; and its text."""
        ...

    def scrub(self) -> list[str]:
        """Make what is gone unreadable; returns what could not be done, a sentence each (a right that is missing, for example)."""
        ...
