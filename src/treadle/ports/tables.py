"""The door to tables: immutable versions of rows, addressed by content.

Promises: a version once written never changes; equal rows in equal order with equal types have one address; a version is visible whole or not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import polars as pl


class Tables(Protocol):
    def write(self, frame: pl.DataFrame) -> str:
        """Store the rows and return their address."""
        ...

    def scan(self, address: str) -> pl.LazyFrame:
        """The rows, lazily. Raises NotFound."""
        ...

    def exists(self, address: str) -> bool:
        """Whether this version is there."""
        ...
