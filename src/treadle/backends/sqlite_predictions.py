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
from treadle.ports.predictions import Outcome, Prediction

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
    ),
)

_ROWS = 64  # of one statement: the sqlite3 module gives the GIL away at every statement, and a third of the time is saved
_ANY_STRAYS = "SELECT EXISTS (SELECT 1 FROM outcomes WHERE model IS NULL)"  # asked once a call: a trigger would cost 2 us a prediction
_COLUMNS = "p.id, m.name, p.moment, p.answered, p.version, p.variant, p.output, p.other_version, p.other_output, p.inputs, p.features, p.micros"
_BETWEEN = f"""
    SELECT p.seq, {_COLUMNS}, o.value, o.known, o.source
    FROM predictions p JOIN models m ON m.id = p.model
    LEFT JOIN outcomes o ON o.seq = (SELECT max(seq) FROM outcomes WHERE prediction = p.id AND +seq <= ?)
    WHERE p.model = ? AND (p.moment, p.seq) > (?, ?) AND p.moment < ? AND +p.seq <= ?
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
                (p.id, numbers[p.model], p.moment, p.answered, p.version, p.variant, out, p.other_version, other, p.inputs, p.features, p.micros)
                for p, (out, other) in zip(predictions, packed, strict=True)
            ]
            for start in range(0, len(rows), _ROWS):
                part = rows[start : start + _ROWS]
                connection.execute(_insert_predictions(len(part)), tuple(chain.from_iterable(part)))
            if rows and connection.execute(_ANY_STRAYS).fetchone()[0]:
                for start in range(0, len(rows), _ROWS):
                    ids = [row[0] for row in rows[start : start + _ROWS]]
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
        newest = "SELECT (SELECT id FROM models WHERE name = ?), (SELECT max(seq) FROM predictions), coalesce((SELECT max(seq) FROM outcomes), 0)"
        number, last, last_outcome = self._rows(newest, (model,))[0]
        if number is None:
            return
        moment, seq, size = start, 0, max(1, batch)
        while rows := self._rows(_BETWEEN, (last_outcome, number, moment, seq, end, last, size)):
            yield [(_prediction(row[1:13]), None if row[13] is None else _outcome(row[1], *row[13:])) for row in rows]
            if len(rows) < size:
                return
            seq, moment = rows[-1][0], rows[-1][3]

    def last(self, model: str, count: int = 1) -> list[Prediction]:
        rows = self._rows(
            f"SELECT {_COLUMNS} FROM predictions p JOIN models m ON m.id = p.model WHERE p.model = (SELECT id FROM models WHERE name = ?) "
            "ORDER BY p.answered DESC, p.seq DESC LIMIT ?",
            (model, max(0, count)),
        )
        return [_prediction(row) for row in rows]

    def count(self, model: str) -> tuple[int, int]:
        rows = self._rows(
            "SELECT (SELECT count(*) FROM predictions WHERE model = m.id), "
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
    columns = "id, model, moment, answered, version, variant, output, other_version, other_output, inputs, features, micros"
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
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
        "SELECT column1, (SELECT model FROM predictions WHERE id = column1), column2, column3, column4, column5 "
        f"FROM (VALUES {values}) WHERE true ON CONFLICT (prediction, value, known, source) DO NOTHING"
    )


def _number(connection: sqlite3.Connection, model: str) -> int:
    connection.execute("INSERT INTO models (name) VALUES (?) ON CONFLICT DO NOTHING", (model,))
    return int(connection.execute("SELECT id FROM models WHERE name = ?", (model,)).fetchone()[0])


def _packed(output: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(output)}d", *output)


def _prediction(row: Sequence[Any]) -> Prediction:
    id, model, moment, answered, version, variant, output, other_version, other_output, inputs, features, micros = row
    out, other = struct.unpack(f"<{len(output) // 8}d", output), struct.unpack(f"<{len(other_output) // 8}d", other_output)
    return Prediction(id, model, moment, answered, version, variant, out, other_version, other, inputs, features, micros)


def _outcome(prediction: str, value: str, known: int, source: str) -> Outcome:
    return Outcome(prediction, json.loads(value), known, source)
