"""The ledger in a PostgreSQL schema, for a team: any number of machines, and one clock, the server's.

Writers take turns by an advisory lock, as they do in SQLite, so that what a transaction reads stays so until it has written, times of creation
come in the order of the commits, and events form one chain. Readers wait for nobody. Except inside `transaction()`, a verb is one message to the
server and back: how far away a client is does not lengthen its turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from treadle.backends import json_text
from treadle.backends.ledger_rows import EVENT, asked_events, check_chain, conflict, event, everything, record
from treadle.backends.ledger_where import Condition, conditions
from treadle.backends.moments import from_micros, micros
from treadle.backends.postgres_migrations import LEDGER
from treadle.backends.postgres_sessions import STATEMENT_SECONDS, Sessions, Statement
from treadle.core.canonical import canonical, plain
from treadle.core.clock import iso, parse_time
from treadle.core.errors import TreadleError
from treadle.core.records import GENESIS, Event, Link, Point, Record, Ref

_NOW = """to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
_RECORD = "kind, id, body::text, version, created_at, updated_at"
_PLAIN = re.compile(r"[a-z_]{1,50}")
_INDEXED = 200  # characters of a field that an index holds: an entry has to fit into a third of a page
_POINTS = 20_000  # in one statement

_REPLACE = f"""INSERT INTO records AS r (kind, id, body, version, created_at, updated_at)
SELECT %s, %s, %s::json, 1, now, now FROM (SELECT {_NOW} AS now) AS clock
ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body, version = r.version + 1, updated_at = excluded.updated_at
RETURNING version, created_at, updated_at"""
_CREATE = f"""INSERT INTO records (kind, id, body, version, created_at, updated_at)
SELECT %s, %s, %s::json, 1, now, now FROM (SELECT {_NOW} AS now) AS clock
ON CONFLICT (kind, id) DO NOTHING RETURNING version, created_at, updated_at"""
_CHANGE = f"""UPDATE records SET body = %s::json, version = version + 1, updated_at = {_NOW}
WHERE kind = %s AND id = %s AND version = %s RETURNING version, created_at, updated_at"""

# The server hashes, with `chain_hash`'s spelling: it alone knows number, time and hash before, and nobody has to wait for an answer to reach us.
_APPEND = f"""INSERT INTO events ({EVENT})
WITH last AS (SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1),
new AS MATERIALIZED (
    SELECT coalesce((SELECT seq FROM last), 0) + 1 AS seq, coalesce((SELECT hash FROM last), '{GENESIS}') AS previous, {_NOW} AS time
)
SELECT seq, time, %s, %s, %s, %s, %s, previous,
    encode(sha256(convert_to('["' || previous || '",' || seq || ',"' || time || '",' || %s::text, 'UTF8')), 'hex')
FROM new RETURNING seq, time, previous, hash"""

_METRICS = """INSERT INTO metrics (run, name)
SELECT DISTINCT run, name FROM unnest(%s::text[], %s::text[]) AS given (run, name) ORDER BY run, name ON CONFLICT DO NOTHING"""
_VALUES = """INSERT INTO points (metric, step, time, value)
SELECT m.id, p.step, coalesce(p.time, (extract(epoch FROM statement_timestamp()) * 1000000)::bigint), p.value
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::float8[]) WITH ORDINALITY AS p (run, name, step, time, value, position)
JOIN metrics m ON m.run = p.run COLLATE "C" AND m.name = p.name COLLATE "C" ORDER BY position"""


