"""The prediction log in one SQLite file: appended in one commit a call, most of it as one row, found by id in a millisecond, read back in batches.

A durable write forces the write-ahead log to the disk (synchronous=FULL); one that is not (NORMAL) outlives the death of the process,
but a power cut may take the last ones.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from treadle.backends.pack_table import PackTable
from treadle.backends.prediction_packs import latest, merged, parts_of
from treadle.backends.sqlite_prediction_writes import IDS, NEWEST, number_of, packs_in, put, put_truths
from treadle.backends.sqlite_predictions_schema import PREDICTIONS
from treadle.backends.sqlite_sessions import Sessions
from treadle.core.canonical import canonical
from treadle.core.errors import Conflict
from treadle.ports.prediction_blocks import Block
from treadle.ports.predictions import Mark, Numbered, Outcome, Prediction, Segment

_PAGES = 4_000  # 16 MB: bringing them into the file waits for the disk, which a quarter as often is felt less
_SEGMENT = 's.id, m.name, s.start, s."end", s.address, s.rows, s.newest, s.last'
_DAY = 86_400_000_000
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
        self._forced = Sessions(path, PREDICTIONS, synchronous="FULL", checkpoint=_PAGES)
        self._sessions = Sessions(path, PREDICTIONS, synchronous="NORMAL", checkpoint=_PAGES)
        self._packs = PackTable(self._rows)
        self._models: dict[str, int] = {}  # rows of `models` are never removed, so what was once read stays true

    def write(self, predictions: Sequence[Prediction | Block], outcomes: Sequence[Outcome] = (), *, durable: bool = True) -> None:
        if not predictions and not outcomes:
            return
        received = time.time_ns() // 1000
        truths = [(o.prediction, canonical(o.value).decode(), o.known, o.source, received) for o in outcomes]
        parts = parts_of(predictions)
        with (self._forced if durable else self._sessions).mine().transaction() as connection:
            numbers = {name: self._models.get(name) or number_of(connection, name) for name in {p.model for p in predictions}}
            if parts:
                put(connection, parts, numbers)
            if truths:
                put_truths(connection, truths)
        self._models.update(numbers)  # only now: what was rolled back has no number

    def get(self, id: str) -> Prediction | None:
        rows = self._rows(f"SELECT {_COLUMNS} FROM predictions p JOIN models m ON m.id = p.model WHERE p.id = ?", (id,))
        if rows:
            return _prediction(rows[0])
        packed = self._packs.one(id)
        return None if packed is None else packed.prediction

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
            f"SELECT (SELECT id FROM models WHERE name = ?), {NEWEST}, "
            "coalesce((SELECT max(seq) FROM outcomes), 0), coalesce((SELECT max(id) FROM segments), 0)"
        )
        number, last, last_outcome, generation = self._rows(newest, (model,))[0]
        return None if number is None else Mark(last, last_outcome, generation)

    def page(self, model: str, mark: Mark, after: tuple[int, int], end: int, size: int) -> list[tuple[Numbered, Outcome | None]]:
        rows = self._rows(_BETWEEN, (mark.last_outcome, model, *after, end, mark.last, size))
        found = [(Numbered(row[0], _prediction(row[1:13])), None if row[13] is None else _outcome(row[1], *row[13:])) for row in rows]
        return merged(found, self._packs.page(model, mark, after, end, size), size, mark, self.counting)

    def counting(self, ids: Sequence[str], mark: Mark) -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        for start in range(0, len(ids), IDS):
            some = list(ids[start : start + IDS])
            rows = self._rows(
                "SELECT prediction, value, known, source FROM outcomes WHERE seq IN (SELECT max(seq) FROM outcomes "
                f"WHERE prediction IN ({', '.join('?' * len(some))}) AND +seq <= ? GROUP BY prediction)",
                (*some, mark.last_outcome),
            )
            found.update((row[0], _outcome(*row)) for row in rows)
        return found

    def numbers(self, ids: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        for start in range(0, len(ids), IDS):
            some = list(ids[start : start + IDS])
            found.update(self._rows(f"SELECT id, seq FROM predictions WHERE id IN ({', '.join('?' * len(some))})", some))
        found.update((id, number) for id, (_, number) in self._packs.find(ids).items())
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
                first = min((at for at in (row[0], self._packs.first_day(number, after)) if at is not None), default=None)
                if first is None or (after := (first // _DAY + 1) * _DAY) > before:
                    break
                found.append((name, after - _DAY))
        return found

    def move(self, segment: Segment, ids: Sequence[str], instead_of: Segment | None = None) -> None:
        with self._forced.mine().transaction() as connection:
            number = number_of(connection, segment.model)
            said = (number, segment.start, segment.end, segment.address, segment.rows, segment.newest, segment.last)
            cursor = connection.execute(
                'INSERT INTO segments (model, start, "end", address, rows, newest, last) VALUES (?, ?, ?, ?, ?, ?, ?)', said
            )
            if instead_of is None:
                removed = packs_in(connection).remove(ids, model=segment.model, start=segment.start, end=segment.end)
                for start in range(0, len(ids), IDS):
                    some = list(ids[start : start + IDS])
                    removed += connection.execute(f"DELETE FROM predictions WHERE id IN ({', '.join('?' * len(some))})", some).rowcount
                if removed != len(ids):
                    raise Conflict("Some of the predictions that were to be moved are not there any more.", hint="Do it again.")
            else:
                _drop(connection, instead_of, keep=set(ids))
            connection.executemany("INSERT INTO moved VALUES (?, ?, ?)", ((id, cursor.lastrowid, row) for row, id in enumerate(ids)))

    def forget(self, ids: Sequence[str]) -> int:
        with self._forced.mine().transaction() as connection:
            removed = packs_in(connection).remove(ids)
            for start in range(0, len(ids), IDS):
                some = list(ids[start : start + IDS])
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
        if count <= 0:
            return []
        rows = self._rows(
            f"SELECT p.seq, {_COLUMNS} FROM predictions p JOIN models m ON m.id = p.model WHERE p.model = (SELECT id FROM models WHERE name = ?) "
            "ORDER BY p.answered DESC, p.seq DESC LIMIT ?",
            (model, count),
        )
        return latest([Numbered(row[0], _prediction(row[1:])) for row in rows], self._packs.latest(model), count)

    def count(self, model: str) -> tuple[int, int]:
        rows = self._rows(
            "SELECT (SELECT count(*) FROM predictions WHERE model = m.id) + coalesce((SELECT sum(rows) FROM packs WHERE model = m.id), 0) "
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


def _drop(connection: sqlite3.Connection, segment: Segment, keep: set[str]) -> None:
    """Forget a segment. `keep`: ids that are elsewhere from now on, so their outcomes stay."""
    ids = [row[0] for row in connection.execute("SELECT id FROM moved WHERE segment = ?", (segment.id,))]
    if not connection.execute("DELETE FROM segments WHERE id = ?", (segment.id,)).rowcount:
        raise Conflict("The segment was replaced meanwhile.", hint="Do it again.")
    connection.execute("DELETE FROM moved WHERE segment = ?", (segment.id,))
    connection.executemany("DELETE FROM outcomes WHERE prediction = ?", ((id,) for id in ids if id not in keep))


def _prediction(row: Sequence[Any]) -> Prediction:
    id, model, moment, answered, version, variant, output, other_version, other_output, inputs, features, micros = row
    out, other = struct.unpack(f"<{len(output) // 8}d", output), struct.unpack(f"<{len(other_output) // 8}d", other_output)
    return Prediction(id, model, moment, answered, version, variant, out, other_version, other, inputs, features, micros)


def _outcome(prediction: str, value: str, known: int, source: str) -> Outcome:
    return Outcome(prediction, json.loads(value), known, source)
