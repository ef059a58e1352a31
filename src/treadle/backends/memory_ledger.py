"""The ledger in memory: the promises of the real one except surviving the process, for tests and for trying things out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from treadle.backends import json_text
from treadle.backends.ledger_rows import conflict
from treadle.backends.ledger_where import conditions
from treadle.backends.moments import from_micros, micros
from treadle.core.canonical import plain
from treadle.core.clock import SystemClock, iso, parse_time
from treadle.core.errors import Corrupt
from treadle.core.records import GENESIS, Event, Link, Point, Record, Ref, chain_hash


class MemoryLedger:
    """A ledger for the threads of one process.

    Bodies are kept as the same JSON text as on disk, so that nobody can change a stored body by holding on to it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # held through a whole transaction: a reader waits, so it never sees half of one
        self._undo: list[Callable[[], object]] = []
        self._depth = 0
        self._records: dict[tuple[str, str], tuple[str, int, str, str]] = {}
        self._links: dict[Link, None] = {}
        self._events: list[tuple[Event, str]] = []
        self._points: list[Point] = []

    def put(self, kind: str, id: str, body: Mapping[str, Any], *, expect: int | None = None) -> Record:
        text = json_text.write(body)
        with self.transaction():
            before = self._records.get((kind, id))
            version, created = (before[1], before[2]) if before else (0, "")
            if expect is not None and expect != version:
                raise conflict(kind, id, version, expect)
            now = iso(SystemClock().now())
            self._undo.append(partial(self._restore, (kind, id), before))
            self._records[kind, id] = (text, version + 1, created or now, now)
        return Record(kind, id, json_text.read(text), version + 1, created or now, now)

    def get(self, kind: str, id: str) -> Record | None:
        with self._lock:
            row = self._records.get((kind, id))
        return None if row is None else Record(kind, id, json_text.read(row[0]), *row[1:])

    def find(
        self, kind: str, where: Mapping[str, Any] | None = None, *, newest_first: bool = False, limit: int | None = None, after: str | None = None,
        past: tuple[str, str] | None = None,
    ) -> list[Record]:  # fmt: skip
        wanted = conditions(where)
        since = "" if after is None else iso(parse_time(after))
        with self._lock:
            rows = [(id, row) for (of, id), row in self._records.items() if of == kind and row[2] > since]
        found = [Record(kind, id, json_text.read(row[0]), *row[1:]) for id, row in rows]
        found = [record for record in found if all(condition.holds(record.body) for condition in wanted)]
        found.sort(key=lambda record: (record.created_at, record.id), reverse=newest_first)
        if past is not None:
            mark = (iso(parse_time(past[0])), past[1])
            found = [r for r in found if ((r.created_at, r.id) < mark if newest_first else (r.created_at, r.id) > mark)]
        return found if limit is None else found[: max(0, limit)]

    def count(self, kind: str, where: Mapping[str, Any] | None = None) -> int:
        return len(self.find(kind, where))

    def link(self, link: Link) -> None:
        with self.transaction():
            if link not in self._links:
                self._undo.append(partial(self._links.pop, link))
                self._links[link] = None

    def links(self, ref: Ref, *, back: bool = False, relation: str | None = None) -> list[Link]:
        with self._lock:
            near = [link for link in self._links if (link.target if back else link.source) == ref]
        return [link for link in near if relation in (None, link.relation)]

    def append(self, kind: str, subject: Ref, body: Mapping[str, Any] | None = None, *, actor: str = "treadle") -> Event:
        said = plain(body or {})
        with self.transaction():
            previous = self._events[-1][0].hash if self._events else GENESIS
            event = Event(kind, subject, actor, said, len(self._events) + 1, iso(SystemClock().now()), previous)
            event = replace(event, hash=chain_hash(event))
            self._undo.append(self._events.pop)
            self._events.append((replace(event, body={}), json_text.write(said)))
        return event

    def events_since(
        self, seq: int = 0, *, limit: int = 1000, kinds: Sequence[str] = (), actor: str = "", subject_kind: str = "", subject_id: str = "",
        since: str = "", until: str = "",
    ) -> list[Event]:  # fmt: skip
        with self._lock:
            rows = self._events[max(0, seq) :]
        return _chosen(rows, limit, kinds, actor, subject_kind, subject_id, since, until)

    def events_before(
        self, seq: int | None = None, *, limit: int = 100, kinds: Sequence[str] = (), actor: str = "", subject_kind: str = "", subject_id: str = "",
        since: str = "", until: str = "",
    ) -> list[Event]:  # fmt: skip
        with self._lock:
            rows = self._events[: None if seq is None else max(0, seq - 1)][::-1]
        return _chosen(rows, limit, kinds, actor, subject_kind, subject_id, since, until)

    def log_points(self, points: Iterable[Point]) -> None:
        now = iso(SystemClock().now())
        rows = [Point(p.run, p.name, float(p.value), p.step, from_micros(micros(p.time)) if p.time else now) for p in points]
        with self.transaction():
            self._undo.append(partial(self._points.__delitem__, slice(len(self._points), None)))
            self._points.extend(rows)

    def points(self, run: str, name: str | None = None) -> list[Point]:
        with self._lock:
            found = [p for p in self._points if p.run == run and name in (None, p.name)]
        return sorted(found, key=lambda p: (p.name, p.step))

    def last_points(self, run: str | None = None, name: str | None = None) -> list[Point]:
        last: dict[tuple[str, str], Point] = {}
        with self._lock:
            for p in self._points:
                if run in (None, p.run) and name in (None, p.name) and ((p.run, p.name) not in last or p.step >= last[p.run, p.name].step):
                    last[p.run, p.name] = p
        return [last[key] for key in sorted(last)]

    def best_points(
        self, name: str, *, most: bool = True, at_least: float | None = None, at_most: float | None = None, limit: int = 100
    ) -> list[Point]:
        low, high = (-math.inf if at_least is None else at_least), (math.inf if at_most is None else at_most)
        kept = [p for p in self.last_points(name=name) if low <= p.value <= high]
        return sorted(kept, key=lambda p: (-p.value if most else p.value, p.run))[:limit]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._lock:
            mark = len(self._undo)
            self._depth += 1
            try:
                yield
            except BaseException:
                while len(self._undo) > mark:
                    self._undo.pop()()
                raise
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._undo.clear()

    def verify_chain(self) -> int:
        """Hash the whole event log again and return how many events it has. Raises Corrupt naming the first that is not as it was written."""
        previous = GENESIS
        for number, event in enumerate(self.events_since(limit=len(self._events)), start=1):
            if event.seq != number or event.previous != previous or chain_hash(event) != event.hash:
                raise Corrupt(f"Event {number} is missing, moved or changed since it was written.")
            previous = event.hash
        return len(self._events)

    def everything(self) -> Iterator[tuple[Ref, str]]:
        """Each record, link, event and metric name as it is kept."""
        with self._lock:
            yield from [(Ref(kind, id), f"{id}\n{row[0]}") for (kind, id), row in sorted(self._records.items())]
            yield from [(Ref("event", str(e.seq)), "\n".join([e.kind, e.subject.kind, e.subject.id, e.actor, body])) for e, body in self._events]
            yield from [(Ref("link", str(i)), f"{k.source.id}\n{k.relation}\n{k.target.id}") for i, k in enumerate(self._links, 1)]
            yield from [(Ref("metric", str(i)), f"{run}\n{name}") for i, (run, name) in enumerate(sorted({(p.run, p.name) for p in self._points}), 1)]

    def scrub(self) -> list[str]:
        """Nothing is left of what was replaced."""
        return []

    def close(self) -> None:
        """Nothing is held."""

    def _restore(self, key: tuple[str, str], before: tuple[str, int, str, str] | None) -> None:
        if before is None:
            del self._records[key]
        else:
            self._records[key] = before


def _chosen(
    rows: list[tuple[Event, str]], limit: int, kinds: Sequence[str], actor: str, subject_kind: str, subject_id: str, since: str, until: str
) -> list[Event]:  # fmt: skip
    begin, end = (iso(parse_time(moment)) if moment else "" for moment in (since, until))
    chosen = [
        (event, text) for event, text in rows
        if (not kinds or any(event.kind.startswith(k) if k.endswith(".") else event.kind == k for k in kinds))
        and actor in ("", event.actor) and subject_kind in ("", event.subject.kind) and subject_id in ("", event.subject.id)
        and begin <= event.time and (not end or event.time < end)
    ]  # fmt: skip
    return [replace(event, body=json_text.read(text)) for event, text in chosen[: max(0, limit)]]
