"""The door to feature values that are ready now: the latest known value of each view for each entity.

Promises every online store keeps:

- `get_many` answers in the order asked, with None for what is not there, and reads one consistent state.
- A value is replaced only by one that is not older: of two values the newer is the one with the later event, or with the later time if the events
  are the same. Written late or twice, an older value changes nothing.
- `put_many` is all or nothing, and durable when it returns (against the death of the process).
- The store does not judge age: it returns each value with its time, and the reader applies the view's ttl. It may drop a value whose `until` has
  passed on the wall clock, because no reader would take it.
- A store that cannot be reached, or does not answer in time, raises Unavailable within seconds, and works again when it can be reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol


class Key(NamedTuple):
    """A view's name and the entity's values joined by U+001F."""

    view: str
    entity: str


class Value(NamedTuple):
    """Packed feature values. All moments are in microseconds since 1970 UTC.

    Args:
        time: the moment from which the value was known.
        event: the moment it is about, which decides whether another value is newer; `time` if not given.
        until: the moment from which no reader takes it, if there is one; a store may drop it then.
    """

    time: int
    packed: bytes
    event: int | None = None
    until: int | None = None


class OnlineStore(Protocol):
    def put_many(self, values: Iterable[tuple[Key, Value]]) -> int:
        """Store values unless a newer one is there; returns how many were stored.

        The same value again counts 0; another value of the same event and time is a correction, replaces it and counts 1.
        """
        ...

    def get_many(self, keys: Sequence[Key]) -> list[Value | None]:
        """Time and packed value of each key, in order; None where there is none."""
        ...

    def scan(self, view: str) -> Iterator[tuple[str, Value]]:
        """Every entity of a view with its value (event filled in, until left out), in any order. What is written meanwhile may be seen or not."""
        ...

    def count(self, view: str) -> int:
        """How many entities a view has values for."""
        ...

    def newest(self, view: str) -> int | None:
        """The latest time of a value that was stored for a view: its freshness. None when it has none."""
        ...

    def compact(self) -> None:
        """Take less room, if that can be done at once: said after many values were written. Changes no value; readers are served meanwhile."""
        ...

    def forget(self, view: str, entities: Iterable[str]) -> int:
        """Remove the values of some entities, from the bytes of the store too as far as it can; returns how many were there."""
        ...

    def clear(self, view: str) -> None:
        """Forget all values of a view."""
        ...

    def close(self) -> None:
        """Let go of files and connections. A store that is used again opens anew."""
        ...
