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

_GET = "SELECT time, packed FROM latest WHERE view = ? AND entity = ?"
_PUT = (
    "INSERT INTO latest (view, entity, time, packed) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET time = excluded.time, packed = excluded.packed "
    "WHERE excluded.time > time OR (excluded.time = time AND excluded.packed <> packed)"
)
_FRESHER = (
    "INSERT INTO views (name, newest) VALUES (?, ?) "
    "ON CONFLICT DO UPDATE SET newest = max(coalesce(newest, excluded.newest), excluded.newest) RETURNING id"
)
_MANY = 20  # keys of one view from which one IN query is faster than a query a key
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
        execute = session.connection.execute
        alone = len(keys) < 2 or session.depth > 0  # one statement is consistent by itself
        try:
            if not alone:
                execute("BEGIN")
            try:
                if len(keys) > _MANY:
                    return self._get_batches(session, keys)
                found: list[Value | None] = []
                for view, entity in keys:
                    number = self._views.get(view) or self._view(session, view)
                    row = execute(_GET, (number, entity)).fetchone()
                    found.append(None if row is None else Value(row[0], row[1]))
                return found
            finally:
                if not alone:
                    execute("COMMIT")
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

    def _view(self, session: Session, name: str) -> int | None:
        row = session.connection.execute("SELECT id FROM views WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        self._views[name] = row[0]
        return int(row[0])

    def _get_batches(self, session: Session, keys: Sequence[Key]) -> list[Value | None]:
        entities: dict[str, list[str]] = {}
        for view, entity in keys:
            entities.setdefault(view, []).append(entity)
        found: dict[tuple[str, str], Value] = {}
        for view, wanted in entities.items():
            number = self._views.get(view) or self._view(session, view)
            for start in range(0, len(wanted), _BATCH):
                batch = wanted[start : start + _BATCH]
                among = f"SELECT entity, time, packed FROM latest WHERE view = ? AND entity IN ({', '.join('?' * len(batch))})"
                for entity, time, packed in session.connection.execute(among, (number, *batch)):
                    found[view, entity] = Value(time, packed)
        return [found.get(key) for key in keys]
