"""Online features in PostgreSQL: the latest value per view and entity, for a team that has a database and no Redis."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from treadle.backends.postgres_migrations import ONLINE
from treadle.backends.postgres_sessions import Session, Sessions, Statement
from treadle.core.errors import Unavailable
from treadle.ports.online import Key, Value

SECONDS = 5.0  # for an answer, whether the server is slow or silent
CONNECT_SECONDS = 2  # the least libpq knows
LONG_SECONDS = 600.0  # to remove many rows
_BATCH = 2000
_BEGIN, _COMMIT = ("BEGIN", ()), ("COMMIT", ())
_PUT = """
WITH put AS (
    INSERT INTO latest AS held (view, entity, time, packed, event)
    SELECT %s, * FROM unnest(%b::bytea[], %b::bigint[], %b::bytea[], %b::bigint[])
    ON CONFLICT (view, entity) DO UPDATE SET time = excluded.time, packed = excluded.packed, event = excluded.event
    WHERE (excluded.event, excluded.time) > (coalesce(held.event, held.time), held.time)
        OR (excluded.event = coalesce(held.event, held.time) AND excluded.time = held.time AND excluded.packed <> held.packed)
    RETURNING time
), fresh AS (
    UPDATE views SET newest = greatest(newest, (SELECT max(time) FROM put)) WHERE id = %s AND EXISTS (SELECT FROM put)
)
SELECT count(*) FROM put
"""
_GET = """
SELECT asked.number, held.time, held.packed FROM unnest(%b::int[], %b::bytea[]) WITH ORDINALITY AS asked (view, entity, number)
JOIN latest AS held ON held.view = asked.view AND held.entity = asked.entity
"""
_PIECE = """
SELECT entity, time, packed, coalesce(event, time) FROM latest
WHERE view = (SELECT id FROM views WHERE name = %s) AND entity > %s ORDER BY entity LIMIT 2000
"""
_THIS = "(SELECT id FROM views WHERE name = %s)"
_DELETE = f"WITH gone AS (DELETE FROM latest WHERE view = {_THIS} AND entity = ANY(%s) RETURNING 1) SELECT count(*) FROM gone"


class PostgresOnline:
    """An online store that any number of machines share."""

    def __init__(self, url: str) -> None:
        self._url = _bounded(url)
        self._made: Sessions | None = None
        self._making = threading.Lock()
        self._views: dict[str, int] = {}  # rows of `views` are never removed, so what was once read stays true
        with suppress(Unavailable):  # an address that cannot be used is said now; a server that is down may come back
            _ = self._sessions

    def put_many(self, values: Iterable[tuple[Key, Value]]) -> int:
        """Store values unless a newer one is there; returns how many were stored (an exact repeat is not)."""
        by_view: dict[str, list[list[tuple[bytes, int, bytes, int]]]] = {}
        seen: dict[Key, int] = {}
        for key, (time, packed, event, _) in values:
            rounds = by_view.setdefault(key.view, [])
            again = seen[key] = seen.get(key, -1) + 1  # one statement may touch a row once: what comes again waits for the next
            if again == len(rounds):
                rounds.append([])
            rounds[again].append((key.entity.encode(), time, packed, time if event is None else event))
        if not by_view:
            return 0
        self._know(by_view)
        ids = sorted(self._views[name] for name in by_view)
        puts = []
        for name, rounds in by_view.items():
            for rows in rounds:
                for at in range(0, len(rows), _BATCH):
                    puts.append((_PUT, (self._views[name], *map(list, zip(*rows[at : at + _BATCH])), self._views[name])))
        # Writers of a view take turns, by its row: they would wait for each other in a circle otherwise.
        turn = ("SELECT FROM views WHERE id = ANY(%s) ORDER BY id FOR UPDATE", (ids,))
        with self._sessions.mine() as session:
            _limit(session, LONG_SECONDS)
            answers = _together(session, turn, *puts)
        return sum(rows[0][0] for rows in answers[1:])

    def get_many(self, keys: Sequence[Key]) -> list[Value | None]:
        found: list[Value | None] = [None] * len(keys)
        if not keys:
            return found
        views = self._views
        if any(view not in views for view, _ in keys):
            self._read_views()
        asked = ([views.get(view, 0) for view, _ in keys], [entity.encode() for _, entity in keys])
        for number, time, packed in self._rows(_GET, asked):
            found[number - 1] = Value(time, bytes(packed))
        return found

    def scan(self, view: str) -> Iterator[tuple[str, Value]]:
        after, first = b"", True
        while True:
            rows = self._rows(_PIECE if not first else _PIECE.replace("entity >", "entity >="), (view.encode(), after))
            for entity, time, packed, event in rows:
                yield bytes(entity).decode(), Value(time, bytes(packed), event)
            if len(rows) < _BATCH:
                return
            after, first = bytes(rows[-1][0]), False

    def count(self, view: str) -> int:
        return int(self._rows(f"SELECT count(*) FROM latest WHERE view = {_THIS}", (view.encode(),))[0][0])

    def newest(self, view: str) -> int | None:
        rows = self._rows("SELECT newest FROM views WHERE name = %s", (view.encode(),))
        return rows[0][0] if rows else None

    def compact(self) -> None:
        """Nothing to do: the server's own vacuum sees to it."""

    def forget(self, view: str, entities: Iterable[str]) -> int:
        """Remove values and write the table anew, so that no page holds them; reads wait meanwhile.

        The server's own log holds them until it is recycled.
        """
        name, wanted = view.encode(), [entity.encode() for entity in dict.fromkeys(entities)]
        if not wanted:
            return 0
        with self._sessions.mine() as session:
            _limit(session, LONG_SECONDS)
            removed = _together(
                session,
                (_DELETE, (name, wanted)),
                ("UPDATE views SET newest = (SELECT max(time) FROM latest WHERE view = views.id) WHERE name = %s", (name,)),
            )
            session.run(("VACUUM FULL latest", ()))
        return int(removed[0][0][0])

    def clear(self, view: str) -> None:
        name = view.encode()
        with self._sessions.mine() as session:
            _limit(session, LONG_SECONDS)
            _together(session, (f"DELETE FROM latest WHERE view = {_THIS}", (name,)), ("UPDATE views SET newest = NULL WHERE name = %s", (name,)))

    def close(self) -> None:
        """Close the connections. Used again, the store opens anew."""
        if self._made is not None:
            self._made.close()

    @property
    def _sessions(self) -> Sessions:
        if self._made is None:
            with self._making:
                if self._made is None:
                    self._made = Sessions(self._url, ONLINE)
        return self._made

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._sessions.mine() as session:
            _limit(session, SECONDS)
            return session.run((sql, values))[0]

    def _know(self, views: Iterable[str]) -> None:
        """Give each view a number."""
        unknown = [view.encode() for view in views if view not in self._views]
        if unknown:
            self._rows("INSERT INTO views (name) SELECT unnest(%s::bytea[]) ON CONFLICT (name) DO NOTHING", (unknown,))
            self._read_views()

    def _read_views(self) -> None:
        self._views.update((bytes(name).decode(), id) for id, name in self._rows("SELECT id, name FROM views", ()))


def _together(session: Session, *statements: Statement) -> list[list[Any]]:
    """All in one transaction. (Not `session.write`: that would have the ledger's writers wait for ours.)"""
    try:
        return session.run(_BEGIN, *statements, _COMMIT)[1:-1]
    except BaseException:
        session.undo()
        raise


def _limit(session: Session, seconds: float) -> None:
    """How long the next answers may take. A server that is silent, with its connections open, would be waited for for ever."""
    connection = session.connection
    connection.wait = partial(type(connection).wait, connection, timeout=seconds)  # type: ignore[method-assign]


def _bounded(url: str) -> str:
    """The address, with our bounds of time where it names none."""
    return url if "connect_timeout=" in url else f"{url}{'&' if '?' in url else '?' if '//' in url else '//?'}connect_timeout={CONNECT_SECONDS}"
