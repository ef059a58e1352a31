"""The prediction log in PostgreSQL: for a team, and for endpoints on several machines.

Writers take turns for the length of a commit, so that numbers are in the order of commits and readers see whole calls. A durable write is on the
server's disk when it returns; one that is not may be lost when the server's machine dies, not when this process does.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from treadle.backends.pack_table import PackTable
from treadle.backends.postgres_migrations import PREDICTIONS
from treadle.backends.postgres_prediction_writes import packs_in, put, put_rows, put_truths
from treadle.backends.postgres_sessions import Session, Sessions, Statement
from treadle.backends.prediction_packs import Pack, latest, merged, parts_of
from treadle.core.canonical import canonical
from treadle.core.errors import Conflict, Unavailable
from treadle.ports.prediction_blocks import Block
from treadle.ports.predictions import Mark, Numbered, Outcome, Prediction, Segment

_BEGIN, _COMMIT = ("BEGIN", ()), ("COMMIT", ())
_DAY = 86_400_000_000
_COLUMNS = "p.id, m.name, p.moment, p.answered, p.version, p.variant, p.output, p.other_version, p.other_output, p.inputs, p.features, p.micros"
_SEGMENT = 's.id, m.name, s.start, s."end", s.address, s.rows, s.newest, s.last'
_PAGE = f"""
SELECT p.seq, {_COLUMNS}, o.value, o.known, o.source FROM predictions p JOIN models m ON m.id = p.model
LEFT JOIN LATERAL (
    SELECT value, known, source FROM outcomes WHERE prediction = p.id AND seq <= %s ORDER BY seq DESC LIMIT 1
) o ON true
WHERE p.model = (SELECT id FROM models WHERE name = %s) AND (p.moment, p.seq) > (%s, %s) AND p.moment < %s AND p.seq <= %s
ORDER BY p.moment, p.seq LIMIT %s
"""
_MARK = """
SELECT (SELECT id FROM models WHERE name = %s), greatest((SELECT max(seq) FROM predictions), (SELECT max(last) FROM packs),
    (SELECT max(last) FROM segments), 0), coalesce((SELECT max(seq) FROM outcomes), 0), coalesce((SELECT max(id) FROM segments), 0)
