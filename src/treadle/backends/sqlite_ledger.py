"""The ledger in one SQLite file: what is acknowledged has been forced to the disk (WAL, synchronous=FULL)."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from treadle.backends import json_text
from treadle.backends.ledger_rows import EVENT, asked_events, check_chain, conflict, event, everything, record
from treadle.backends.ledger_where import Condition, conditions
from treadle.backends.moments import from_micros, micros
from treadle.backends.sqlite_migrations import LEDGER
from treadle.backends.sqlite_sessions import Sessions
from treadle.core.canonical import plain
from treadle.core.clock import SystemClock, iso, parse_time
from treadle.core.records import GENESIS, Event, Link, Point, Record, Ref, chain_hash

_PLAIN = re.compile(r"[a-z_]{1,50}")
_ROWS_AT_ONCE = tuple(1 << k for k in range(9, -1, -1))  # 512 rows are 2,048 values; SQLite takes 32,766
_FOUR = "(?, ?, ?, ?)"


class SqliteLedger:
    """A ledger for one machine: any number of threads and processes may share the file.

    Args:
        path: the database file; it and its folder are created when missing, older files are migrated.
    """

    def __init__(self, path: str | Path) -> None:
        self._sessions = Sessions(path, LEDGER, synchronous="FULL")

    def __reduce__(self) -> tuple[object, ...]:
        return (SqliteLedger, (self._sessions.path,))

    def put(self, kind: str, id: str, body: Mapping[str, Any], *, expect: int | None = None) -> Record:
        text = json_text.write(body)
        with self._writing() as connection:
            found = connection.execute("SELECT version, created_at FROM records WHERE kind = ? AND id = ?", (kind, id)).fetchone()
            version, created = found or (0, "")
            if expect is not None and expect != version:
                raise conflict(kind, id, version, expect)
            now = iso(SystemClock().now())
            if version:
                change = "UPDATE records SET body = ?, version = version + 1, updated_at = ? WHERE kind = ? AND id = ?"
                connection.execute(change, (text, now, kind, id))
            else:
                connection.execute("INSERT INTO records VALUES (?, ?, ?, 1, ?, ?)", (kind, id, text, now, now))
        return Record(kind, id, json_text.read(text), version + 1, created or now, now)

    def get(self, kind: str, id: str) -> Record | None:
        rows = self._rows("SELECT kind, id, body, version, created_at, updated_at FROM records WHERE kind = ? AND id = ?", (kind, id))
        return record(rows[0]) if rows else None

    def find(
        self, kind: str, where: Mapping[str, Any] | None = None, *, newest_first: bool = False, limit: int | None = None, after: str | None = None,
        past: tuple[str, str] | None = None,
    ) -> list[Record]:  # fmt: skip
        asked, values = _asked(kind, where)
        sql = f"SELECT kind, id, body, version, created_at, updated_at FROM records WHERE {asked}"
        if after is not None:
            sql += " AND created_at > ?"
            values.append(iso(parse_time(after)))
        if past is not None:
            sql += f" AND (created_at, id) {'<' if newest_first else '>'} (?, ?)"
            values += [iso(parse_time(past[0])), past[1]]
        order = "DESC" if newest_first else "ASC"
        sql += f" ORDER BY created_at {order}, id {order}"
        if limit is not None:
            sql += f" LIMIT {max(0, int(limit))}"
        return [record(row) for row in self._rows(sql, values)]

    def count(self, kind: str, where: Mapping[str, Any] | None = None) -> int:
        asked, values = _asked(kind, where)
        return int(self._rows(f"SELECT count(*) FROM records WHERE {asked}", values)[0][0])

    def link(self, link: Link) -> None:
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO links (source_kind, source_id, relation, target_kind, target_id) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (link.source.kind, link.source.id, link.relation, link.target.kind, link.target.id),
            )

    def links(self, ref: Ref, *, back: bool = False, relation: str | None = None) -> list[Link]:
        end = "target" if back else "source"
        rows = self._rows(
            f"SELECT source_kind, source_id, relation, target_kind, target_id FROM links "
            f"WHERE {end}_kind = ? AND {end}_id = ? AND relation = coalesce(?, relation) ORDER BY id",
            (ref.kind, ref.id, relation),
        )
        return [Link(Ref(row[0], row[1]), row[2], Ref(row[3], row[4])) for row in rows]

    def append(self, kind: str, subject: Ref, body: Mapping[str, Any] | None = None, *, actor: str = "treadle") -> Event:
        said = plain(body or {})
        with self._writing() as connection:
            seq, previous = connection.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone() or (0, GENESIS)
            made = Event(kind, subject, actor, said, seq + 1, iso(SystemClock().now()), previous)
            made = replace(made, hash=chain_hash(made))
            connection.execute(
                f"INSERT INTO events ({EVENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (made.seq, made.time, kind, subject.kind, subject.id, actor, json_text.write(said), previous, made.hash),
            )
        return made

    def events_since(
        self, seq: int = 0, *, limit: int = 1000, kinds: Sequence[str] = (), actor: str = "", subject_kind: str = "", subject_id: str = "",
        since: str = "", until: str = "",
    ) -> list[Event]:  # fmt: skip
        asked, values = asked_events("?", "seq >", seq, kinds, actor, subject_kind, subject_id, since, until)
        rows = self._rows(f"SELECT {EVENT} FROM events{asked} ORDER BY seq LIMIT ?", (*values, max(0, limit)))
        return [event(row) for row in rows]

    def events_before(
        self, seq: int | None = None, *, limit: int = 100, kinds: Sequence[str] = (), actor: str = "", subject_kind: str = "", subject_id: str = "",
        since: str = "", until: str = "",
    ) -> list[Event]:  # fmt: skip
        asked, values = asked_events("?", "seq <", seq, kinds, actor, subject_kind, subject_id, since, until)
        rows = self._rows(f"SELECT {EVENT} FROM events{asked} ORDER BY seq DESC LIMIT ?", (*values, max(0, limit)))
        return [event(row) for row in rows]

    def log_points(self, points: Iterable[Point]) -> None:
        now = micros(iso(SystemClock().now()))
        rows = [((p.run, p.name), p.step, micros(p.time) if p.time else now, float(p.value)) for p in points]
        with self._writing() as connection:
            ids = {key: _metric(connection, *key) for key in dict.fromkeys(row[0] for row in rows)}
            _insert_points(connection, [value for key, *rest in rows for value in (ids[key], *rest)])

    def points(self, run: str, name: str | None = None) -> list[Point]:
        rows = self._rows(
            "SELECT m.name, p.value, p.step, p.time FROM metrics m JOIN points p ON p.metric = m.id "
            "WHERE m.run = ? AND m.name = coalesce(?, m.name) ORDER BY m.name, p.step, p.id",
            (run, name),
        )
        return [Point(run, row[0], math.nan if row[1] is None else row[1], row[2], from_micros(row[3])) for row in rows]

    def last_points(self, run: str | None = None, name: str | None = None) -> list[Point]:
        which = " AND ".join(f"m.{column} = ?" for column, value in (("run", run), ("name", name)) if value is not None)
        rows = self._rows(
            "SELECT m.run, m.name, p.value, p.step, p.time FROM metrics m "
            "JOIN points p ON p.id = (SELECT q.id FROM points q WHERE q.metric = m.id ORDER BY q.step DESC, q.id DESC LIMIT 1) "
            f"{'WHERE ' + which if which else ''} ORDER BY m.run, m.name",
            [value for value in (run, name) if value is not None],
        )
        moments: dict[int, str] = {}
        return [Point(r, n, math.nan if v is None else v, s, _text(t, moments)) for r, n, v, s, t in rows]

    def best_points(
        self, name: str, *, most: bool = True, at_least: float | None = None, at_most: float | None = None, limit: int = 100
    ) -> list[Point]:
        limits = "".join(f" AND p.value {sign} ?" for sign, value in ((">=", at_least), ("<=", at_most)) if value is not None)
        rows = self._rows(
            "SELECT m.run, p.value, p.step, p.time FROM metrics m "
            "JOIN points p ON p.id = (SELECT q.id FROM points q WHERE q.metric = m.id ORDER BY q.step DESC, q.id DESC LIMIT 1) "
            f"WHERE m.name = ? AND p.value IS NOT NULL{limits} ORDER BY p.value {'DESC' if most else ''}, m.run LIMIT ?",
            [name, *(value for value in (at_least, at_most) if value is not None), limit],
        )
        moments: dict[int, str] = {}
        return [Point(r, name, v, s, _text(t, moments)) for r, v, s, t in rows]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._writing():
            yield

    def verify_chain(self) -> int:
        """Read the whole event log again and return how many events it has. Raises Corrupt naming the first that is not as it was written."""
        sql = f"SELECT {EVENT} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        return check_chain(lambda seq, limit: self._rows(sql, (seq, limit)), str(self._sessions.path))

    def everything(self) -> Iterator[tuple[Ref, str]]:
        """Each record, link, event and metric name as it is kept."""
        return everything(self._rows)

    def scrub(self) -> list[str]:
        """Make what was replaced or removed unreadable. Raises Unavailable, StorageError."""
        self._sessions.scrub()
        return []

    def close(self) -> None:
        """Close the connections of all threads."""
        self._sessions.close()

    def _writing(self) -> Any:
        return self._sessions.mine().transaction()

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._sessions.mine().rows(sql, values)


def _text(time: int, known: dict[int, str]) -> str:
    found = known.get(time)
    if found is None:
        found = known[time] = from_micros(time)
    return found


def _asked(kind: str, where: Mapping[str, Any] | None) -> tuple[str, list[Any]]:
    """The condition that a kind and `where` make, and what it compares with."""
    # Written out, not a parameter: an index that holds one kind only is used when the text says which.
    said, values = (f"'{kind}'", []) if _PLAIN.fullmatch(kind) else ("?", [kind])
    sql = f"kind = {said}"
    for condition in conditions(where):
        sql += f" AND {_sql(condition)}"
        values += condition.texts
    return sql, values


def _sql(condition: Condition) -> str:
    # The path is a literal, not a parameter, so that a later migration can index the expression of a field that is asked for often.
    field = "body -> '$" + "".join(f'."{name}"' for name in condition.path).replace("'", "''") + "'"
    among = f"({field}) IN ({', '.join('?' * len(condition.texts))})"
    return f"({among} OR ({field}) IS NULL)" if condition.or_absent else among


def _insert_points(connection: sqlite3.Connection, values: list[Any]) -> None:
    """Many rows a statement, in ever smaller powers of two: each statement gives the interpreter's lock away once, and a caller that computes
    without pause keeps it for milliseconds each time."""
    done = 0
    for rows in _ROWS_AT_ONCE:
        while len(values) - done >= 4 * rows:
            many = ", ".join([_FOUR] * rows)
            connection.execute(f"INSERT INTO points (metric, step, time, value) VALUES {many}", values[done : done + 4 * rows])
            done += 4 * rows


def _metric(connection: sqlite3.Connection, run: str, name: str) -> int:
    connection.execute("INSERT INTO metrics (run, name) VALUES (?, ?) ON CONFLICT DO NOTHING", (run, name))
    return int(connection.execute("SELECT id FROM metrics WHERE run = ? AND name = ?", (run, name)).fetchone()[0])
