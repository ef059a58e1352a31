"""The prediction log in one SQLite file: appended in one commit a call, found by id in microseconds, read back in batches.

A durable write forces the write-ahead log to the disk (synchronous=FULL); one that is not (NORMAL) outlives the death of the process,
but a power cut may take the last ones.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from treadle.backends.sqlite_migrations import Schema
from treadle.backends.sqlite_sessions import Sessions
from treadle.core.canonical import canonical
from treadle.core.errors import Conflict
from treadle.ports.predictions import Mark, Numbered, Outcome, Prediction, Segment

PREDICTIONS = Schema(
    "prediction log",
    0x54727031,
    (
        """
        -- A log has millions of predictions of a few models, so a row holds the model's number instead of its name.
        CREATE TABLE models (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

        CREATE TABLE predictions (
            seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, model INTEGER NOT NULL, moment INTEGER NOT NULL, answered INTEGER NOT NULL,
            version INTEGER NOT NULL, variant TEXT NOT NULL, output BLOB NOT NULL, other_version INTEGER NOT NULL, other_output BLOB NOT NULL,
            inputs BLOB NOT NULL, features BLOB NOT NULL, micros INTEGER NOT NULL
        );
        CREATE INDEX predictions_by_moment ON predictions (model, moment);
        CREATE INDEX predictions_by_answer ON predictions (model, answered);

        -- `model` is NULL while the prediction is not logged. `seq` is the order received; the last of a prediction counts.
        CREATE TABLE outcomes (
            seq INTEGER PRIMARY KEY, prediction TEXT NOT NULL, model INTEGER, value TEXT NOT NULL, known INTEGER NOT NULL, source TEXT NOT NULL,
            received INTEGER NOT NULL,
            UNIQUE (prediction, value, known, source)
        );
        CREATE INDEX outcomes_by_model ON outcomes (model, prediction);
        """,
        # Closed days that lie in files of columns, and where each of their predictions is. A Treadle that does not know them must not read the log.
        """
        CREATE TABLE segments (
            id INTEGER PRIMARY KEY AUTOINCREMENT, model INTEGER NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL, address TEXT NOT NULL,
            rows INTEGER NOT NULL, newest INTEGER NOT NULL, last INTEGER NOT NULL
        );
        CREATE TABLE moved (id TEXT PRIMARY KEY, segment INTEGER NOT NULL, row INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX moved_by_segment ON moved (segment);
        """,
    ),
)

_ROWS = 64  # of one statement: the sqlite3 module gives the GIL away at every statement, and a third of the time is saved
_ANY_MOVED = "SELECT max(last) FROM segments"
_SEGMENT = 's.id, m.name, s.start, s."end", s.address, s.rows, s.newest, s.last'
_DAY = 86_400_000_000
_IDS = 500  # of one statement
_MODEL_OF_MOVED = "(SELECT s.model FROM moved a JOIN segments s ON s.id = a.segment WHERE a.id = column1)"
_ANY_STRAYS = "SELECT EXISTS (SELECT 1 FROM outcomes WHERE model IS NULL)"  # asked once a call: a trigger would cost 2 us a prediction
_COLUMNS = "p.id, m.name, p.moment, p.answered, p.version, p.variant, p.output, p.other_version, p.other_output, p.inputs, p.features, p.micros"
_BETWEEN = f"""
    SELECT p.seq, {_COLUMNS}, o.value, o.known, o.source
    FROM predictions p JOIN models m ON m.id = p.model
    LEFT JOIN outcomes o ON o.seq = (SELECT max(seq) FROM outcomes WHERE prediction = p.id AND +seq <= ?)
    WHERE p.model = (SELECT id FROM models WHERE name = ?) AND (p.moment, p.seq) > (?, ?) AND p.moment < ? AND +p.seq <= ?
    ORDER BY p.moment, p.seq LIMIT ?"""


class SqlitePredictions:
    """A prediction log for one machine: any number of threads and processes may share the file.

    Args:
        path: the database file; it and its folder are created when missing, older files are migrated.
    """

    def __init__(self, path: str | Path) -> None:
        self._forced = Sessions(path, PREDICTIONS, synchronous="FULL")
        self._sessions = Sessions(path, PREDICTIONS, synchronous="NORMAL")
        self._models: dict[str, int] = {}  # rows of `models` are never removed, so what was once read stays true

    def write(self, predictions: Sequence[Prediction], outcomes: Sequence[Outcome] = (), *, durable: bool = True) -> None:
        if not predictions and not outcomes:
            return
        received = time.time_ns() // 1000
        truths = [(o.prediction, canonical(o.value).decode(), o.known, o.source, received) for o in outcomes]
        packed = [(_packed(p.output), _packed(p.other_output)) for p in predictions]
        with (self._forced if durable else self._sessions).mine().transaction() as connection:
            numbers = {name: self._models.get(name) or _number(connection, name) for name in {p.model for p in predictions}}
            rows = [
                (None, p.id, numbers[p.model], p.moment, p.answered, p.version, p.variant, out, p.other_version, other, p.inputs, p.features,
                 p.micros)
                for p, (out, other) in zip(predictions, packed, strict=True)
            ]  # fmt: skip
            if rows and (moved := connection.execute(_ANY_MOVED).fetchone()[0]) is not None:
                rows = _after_moved(connection, rows, int(moved))
            for start in range(0, len(rows), _ROWS):
                part = rows[start : start + _ROWS]
                connection.execute(_insert_predictions(len(part)), tuple(chain.from_iterable(part)))
            if rows and connection.execute(_ANY_STRAYS).fetchone()[0]:
                for start in range(0, len(rows), _ROWS):
                    ids = [row[1] for row in rows[start : start + _ROWS]]
                    connection.execute(_adopt_strays(len(ids)), ids)
            for start in range(0, len(truths), _ROWS):
                some = truths[start : start + _ROWS]
                connection.execute(_insert_outcomes(len(some)), tuple(chain.from_iterable(some)))
        self._models.update(numbers)  # only now: what was rolled back has no number

    def get(self, id: str) -> Prediction | None:
        rows = self._rows(f"SELECT {_COLUMNS} FROM predictions p JOIN models m ON m.id = p.model WHERE p.id = ?", (id,))
        return _prediction(rows[0]) if rows else None

    def outcomes_of(self, id: str) -> list[Outcome]:
        rows = self._rows("SELECT value, known, source FROM outcomes WHERE prediction = ? ORDER BY seq", (id,))
        return [_outcome(id, *row) for row in rows]

    def between(self, model: str, start: int, end: int, *, batch: int = 10_000) -> Iterator[list[tuple[Prediction, Outcome | None]]]:
        # What is written after the first batch was asked for has higher numbers: left out, so that no call is seen in part,
        # and no read transaction stays open while the caller works on a batch.
        mark = self.mark(model)
        after, size = (start, 0), max(1, batch)
        while mark is not None and (found := self.page(model, mark, after, end, size)):
            yield [(numbered.prediction, outcome) for numbered, outcome in found]
            if len(found) < size:
                return
            after = (found[-1][0].prediction.moment, found[-1][0].seq)

    def mark(self, model: str) -> Mark | None:
        newest = (
            "SELECT (SELECT id FROM models WHERE name = ?), coalesce((SELECT max(seq) FROM predictions), 0), "
            "coalesce((SELECT max(seq) FROM outcomes), 0), coalesce((SELECT max(id) FROM segments), 0), "
            "coalesce((SELECT max(last) FROM segments), 0)"
        )
        number, last, last_outcome, generation, moved = self._rows(newest, (model,))[0]
        return None if number is None else Mark(max(last, moved), last_outcome, generation)

    def page(self, model: str, mark: Mark, after: tuple[int, int], end: int, size: int) -> list[tuple[Numbered, Outcome | None]]:
        rows = self._rows(_BETWEEN, (mark.last_outcome, model, *after, end, mark.last, size))
        return [(Numbered(row[0], _prediction(row[1:13])), None if row[13] is None else _outcome(row[1], *row[13:])) for row in rows]

    def counting(self, ids: Sequence[str], mark: Mark) -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        for start in range(0, len(ids), _IDS):
            some = list(ids[start : start + _IDS])
            rows = self._rows(
                "SELECT prediction, value, known, source FROM outcomes WHERE seq IN (SELECT max(seq) FROM outcomes "
                f"WHERE prediction IN ({', '.join('?' * len(some))}) AND +seq <= ? GROUP BY prediction)",
                (*some, mark.last_outcome),
            )
            found.update((row[0], _outcome(*row)) for row in rows)
        return found

    def numbers(self, ids: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for start in range(0, len(ids), _IDS):
            some = list(ids[start : start + _IDS])
            found.update(self._rows(f"SELECT id, seq FROM predictions WHERE id IN ({', '.join('?' * len(some))})", some))
        return found

    def segments(self, model: str = "") -> list[Segment]:
        named = "WHERE m.name = ?" if model else ""
        sql = f"SELECT {_SEGMENT} FROM segments s JOIN models m ON m.id = s.model {named} ORDER BY s.start, s.id"
        return [Segment(*row) for row in self._rows(sql, (model,) if model else ())]

    def place(self, id: str) -> tuple[Segment, int] | None:
        rows = self._rows(
            f"SELECT a.row, {_SEGMENT} FROM moved a JOIN segments s ON s.id = a.segment JOIN models m ON m.id = s.model WHERE a.id = ?", (id,)
        )
        return (Segment(*rows[0][1:]), rows[0][0]) if rows else None

    def days(self, before: int) -> list[tuple[str, int]]:
        found = []
        for number, name in self._rows("SELECT id, name FROM models ORDER BY name"):
            after = -(2**63)
            while True:  # from day to day by the index: a look at every prediction would take long
                row = self._rows("SELECT min(moment) FROM predictions WHERE model = ? AND moment >= ?", (number, after))[0]
                if row[0] is None or (after := (row[0] // _DAY + 1) * _DAY) > before:
                    break
                found.append((name, after - _DAY))
        return found

    def move(self, segment: Segment, ids: Sequence[str], instead_of: Segment | None = None) -> None:
        with self._forced.mine().transaction() as connection:
            number = _number(connection, segment.model)
            said = (number, segment.start, segment.end, segment.address, segment.rows, segment.newest, segment.last)
            cursor = connection.execute(
                'INSERT INTO segments (model, start, "end", address, rows, newest, last) VALUES (?, ?, ?, ?, ?, ?, ?)', said
            )
            if instead_of is None:
                removed = 0
                for start in range(0, len(ids), _IDS):
                    some = list(ids[start : start + _IDS])
                    removed += connection.execute(f"DELETE FROM predictions WHERE id IN ({', '.join('?' * len(some))})", some).rowcount
                if removed != len(ids):
                    raise Conflict("Some of the predictions that were to be moved are not there any more.", hint="Do it again.")
            else:
                _drop(connection, instead_of, keep=set(ids))
            connection.executemany("INSERT INTO moved VALUES (?, ?, ?)", ((id, cursor.lastrowid, row) for row, id in enumerate(ids)))

    def forget(self, ids: Sequence[str]) -> int:
        removed = 0
        with self._forced.mine().transaction() as connection:
            for start in range(0, len(ids), _IDS):
                some = list(ids[start : start + _IDS])
                marks = ", ".join("?" * len(some))
                removed += connection.execute(f"DELETE FROM predictions WHERE id IN ({marks})", some).rowcount
                connection.execute(f"DELETE FROM outcomes WHERE prediction IN ({marks})", some)
        return removed

    def models(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT name FROM models ORDER BY name")]

    def stray_ids(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT DISTINCT prediction FROM outcomes WHERE model IS NULL")]

    def scrub(self) -> list[str]:
        """Write the file anew. Raises Unavailable when others hold an old state for too long."""
        self._forced.scrub()
        return []

    def drop(self, segment: Segment) -> None:
        with self._forced.mine().transaction() as connection:
            _drop(connection, segment, keep=set())

    def last(self, model: str, count: int = 1) -> list[Prediction]:
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM predictions p JOIN models m ON m.id = p.model WHERE p.model = (SELECT id FROM models WHERE name = ?) "
            "ORDER BY p.answered DESC, p.seq DESC LIMIT ?",
            (model, max(0, count)),
        )
        return [_prediction(row) for row in rows]

    def count(self, model: str) -> tuple[int, int]:
        rows = self._rows(
            "SELECT (SELECT count(*) FROM predictions WHERE model = m.id) "
            "+ coalesce((SELECT sum(rows) FROM segments WHERE model = m.id), 0), "
            "(SELECT count(*) FROM (SELECT 1 FROM outcomes WHERE model = m.id GROUP BY prediction)) FROM models m WHERE name = ?",
            (model,),
        )
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def strays(self) -> int:
        return int(self._rows("SELECT count(*) FROM outcomes WHERE model IS NULL")[0][0])

    def close(self) -> None:
        """Close the connections of all threads."""
        self._forced.close()
        self._sessions.close()

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._sessions.mine().rows(sql, values)


@cache
def _insert_predictions(rows: int) -> str:
    columns = "seq, id, model, moment, answered, version, variant, output, other_version, other_output, inputs, features, micros"
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO predictions ({columns}) VALUES {values} ON CONFLICT (id) DO NOTHING"


@cache
def _adopt_strays(ids: int) -> str:
    return (
        "UPDATE outcomes SET model = (SELECT model FROM predictions WHERE id = outcomes.prediction) "
        f"WHERE model IS NULL AND prediction IN ({', '.join('?' * ids)})"
    )


@cache
def _insert_outcomes(rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?)"] * rows)
    return (
        "INSERT INTO outcomes (prediction, model, value, known, source, received) "
        f"SELECT column1, coalesce((SELECT model FROM predictions WHERE id = column1), {_MODEL_OF_MOVED}), column2, column3, column4, column5 "
        f"FROM (VALUES {values}) WHERE true ON CONFLICT (prediction, value, known, source) DO NOTHING"
    )


def _after_moved(connection: sqlite3.Connection, rows: list[tuple[Any, ...]], last: int) -> list[tuple[Any, ...]]:
    """Rows that were not moved already; numbered here where SQLite would give the numbers of rows that were moved once more."""
    there: set[str] = set()
    for start in range(0, len(rows), _IDS):
        ids = [row[1] for row in rows[start : start + _IDS]]
        there.update(row[0] for row in connection.execute(f"SELECT id FROM moved WHERE id IN ({', '.join('?' * len(ids))})", ids))
    kept = [row for row in rows if row[1] not in there]
    newest = connection.execute("SELECT max(seq) FROM predictions").fetchone()[0] or 0
    return kept if newest >= last else [(last + 1 + i, *row[1:]) for i, row in enumerate(kept)]


def _number(connection: sqlite3.Connection, model: str) -> int:
    connection.execute("INSERT INTO models (name) VALUES (?) ON CONFLICT DO NOTHING", (model,))
    return int(connection.execute("SELECT id FROM models WHERE name = ?", (model,)).fetchone()[0])


def _drop(connection: sqlite3.Connection, segment: Segment, keep: set[str]) -> None:
    """Forget a segment. `keep`: ids that are elsewhere from now on, so their outcomes stay."""
    ids = [row[0] for row in connection.execute("SELECT id FROM moved WHERE segment = ?", (segment.id,))]
    if not connection.execute("DELETE FROM segments WHERE id = ?", (segment.id,)).rowcount:
        raise Conflict("The segment was replaced meanwhile.", hint="Do it again.")
    connection.execute("DELETE FROM moved WHERE segment = ?", (segment.id,))
    connection.executemany("DELETE FROM outcomes WHERE prediction = ?", ((id,) for id in ids if id not in keep))


def _packed(output: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(output)}d", *output)


def _prediction(row: Sequence[Any]) -> Prediction:
    id, model, moment, answered, version, variant, output, other_version, other_output, inputs, features, micros = row
    out, other = struct.unpack(f"<{len(output) // 8}d", output), struct.unpack(f"<{len(other_output) // 8}d", other_output)
    return Prediction(id, model, moment, answered, version, variant, out, other_version, other, inputs, features, micros)


def _outcome(prediction: str, value: str, known: int, source: str) -> Outcome:
    return Outcome(prediction, json.loads(value), known, source)
