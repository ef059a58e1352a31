"""Online features in one SQLite file: the latest value per view and entity, read in microseconds by primary key.

Written with synchronous=NORMAL: a value outlives the death of the process; a power cut may take the last moments of values,
which the feature views can compute again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from treadle.backends.sqlite_migrations import ONLINE
from treadle.backends.sqlite_sessions import BUSY_SECONDS, Session, Sessions, failure
from treadle.ports.online import Key, Value

_PUT = (
    "INSERT INTO latest (view, entity, time, packed, event) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT DO UPDATE SET time = excluded.time, packed = excluded.packed, event = excluded.event "
    "WHERE (excluded.event, excluded.time) > (coalesce(event, time), time) "
    "OR (excluded.event = coalesce(event, time) AND excluded.time = time AND excluded.packed <> packed)"
)
_ID = "INSERT INTO views (name) VALUES (?) ON CONFLICT DO UPDATE SET name = name RETURNING id"
_FRESHER = "UPDATE views SET newest = max(coalesce(newest, ?1), ?1) WHERE id = ?2"
_MANY = 20  # keys above which one IN query a view is faster
# One statement reads one consistent state by itself, which saves BEGIN and COMMIT on the way to a prediction.
_FEW = ["SELECT 0, 0, 0 WHERE 0"] + [
    " UNION ALL ".join(f"SELECT {number}, time, packed FROM latest WHERE view = ? AND entity = ?" for number in range(keys))
    for keys in range(1, _MANY + 1)
]
_BATCH = 500
_DELETE = "DELETE FROM latest WHERE view = (SELECT id FROM views WHERE name = ?) AND entity = ?"
_PIECE_ROWS = 2000
_COMPACT_MS = 1000  # that `compact` waits for another writer
_PIECE = (
    "SELECT entity, time, packed, coalesce(event, time) FROM latest WHERE view = (SELECT id FROM views WHERE name = ?1) "
    f"AND (?2 IS NULL OR entity > ?2) ORDER BY entity LIMIT {_PIECE_ROWS}"
)


class SqliteOnline:
    """An online store for one machine: any number of threads and processes may share the file."""

    def __init__(self, path: str | Path) -> None:
        self._sessions = Sessions(path, ONLINE, synchronous="NORMAL")
        self._views: dict[str, int] = {}  # rows of `views` are never removed, so what was once read stays true

    def put_many(self, values: Iterable[tuple[Key, Value]]) -> int:
        """Store values unless a newer one is there; returns how many were stored (an exact repeat is not)."""
        by_view: dict[str, list[tuple[str, int, bytes, int]]] = {}
        for key, (time, packed, event, _) in values:
            by_view.setdefault(key.view, []).append((key.entity, time, packed, time if event is None else event))
        stored = 0
        with self._sessions.mine().transaction() as connection:
            for name, rows in by_view.items():
                view = connection.execute(_ID, (name,)).fetchone()[0]
                newest: int | None
                if len({row[0] for row in rows}) == len(rows):
                    written = connection.executemany(_PUT, ((view, *row) for row in rows)).rowcount
                    newest = max(row[1] for row in rows) if written == len(rows) else _newest(connection, view, rows)
                else:  # one entity several times: each row is told whether it was stored
                    kept = [row[1] for row in rows if connection.execute(_PUT, (view, *row)).rowcount]
                    written, newest = len(kept), max(kept, default=None)
                stored += written
                if newest is not None:
                    connection.execute(_FRESHER, (newest, view))
        return stored

    def get_many(self, keys: Sequence[Key]) -> list[Value | None]:
        session = self._sessions.mine()
        try:
            if len(keys) > _MANY or any(view not in self._views for view, _ in keys):
                return self._snapshot(session, keys)
            values: list[int | str] = []
            for view, entity in keys:
                values += (self._views[view], entity)
            found: list[Value | None] = [None] * len(keys)
            for number, time, packed in session.connection.execute(_FEW[len(keys)], values):
                found[number] = Value(time, packed)
            return found
        except sqlite3.Error as error:
            raise failure(error, session.path) from error

    def count(self, view: str) -> int:
        session = self._sessions.mine()
        return int(session.rows("SELECT count(*) FROM latest WHERE view = (SELECT id FROM views WHERE name = ?)", (view,))[0][0])

    def newest(self, view: str) -> int | None:
        rows = self._sessions.mine().rows("SELECT newest FROM views WHERE name = ?", (view,))
        return rows[0][0] if rows else None

    def scan(self, view: str) -> Iterator[tuple[str, Value]]:
        after: str | None = None
        while True:  # in pieces: a cursor that stands open would keep the log from being written back
            rows = self._sessions.mine().rows(_PIECE, (view, after))
            for entity, time, packed, event in rows:
                yield entity, Value(time, packed, event)
            if len(rows) < _PIECE_ROWS:
                return
            after = rows[-1][0]

    def compact(self) -> None:
        execute = self._sessions.mine().connection.execute
        with suppress(sqlite3.Error):  # another writes, or the disk has no room for a second copy: then it stays as it is
            try:
                execute(f"PRAGMA busy_timeout = {_COMPACT_MS}")
                execute("VACUUM")  # pages that values were added to one by one are a tenth empty
                execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")

    def forget(self, view: str, entities: Iterable[str]) -> int:
        """Remove values, and what is left of them in free pages and in the write-ahead log: the file is written anew.

        Raises Unavailable when a reader holds the log for too long: the values are gone for every reader then, their bytes are not; do it again.
        """
        wanted = list(dict.fromkeys(entities))
        session = self._sessions.mine()
        gone = 0
        with session.transaction() as connection:
            for entity in wanted:
                gone += connection.execute(_DELETE, (view, entity)).rowcount
            if gone:
                connection.execute("UPDATE views SET newest = (SELECT max(time) FROM latest WHERE view = views.id) WHERE name = ?", (view,))
        if wanted:  # also when nothing was there: an earlier call may have been killed before its end
            self._sessions.scrub()
        return gone

    def clear(self, view: str) -> None:
        with self._sessions.mine().transaction() as connection:
            connection.execute("DELETE FROM latest WHERE view = (SELECT id FROM views WHERE name = ?)", (view,))
            connection.execute("UPDATE views SET newest = NULL WHERE name = ?", (view,))

    def close(self) -> None:
        """Close the connections of all threads."""
        self._sessions.close()

    def _snapshot(self, session: Session, keys: Sequence[Key]) -> list[Value | None]:
        """The same through several queries, so inside a read transaction."""
        execute = session.connection.execute
        entities: dict[str, list[str]] = {}
        for view, entity in keys:
            if view in entities:
                entities[view].append(entity)
            else:
                entities[view] = [entity]
        found: dict[str, dict[str, Value]] = {}
        new = tuple.__new__  # Value(...) would go through a function of Python for each
        execute("BEGIN")
        try:
            if any(view not in self._views for view in entities):
                self._views.update(execute("SELECT name, id FROM views"))
            for view, wanted in entities.items():
                number, held = self._views.get(view), found.setdefault(view, {})
                for start in range(0, len(wanted), _BATCH):
                    batch = wanted[start : start + _BATCH]
                    for entity, time, packed in execute(_among(len(batch)), (number, *batch)):
                        held[entity] = new(Value, (time, packed, None, None))
        finally:
            execute("COMMIT")
        return [found[view].get(entity) for view, entity in keys]


@cache
def _among(count: int) -> str:
    return f"SELECT entity, time, packed FROM latest WHERE view = ? AND entity IN ({', '.join('?' * count)})"


def _newest(connection: sqlite3.Connection, view: int, rows: Sequence[tuple[str, int, bytes, int]]) -> int | None:
    """The latest time among the rows that are there: those that came too late are not."""
    for entity, time, _, _ in sorted(rows, key=lambda row: -row[1]):
        if connection.execute("SELECT time FROM latest WHERE view = ? AND entity = ?", (view, entity)).fetchone()[0] == time:
            return time
    return None