class PostgresLedger:
    """A ledger for many machines: any number of processes and threads may share the schema.

    Args:
        url: `postgresql://user@host:5432/database?schema=treadle`; the schema is made when missing, an older one is migrated.
    """

    def __init__(self, url: str) -> None:
        self._sessions = Sessions(url, LEDGER)

    def __reduce__(self) -> tuple[object, ...]:
        return (PostgresLedger, (self._sessions.at.url,))

    def put(self, kind: str, id: str, body: Mapping[str, Any], *, expect: int | None = None) -> Record:
        text = json_text.write(body)
        if expect is None:
            write: Statement = (_REPLACE, (kind, id, stored(text)))
        elif expect == 0:
            write = (_CREATE, (kind, id, stored(text)))
        else:
            write = (_CHANGE, (stored(text), kind, id, expect))
        with self._sessions.mine() as session:
            written, now = session.write(write, ("SELECT version FROM records WHERE kind = %s AND id = %s", (kind, id)))
        if not written:
            raise conflict(kind, id, now[0][0] if now else 0, expect or 0)
        return Record(kind, id, json_text.read(text), *written[0])

    def get(self, kind: str, id: str) -> Record | None:
        rows = self._sessions.rows((f"SELECT {_RECORD} FROM records WHERE kind = %s AND id = %s", (kind, id)))
        return _record(rows[0]) if rows else None

    def find(
        self, kind: str, where: Mapping[str, Any] | None = None, *, newest_first: bool = False, limit: int | None = None, after: str | None = None,
        past: tuple[str, str] | None = None,
    ) -> list[Record]:  # fmt: skip
        asked, values = _asked(kind, where)
        sql = f"SELECT {_RECORD} FROM records WHERE {asked}"
        if after is not None:
            sql += " AND created_at > %s"
            values.append(iso(parse_time(after)))
        if past is not None:
            sql += f" AND (created_at, id) {'<' if newest_first else '>'} (%s, %s)"
            values += [iso(parse_time(past[0])), past[1]]
        order = "DESC" if newest_first else "ASC"
        sql += f" ORDER BY created_at {order}, id {order}"
        if limit is not None:
            sql += f" LIMIT {max(0, int(limit))}"
        return [_record(row) for row in self._sessions.rows((sql, values))]

    def count(self, kind: str, where: Mapping[str, Any] | None = None) -> int:
        asked, values = _asked(kind, where)
        return int(self._sessions.rows((f"SELECT count(*) FROM records WHERE {asked}", values))[0][0])

    def link(self, link: Link) -> None:
        self._write(
            "INSERT INTO links (source_kind, source_id, relation, target_kind, target_id) VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (link.source.kind, link.source.id, link.relation, link.target.kind, link.target.id),
        )

    def links(self, ref: Ref, *, back: bool = False, relation: str | None = None) -> list[Link]:
        end = "target" if back else "source"
        among, values = ("", []) if relation is None else (" AND relation = %s", [relation])
        sql = f"SELECT source_kind, source_id, relation, target_kind, target_id FROM links WHERE {end}_kind = %s AND {end}_id = %s{among} ORDER BY id"
        rows = self._sessions.rows((sql, (ref.kind, ref.id, *values)))
        return [Link(Ref(row[0], row[1]), row[2], Ref(row[3], row[4])) for row in rows]

    def append(self, kind: str, subject: Ref, body: Mapping[str, Any] | None = None, *, actor: str = "treadle") -> Event:
        said = plain(body or {})
        rest = canonical([actor, kind, subject.kind, subject.id, said])[1:].decode()
        [(seq, time, previous, hashed)] = self._write(_APPEND, (kind, subject.kind, subject.id, actor, json_text.write(said), rest))
        return Event(kind, subject, actor, said, seq, time, previous, hashed)

    def events_since(
        self, seq: int = 0, *, limit: int = 1000, kinds: Sequence[str] = (), actor: str = "", subject_kind: str = "", subject_id: str = "",
        since: str = "", until: str = "",
    ) -> list[Event]:  # fmt: skip
        asked, values = asked_events("%s", "seq >", seq, kinds, actor, subject_kind, subject_id, since, until)
        rows = self._sessions.rows((f"SELECT {EVENT} FROM events{asked} ORDER BY seq LIMIT %s", (*values, max(0, limit))))
        return [event(row) for row in rows]

    def events_before(
        self, seq: int | None = None, *, limit: int = 100, kinds: Sequence[str] = (), actor: str = "", subject_kind: str = "", subject_id: str = "",
        since: str = "", until: str = "",
    ) -> list[Event]:  # fmt: skip
        asked, values = asked_events("%s", "seq <", seq, kinds, actor, subject_kind, subject_id, since, until)
        rows = self._sessions.rows((f"SELECT {EVENT} FROM events{asked} ORDER BY seq DESC LIMIT %s", (*values, max(0, limit))))
        return [event(row) for row in rows]

    def log_points(self, points: Iterable[Point]) -> None:
        rows = [(p.run, p.name, p.step, micros(p.time) if p.time else None, float(p.value)) for p in points]
        statements: list[Statement] = []
        for start in range(0, len(rows), _POINTS):
            runs, names, *others = (list(column) for column in zip(*rows[start : start + _POINTS]))
            statements += [(_METRICS, (runs, names)), (_VALUES, (runs, names, *others))]
        if statements:
            with self._sessions.mine() as session:
                session.write(*statements, alone=False)

    def points(self, run: str, name: str | None = None) -> list[Point]:
        among, values = ("", []) if name is None else (" AND m.name = %s", [name])
        sql = (
            "SELECT m.name, p.value, p.step, p.time FROM metrics m JOIN points p ON p.metric = m.id "
            f"WHERE m.run = %s{among} ORDER BY m.name, p.step, p.id"
        )
        return [Point(run, row[0], row[1], row[2], from_micros(row[3])) for row in self._sessions.rows((sql, (run, *values)))]

    def last_points(self, run: str | None = None, name: str | None = None) -> list[Point]:
        given = [(column, value) for column, value in (("run", run), ("name", name)) if value is not None]
        which = " AND ".join(f"m.{column} = %s" for column, _ in given)
        sql = (
            "SELECT m.run, m.name, p.value, p.step, p.time FROM metrics m CROSS JOIN LATERAL "
            "(SELECT value, step, time FROM points q WHERE q.metric = m.id ORDER BY q.step DESC, q.id DESC LIMIT 1) p "
            f"{'WHERE ' + which if which else ''} ORDER BY m.run COLLATE \"C\", m.name COLLATE \"C\""
        )
        return [Point(r, n, v, s, from_micros(t)) for r, n, v, s, t in self._sessions.rows((sql, tuple(v for _, v in given)))]

    def best_points(
        self, name: str, *, most: bool = True, at_least: float | None = None, at_most: float | None = None, limit: int = 100
    ) -> list[Point]:
        given = [(sign, value) for sign, value in ((">=", at_least), ("<=", at_most)) if value is not None]
        sql = (
            "SELECT m.run, p.value, p.step, p.time FROM metrics m CROSS JOIN LATERAL "
            "(SELECT value, step, time FROM points q WHERE q.metric = m.id ORDER BY q.step DESC, q.id DESC LIMIT 1) p "
            f"WHERE m.name = %s AND p.value <> 'NaN'{''.join(f' AND p.value {sign} %s' for sign, _ in given)} "
            f"ORDER BY p.value {'DESC' if most else ''}, m.run COLLATE \"C\" LIMIT %s"
        )
        values = (name, *(value for _, value in given), limit)
        return [Point(r, name, v, s, from_micros(t)) for r, v, s, t in self._sessions.rows((sql, values))]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._sessions.mine() as session, session.transaction():
            yield

    def verify_chain(self) -> int:
        """Read the whole event log again and return how many events it has. Raises Corrupt naming the first that is not as it was written."""
        sql = f"SELECT {EVENT} FROM events WHERE seq > %s ORDER BY seq LIMIT %s"
        return check_chain(lambda seq, limit: self._sessions.rows((sql, (seq, limit))), self._sessions.at.shown)

    def everything(self) -> Iterator[tuple[Ref, str]]:
        """Each record, link, event and metric name as it is kept."""
        for ref, text in everything(lambda sql, values: self._sessions.rows((sql, values)), "%s", "body::text"):
            yield ref, _given(text)

    def scrub(self) -> list[str]:
        """Write the tables anew, then have the server write its pages and begin another file of its log; others wait meanwhile.

        Old files of the server's log go, or are written over, when the server no longer needs them; `wal_recycle = off` makes them go at once.
        """
        undone = []
        with self._sessions.mine() as session:
            session.run(("SELECT set_config('statement_timeout', '0', false)", ()))
            try:
                for table in ("records", "links", "events", "metrics"):
                    session.run((f"VACUUM (FULL, ANALYZE) {table}", ()))
                try:
                    session.run(("SELECT pg_switch_wal()", ()))
                    for _ in range(2):  # what the first finds in use the second removes
                        session.run(("CHECKPOINT", ()))
                except TreadleError as error:
                    undone.append(
                        f"{self._sessions.at.shown}: the server's log could not be cut off ({error.what}); its old files go with later checkpoints. "
                        "A superuser can say: SELECT pg_switch_wal(); CHECKPOINT"
                    )
            finally:
                session.run(("SELECT set_config('statement_timeout', %s, false)", (str(int(STATEMENT_SECONDS * 1000)),)))
        return undone

    def close(self) -> None:
        """Close the connections of all threads."""
        self._sessions.close()

    def _write(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._sessions.mine() as session:
            return session.write((sql, values))[0]


def _asked(kind: str, where: Mapping[str, Any] | None) -> tuple[str, list[Any]]:
    """The condition that a kind and `where` make, and what it compares with."""
    # Written out, not a parameter: an index that holds one kind only is used when the text says which.
    said, values = (f"'{kind}'", []) if _PLAIN.fullmatch(kind) else ("%s", [kind])
    sql = f"kind = {said}"
    for condition in conditions(where):
        sql += f" AND {_sql(condition, values)}"
    return sql, values


def _sql(condition: Condition, values: list[Any]) -> str:
    """The condition; what it compares with goes to the end of `values`."""
    # The path is a literal, not a parameter, so that a migration can index the expression of a field that is asked for often.
    path = "".join(" -> '" + name.replace("'", "''").replace("%", "%%") + "'::text" for name in condition.path)
    text = f"(body{path})::text"
    asked = [stored(spelling) for spelling in condition.texts]
    marks = ", ".join(["%s"] * len(asked))
    among = f"left({text}, {_INDEXED}) IN ({marks})"
    values += [spelling[:_INDEXED] for spelling in asked]
    if any(len(spelling) >= _INDEXED for spelling in asked):
        among += f" AND {text} IN ({marks})"
        values += asked
    return f"({among} OR {text} IS NULL)" if condition.or_absent else among


def _record(row: Sequence[Any]) -> Record:
    kind, id, body, *rest = row
    return record((kind, id, _given(body), *rest))


# PostgreSQL refuses to look into JSON that has U+0000 anywhere. In what it holds, U+0001 and a digit stand for U+0000 and for U+0001 itself.
_ESCAPE = re.compile(r"\\(?:u000([01])|.)", re.DOTALL)
_ESCAPED = re.compile(r"\\(?:u0001([01])|.)", re.DOTALL)


def stored(text: str) -> str:
    r"""JSON text as PostgreSQL can hold it.

    >>> stored('"a\\u0000"') == '"a\\u00010"' and _given('"a\\u00010"') == '"a\\u0000"'
    True
    """
    return _ESCAPE.sub(lambda found: f"\\u0001{found[1]}" if found[1] else found[0], text) if "\\u000" in text else text


def _given(text: str) -> str:
    return _ESCAPED.sub(lambda found: f"\\u000{found[1]}" if found[1] else found[0], text) if "\\u0001" in text else text