"""


class PostgresPredictions:
    """A prediction log that any number of machines share."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._made: Sessions | None = None
        self._making = threading.Lock()
        self._models: set[str] = set()  # rows of `models` are never removed, so what was once read stays true
        self._packs = PackTable(lambda sql, values: self._rows(sql.replace("?", "%s"), values))
        with suppress(Unavailable):  # an address that cannot be used is said now; a server that is down may come back
            _ = self._sessions

    def write(self, predictions: Sequence[Prediction | Block], outcomes: Sequence[Outcome] = (), *, durable: bool = True) -> None:
        if not predictions and not outcomes:
            return
        truths = [(o.prediction, canonical(o.value).decode(), o.known, o.source) for o in outcomes]
        parts = parts_of(predictions)
        new = sorted({p.model for p in predictions} - self._models)
        with self._sessions.mine() as session, self._writing(session):
            if not durable:
                session.run(("SET LOCAL synchronous_commit = off", ()))
            if new:
                session.run(("INSERT INTO models (name) SELECT unnest(%s::text[]) ON CONFLICT (name) DO NOTHING", (new,)))
            for part in parts:
                if isinstance(part, Pack):
                    put(session, part)
                else:
                    put_rows(session, part)
            if truths:
                put_truths(session, truths)
        self._models.update(new)

    def get(self, id: str) -> Prediction | None:
        rows = self._rows(f"SELECT {_COLUMNS} FROM predictions p JOIN models m ON m.id = p.model WHERE p.id = %s", (id,))
        if rows:
            return _prediction(rows[0])
        packed = self._packs.one(id)
        return None if packed is None else packed.prediction

    def outcomes_of(self, id: str) -> list[Outcome]:
        return [_outcome(id, *row) for row in self._rows("SELECT value, known, source FROM outcomes WHERE prediction = %s ORDER BY seq", (id,))]

    def between(self, model: str, start: int, end: int, *, batch: int = 10_000) -> Iterator[list[tuple[Prediction, Outcome | None]]]:
        mark = self.mark(model)
        after, size = (start, 0), max(1, batch)
        while mark is not None and (found := self.page(model, mark, after, end, size)):
            yield [(numbered.prediction, outcome) for numbered, outcome in found]
            if len(found) < size:
                return
            after = (found[-1][0].prediction.moment, found[-1][0].seq)

    def last(self, model: str, count: int = 1) -> list[Prediction]:
        if count <= 0:
            return []
        rows = self._rows(
            f"SELECT p.seq, {_COLUMNS} FROM predictions p JOIN models m ON m.id = p.model WHERE p.model = (SELECT id FROM models WHERE name = %s) "
            "ORDER BY p.answered DESC, p.seq DESC LIMIT %s",
            (model, count),
        )
        return latest([Numbered(row[0], _prediction(row[1:])) for row in rows], self._packs.latest(model), count)

    def count(self, model: str) -> tuple[int, int]:
        rows = self._rows(
            "SELECT (SELECT count(*) FROM predictions WHERE model = m.id) "
            "+ coalesce((SELECT sum(rows) FROM packs WHERE model = m.id), 0)::bigint "
            "+ coalesce((SELECT sum(rows) FROM segments WHERE model = m.id), 0)::bigint, "
            "(SELECT count(DISTINCT prediction) FROM outcomes WHERE model = m.id) FROM models m WHERE name = %s",
            (model,),
        )
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def strays(self) -> int:
        return int(self._rows("SELECT count(*) FROM outcomes WHERE model IS NULL", ())[0][0])

    def mark(self, model: str) -> Mark | None:
        number, last, last_outcome, generation = self._rows(_MARK, (model,))[0]
        return None if number is None else Mark(last, last_outcome, generation)

    def page(self, model: str, mark: Mark, after: tuple[int, int], end: int, size: int) -> list[tuple[Numbered, Outcome | None]]:
        rows = self._rows(_PAGE, (mark.last_outcome, model, *after, end, mark.last, size))
        found = [(Numbered(row[0], _prediction(row[1:13])), None if row[13] is None else _outcome(row[1], *row[13:])) for row in rows]
        return merged(found, self._packs.page(model, mark, after, end, size), size, mark, self.counting)

    def counting(self, ids: Sequence[str], mark: Mark) -> dict[str, Outcome]:
        rows = self._rows(
            "SELECT DISTINCT ON (prediction) prediction, value, known, source FROM outcomes WHERE prediction = ANY(%s::text[]) AND seq <= %s "
            "ORDER BY prediction, seq DESC",
            (list(ids), mark.last_outcome),
        )
        return {row[0]: _outcome(*row) for row in rows}

    def numbers(self, ids: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = dict(self._rows("SELECT id, seq FROM predictions WHERE id = ANY(%s::text[])", (list(ids),)))
        found.update((id, number) for id, (_, number) in self._packs.find(ids).items())
        return found

    def segments(self, model: str = "") -> list[Segment]:
        named = "WHERE m.name = %s" if model else ""
        sql = f"SELECT {_SEGMENT} FROM segments s JOIN models m ON m.id = s.model {named} ORDER BY s.start, s.id"
        return [Segment(*row) for row in self._rows(sql, (model,) if model else ())]

    def place(self, id: str) -> tuple[Segment, int] | None:
        rows = self._rows(
            f"SELECT a.row, {_SEGMENT} FROM moved a JOIN segments s ON s.id = a.segment JOIN models m ON m.id = s.model WHERE a.id = %s", (id,)
        )
        return (Segment(*rows[0][1:]), rows[0][0]) if rows else None

    def days(self, before: int) -> list[tuple[str, int]]:
        found = []
        for number, name in self._rows("SELECT id, name FROM models ORDER BY name", ()):
            after = -(2**63)
            while True:
                row = self._rows("SELECT min(moment) FROM predictions WHERE model = %s AND moment >= %s", (number, after))[0][0]
                first = min((at for at in (row, self._packs.first_day(number, after)) if at is not None), default=None)
                if first is None or (after := (first // _DAY + 1) * _DAY) > before:
                    break
                found.append((name, after - _DAY))
        return found

    def move(self, segment: Segment, ids: Sequence[str], instead_of: Segment | None = None) -> None:
        with self._sessions.mine() as session, self._writing(session):
            said = (segment.model, segment.start, segment.end, segment.address, segment.rows, segment.newest, segment.last)
            number = session.run((
                'INSERT INTO segments (model, start, "end", address, rows, newest, last) '
                "SELECT id, %s, %s, %s, %s, %s, %s FROM models WHERE name = %s RETURNING id", (*said[1:], said[0]),
            ))[0][0][0]  # fmt: skip
            if instead_of is None:
                packed = packs_in(session).remove(ids, model=segment.model, start=segment.start, end=segment.end)
                removed = session.run(("DELETE FROM predictions WHERE id = ANY(%s::text[]) RETURNING 1", (list(ids),)))[0]
                if packed + len(removed) != len(ids):
                    raise Conflict("Some of the predictions that were to be moved are not there any more.", hint="Do it again.")
            else:
                _drop(session, instead_of, list(ids))
            session.run((
                "INSERT INTO moved SELECT u.id, %s, (u.number - 1)::integer FROM unnest(%s::text[]) WITH ORDINALITY AS u (id, number)",
                (number, list(ids)),
            ))  # fmt: skip

    def forget(self, ids: Sequence[str]) -> int:
        with self._sessions.mine() as session, self._writing(session):
            packed = packs_in(session).remove(ids)
            removed = session.run(("DELETE FROM predictions WHERE id = ANY(%s::text[]) RETURNING 1", (list(ids),)))[0]
            session.run(("DELETE FROM outcomes WHERE prediction = ANY(%s::text[])", (list(ids),)))
        return packed + len(removed)

    def drop(self, segment: Segment) -> None:
        with self._sessions.mine() as session, self._writing(session):
            _drop(session, segment, [])

    def models(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT name FROM models ORDER BY name", ())]

    def stray_ids(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT DISTINCT prediction FROM outcomes WHERE model IS NULL", ())]

    def scrub(self) -> list[str]:
        """Write the tables anew, so that no page holds what was removed. The server's own log holds it until it is recycled."""
        with self._sessions.mine() as session:
            for table in ("predictions", "packs", "outcomes", "moved", "segments"):
                session.run((f"VACUUM FULL {table}", ()))
        return []

    def close(self) -> None:
        """Close the connections. Used again, the log opens anew."""
        if self._made is not None:
            self._made.close()

    @property
    def _sessions(self) -> Sessions:
        if self._made is None:
            with self._making:
                if self._made is None:
                    self._made = Sessions(self._url, PREDICTIONS)
        return self._made

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Any]:
        return self._sessions.rows((sql, values))

    def _turn(self) -> Statement:
        # Not the ledger's lock, which may be in the same schema: a long transaction there must not hold up answers.
        return (f"SELECT pg_advisory_xact_lock({self._sessions.at.lock + 2})", ())

    def _writing(self, session: Session) -> _Writing:
        return _Writing(session, self._turn())


class _Writing:
    """A transaction that asks and writes in turns."""

    def __init__(self, session: Session, turn: Statement) -> None:
        self._session, self._turn = session, turn

    def __enter__(self) -> None:
        self._session.run(_BEGIN, self._turn)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self._session.undo()
            return
        try:
            self._session.run(_COMMIT)
        except BaseException:
            self._session.undo()
            raise


def _drop(session: Session, segment: Segment, keep: list[str]) -> None:
    if not session.run(("DELETE FROM segments WHERE id = %s RETURNING 1", (segment.id,)))[0]:
        raise Conflict("The segment was replaced meanwhile.", hint="Do it again.")
    session.run((
        "WITH gone AS (DELETE FROM moved WHERE segment = %s RETURNING id) "
        "DELETE FROM outcomes o USING gone WHERE o.prediction = gone.id AND gone.id <> ALL(%s::text[])", (segment.id, keep),
    ))  # fmt: skip


def _prediction(row: Sequence[Any]) -> Prediction:
    id, model, moment, answered, version, variant, output, other_version, other_output, inputs, features, micros = row
    out, other = bytes(output), bytes(other_output)
    unpacked, beside = struct.unpack(f"<{len(out) // 8}d", out), struct.unpack(f"<{len(other) // 8}d", other)
    return Prediction(id, model, moment, answered, version, variant, unpacked, other_version, beside, bytes(inputs), bytes(features), micros)


def _outcome(prediction: str, value: str, known: int, source: str) -> Outcome:
    return Outcome(prediction, json.loads(value), known, source)
