"""The door to feature values that are ready now: the latest known value of each view for each entity.

Promises every online store keeps:

- `get_many` answers in the order asked, with None for what is not there, and reads one consistent state.
- A value is replaced only by one whose time is not older: written late or twice, an older value changes nothing.
- `put_many` is all or nothing, and durable when it returns (against the death of the process).
- The store does not judge age: it returns each value with its time, and the reader applies the view's ttl.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol


class Key(NamedTuple):
    """A view's name and the entity's values joined by U+001F."""

    view: str
    entity: str


class Value(NamedTuple):
    """Packed feature values and the moment they are of, in microseconds since 1970 UTC."""

    time: int
    packed: bytes


class OnlineStore(Protocol):
    def put_many(self, values: Iterable[tuple[Key, Value]]) -> int:
        """Store values unless a newer one is there; returns how many were stored.

        The same value again counts 0; another value for the same time is a correction, replaces it and counts 1.
        """
        ...

    def get_many(self, keys: Sequence[Key]) -> list[Value | None]:
        """The value of each key, in order; None where there is none."""
        ...

    def count(self, view: str) -> int:
        """How many entities a view has values for."""
        ...

    def newest(self, view: str) -> int | None:
        """The time of the newest value of a view: its freshness. None when it has none."""
        ...

    def clear(self, view: str) -> None:
        """Forget all values of a view."""
        ...
