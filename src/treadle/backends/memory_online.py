"""The online store in memory, for tests and for a server that fills it anew at every start."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from treadle.ports.online import Key, Value


class MemoryOnline:
    """An online store for the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: dict[str, dict[str, Value]] = {}

    def put_many(self, values: Iterable[tuple[Key, Value]]) -> int:
        """Store values unless a newer one is there; returns how many were stored (an exact repeat is not)."""
        incoming = [(view, entity, Value(time, bytes(packed))) for (view, entity), (time, packed) in values]  # all is read before anything is stored
        stored = 0
        with self._lock:
            for view, entity, value in incoming:
                latest = self._views.setdefault(view, {})
                before = latest.get(entity)
                if before is None or value.time > before.time or (value.time == before.time and value.packed != before.packed):
                    latest[entity] = value
                    stored += 1
        return stored

    def get_many(self, keys: Sequence[Key]) -> list[Value | None]:
        with self._lock:
            return [self._views.get(view, {}).get(entity) for view, entity in keys]

    def count(self, view: str) -> int:
        with self._lock:
            return len(self._views.get(view, {}))

    def newest(self, view: str) -> int | None:
        with self._lock:
            return max((value.time for value in self._views.get(view, {}).values()), default=None)

    def clear(self, view: str) -> None:
        with self._lock:
            self._views.pop(view, None)

    def close(self) -> None:
        """Nothing is held."""
