"""Online features in one SQLite file: the latest value per view and entity, read in microseconds by primary key.

Written with synchronous=NORMAL: a value outlives the death of the process; a power cut may take the last moments of values,
which the feature views can compute again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from treadle.backends.sqlite_migrations import ONLINE
from treadle.backends.sqlite_sessions import Session, Sessions, failure
from treadle.ports.online import Key, Value

_PUT = (
    "INSERT INTO latest (view, entity, time, packed) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET time = excluded.time, packed = excluded.packed "
    "WHERE excluded.time > time OR (excluded.time = time AND excluded.packed <> packed)"
)
_FRESHER = (
    "INSERT INTO views (name, newest) VALUES (?, ?) "
    "ON CONFLICT DO UPDATE SET newest = max(coalesce(newest, excluded.newest), excluded.newest) RETURNING id"
)
_MANY = 20  # keys above which one IN query a view is faster
# One statement reads one consistent state by itself, which saves BEGIN and COMMIT on the way to a prediction.
_FEW = ["SELECT 0, 0, 0 WHERE 0"] + [
    " UNION ALL ".join(f"SELECT {number}, time, packed FROM latest WHERE view = ? AND entity = ?" for number in range(keys))
    for keys in range(1, _MANY + 1)
]
_BATCH = 500


class SqliteOnline:
    """An online store for one machine: any number of threads and processes may share the file."""

    def __init__(self, path: str | Path) -> None:
        self._sessions = Sessions(path, ONLINE, synchronous="NORMAL")
        self._views: dict[str, int] = {}  # rows of `views` are never removed, so what was once read stays true

    def put_many(self, values: Iterable[tuple[Key, Value]]) -> int:
        """Store values unless a newer one is there; returns how many were stored (an exact repeat is not)."""
        by_view: dict[str, list[tuple[str, int, bytes]]] = {}
        for key, value in values:
            by_view.setdefault(key.view, []).append((key.entity, value.time, value.packed))
        stored = 0
        with self._sessions.mine().transaction() as connection:
            for name, rows in by_view.items():
                newest = max(row[1] for row in rows)
                view = connection.execute(_FRESHER, (name, newest)).fetchone()[0]
                stored += connection.executemany(_PUT, ((view, *row) for row in rows)).rowcount
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
            entities.setdefault(view, []).append(entity)
        found: dict[tuple[str, str], Value] = {}
        execute("BEGIN")
        try:
            self._views.update(execute("SELECT name, id FROM views"))
            for view, wanted in entities.items():
                for start in range(0, len(wanted), _BATCH):
                    batch = wanted[start : start + _BATCH]
                    among = f"SELECT entity, time, packed FROM latest WHERE view = ? AND entity IN ({', '.join('?' * len(batch))})"
                    for entity, time, packed in execute(among, (self._views.get(view), *batch)):
                        found[view, entity] = Value(time, packed)
        finally:
            execute("COMMIT")
        return [found.get((view, entity)) for view, entity in keys]
