"""The door to bytes: content-addressed, written once, never changed.

Promises every blob store keeps:

- The address of bytes is the SHA-256 of their content, in hexadecimal; the same bytes have one address and are stored once.
- A blob is visible whole or not at all: killed in the middle of a write, a store shows no trace of it (`sweep` removes what is left over).
- `get` checks the bytes against their address; `path` is the fast way and checks nothing; `verify` reads the bytes and says whether they are still
  the bytes that were written.
- A full or read-only disk raises StorageError and leaves nothing behind; so does a writer that raises, and its own exception comes out.
- A store outside this machine that does not answer raises Unavailable, after trying again for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

Content = bytes | Path | Callable[[BinaryIO], object]


class Blobs(Protocol):
    def put(self, data: Content) -> str:
        """Store bytes, the content of a file (copied), or what a function writes, and return the address.

        The function gets a binary file that can only be written, forward. What it writes is hashed on the way and never held in memory as a whole:

            blobs.put(frame.write_parquet)
        """
        ...

    def get(self, address: str) -> bytes:
        """The bytes. Raises NotFound; Corrupt when their hash is not the address."""
        ...

    def path(self, address: str) -> Path:
        """A local file with the bytes, for libraries that read files; it must not be written to. Raises NotFound."""
        ...

    def exists(self, address: str) -> bool:
        """Whether the blob is there."""
        ...

    def verify(self, address: str) -> None:
        """Read the bytes again. Raises NotFound, or Corrupt when their hash is not the address."""
        ...

    def delete(self, address: str) -> None:
        """Remove the bytes, if they are there."""
        ...

    def addresses(self) -> Iterator[str]:
        """Every address held."""
        ...

    def sweep(self, older_than_seconds: float = 3600.0) -> int:
        """Remove left-overs of writes that never finished; returns how many."""
        ...
