"""The online store in memory, for tests and for a server that fills it anew at every start."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

from treadle.ports.online import Key, Value


class MemoryOnline:
    """An online store for the threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._views: dict[str, dict[str, tuple[int, Value]]] = {}  # (event, value without it)
        self._newest: dict[str, int] = {}

    def put_many(self, values: Iterable[tuple[Key, Value]]) -> int:
        """Store values unless a newer one is there; returns how many were stored (an exact repeat is not)."""
        incoming = [  # all is read before anything is stored
            (view, entity, value.time if value.event is None else value.event, Value(value.time, bytes(value.packed)))
            for (view, entity), value in values
        ]
        stored = 0
        with self._lock:
            for view, entity, event, value in incoming:
                latest = self._views.setdefault(view, {})
                event_before, before = latest.get(entity, (event, None))
                if before is not None and ((event, value.time) < (event_before, before.time) or (event, value) == (event_before, before)):
                    continue
                latest[entity] = (event, value)
                self._newest[view] = max(self._newest.get(view, value.time), value.time)
                stored += 1
        return stored

    def get_many(self, keys: Sequence[Key]) -> list[Value | None]:
        nothing: tuple[int, Value | None] = (0, None)
        with self._lock:
            return [self._views.get(view, {}).get(entity, nothing)[1] for view, entity in keys]

    def scan(self, view: str) -> Iterator[tuple[str, Value]]:
        with self._lock:
            found = list(self._views.get(view, {}).items())
        for entity, (event, value) in found:
            yield entity, value._replace(event=event)

    def count(self, view: str) -> int:
        with self._lock:
            return len(self._views.get(view, {}))

    def newest(self, view: str) -> int | None:
        with self._lock:
            return self._newest.get(view)

    def compact(self) -> None:
        """Nothing to do: values lie in a dictionary."""

    def forget(self, view: str, entities: Iterable[str]) -> int:
        wanted = set(entities)
        with self._lock:
            latest = self._views.get(view, {})
            gone = sum(latest.pop(entity, None) is not None for entity in wanted)
            if gone:
                times = [value.time for _, value in latest.values()]
                self._newest = {**{v: t for v, t in self._newest.items() if v != view}, **({view: max(times)} if times else {})}
        return gone

    def clear(self, view: str) -> None:
        with self._lock:
            self._views.pop(view, None)
            self._newest.pop(view, None)

    def close(self) -> None:
        """Nothing is held."""
