"""The door to files that hold rows, in a folder or in an object store.

Promises: `listed` names every file of a pattern, sorted by name, each with a tag that differs whenever the bytes may; it moves no contents over the
network. `fetched` gives the bytes that the tag stands for, or raises Unavailable because the file has changed; never a mix of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Listed:
    """A file: its name as people know it, bytes, and what changes with its contents."""

    name: str
    size: int
    tag: str


class Files(Protocol):
    def listed(self, pattern: str) -> Sequence[Listed]:
        """The files that a path or pattern names; none is no error. Raises DataError, Unavailable."""
        ...

    def fetched(self, file: Listed) -> AbstractContextManager[Path]:
        """The file on this machine, for as long as the context lasts. Raises Unavailable when it is no longer what was listed."""
        ...
