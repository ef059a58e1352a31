"""The door to what holds a project's rows elsewhere: a database, a broker, files.

Promises, kept by every connector (`treadle.testing.source_contract` tests them):

- Reading changes nothing there: no lock is kept, no message is acknowledged, nothing is written. What was read is known only from the position
  that the caller records, so a reader that dies before it did has lost nothing: the same `since` gives the same rows again, and perhaps newer ones.
- `read(None)` gives everything there is, as it stood at one moment. `read(position)` gives every row that was added or changed since, and may give
  some again: whoever keeps the rows replaces them by their key, and has then what `read(None)` would have given.
- A position is JSON and says where the rows end; it holds no secret. A connector that cannot go on from one (the query's columns changed, a file
  was rewritten) reads everything again and says so by `full`.
- A cell or message that does not read as what it should be is null in the rows and named in `unparsed`; it never stops the others.
- Failures are of the house: Unavailable when it may be better later, DataError for what is missing or wrong; with the place, never with a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from treadle.core.schema import Kind

if TYPE_CHECKING:
    import polars as pl

    from treadle.core.declare.source import Source
    from treadle.ports.files import Files


@dataclass(frozen=True, slots=True)
class Unparsed:
    """One cell that does not read as the declared kind: its row (from 0) in the frame, its column, and what stands there."""

    row: int
    column: str
    text: str
    kind: Kind


@dataclass(frozen=True)
class Rows:
    """What one reading gave.

    Args:
        position: where it ended; to be handed back as `since`.
        full: these are all rows, and none kept from before is still there.
        decimals: text columns that hold exact decimal numbers or whole numbers beyond 64 bits.
        messages: the rows are messages still to be decoded: `stream_id`, `stream_time`, and either `value` (bytes) or the fields as text.
        more: a limit was reached before the end.
    """

    frame: pl.DataFrame
    position: dict[str, Any]
    full: bool
    unparsed: list[Unparsed] = field(default_factory=list)
    decimals: frozenset[str] = frozenset()
    messages: bool = False
    more: bool = False


class Connector(Protocol):
    @property
    def shown(self) -> str:
        """Its place, without any secret."""
        ...

    @property
    def forgets(self) -> bool:
        """Whether older rows may be gone when everything is read again, as from a stream."""
        ...

    def fingerprint(self, since: Mapping[str, Any] | None = None) -> str | None:
        """What changes whenever rows may have, found out without reading them; None when only reading tells.

        With `since`, the position of what is kept, None is also the answer when it ended before the end, or too short ago to be sure.
        """
        ...

    def read(self, since: Mapping[str, Any] | None = None) -> Rows:
        """The rows, all of them or those since a position. Raises DataError, Unavailable."""
        ...


Reach = Callable[["Source"], "Connector | Files"]
"""How a declared source is reached that lies outside this machine's files: the files of its store, or its connector."""
