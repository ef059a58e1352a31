"""How predictions and outcomes get into the tables of a prediction log in SQLite: numbered in the order given, each id once."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

from treadle.backends.pack_table import PackTable
from treadle.backends.prediction_packs import Pack
from treadle.ports.predictions import Prediction

_ROWS = 64  # of one statement: the sqlite3 module gives the GIL away at every statement, and a third of the time is saved
IDS = 500  # of one statement
NEWEST = (
    "max(coalesce((SELECT max(seq) FROM predictions), 0), coalesce((SELECT max(last) FROM packs), 0), coalesce((SELECT max(last) FROM segments), 0))"
)
_MODEL_OF_MOVED = "(SELECT s.model FROM moved a JOIN segments s ON s.id = a.segment WHERE a.id = column1)"
_ANY_STRAYS = "SELECT EXISTS (SELECT 1 FROM outcomes WHERE model IS NULL)"  # asked once a call: a trigger would cost 2 us a prediction


@cache
def _insert_predictions(rows: int) -> str:
    columns = "seq, id, model, moment, answered, version, variant, output, other_version, other_output, inputs, features, micros"
    values = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"] * rows)
    return f"INSERT INTO predictions ({columns}) VALUES {values} ON CONFLICT (id) DO NOTHING"


def packs_in(connection: sqlite3.Connection) -> PackTable:
    """The packs, inside a transaction."""
    return PackTable(lambda sql, values: connection.execute(sql, values).fetchall())


def put(connection: sqlite3.Connection, parts: Sequence[Pack | list[Prediction]], numbers: dict[str, int]) -> None:
    """Store what is not stored yet, numbered in the order given."""
    last, moved = connection.execute(f"SELECT {NEWEST}, EXISTS (SELECT 1 FROM segments)").fetchone()
    strays = connection.execute(_ANY_STRAYS).fetchone()[0]
    packs = packs_in(connection)
    for part in parts:
        if isinstance(part, Pack):
            there = packs.stored(part)
            pack = part.without(there) if there else part
            if pack is not None:
                last += pack.taken
                packs.put(pack, numbers[pack.model], last)
                if strays:
                    _adopt(connection, numbers[pack.model], pack.content.ids)
            continue
        rows = [
            (last + i, p.id, numbers[p.model], p.moment, p.answered, p.version, p.variant, _packed(p.output), p.other_version,
             _packed(p.other_output), p.inputs, p.features, p.micros)
            for i, p in enumerate(part, 1)
        ]  # fmt: skip
        last += len(rows)
        if moved:
            rows = _not_moved(connection, rows)
        for start in range(0, len(rows), _ROWS):
            some = rows[start : start + _ROWS]
            connection.execute(_insert_predictions(len(some)), tuple(chain.from_iterable(some)))
        if strays:
            stored = _models_of(connection, [row[1] for row in rows])
            for model in set(stored.values()):
                _adopt(connection, model, [id for id, of in stored.items() if of == model])


def _adopt(connection: sqlite3.Connection, model: int, ids: Sequence[str]) -> None:
    """Outcomes that came before their predictions are no strays any more."""
    for start in range(0, len(ids), IDS):
        some = ids[start : start + IDS]
        connection.execute(f"UPDATE outcomes SET model = ? WHERE model IS NULL AND prediction IN ({', '.join('?' * len(some))})", (model, *some))


def _models_of(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(ids), IDS):
        some = ids[start : start + IDS]
        found.update(connection.execute(f"SELECT id, model FROM predictions WHERE id IN ({', '.join('?' * len(some))})", some))
    return found


def put_truths(connection: sqlite3.Connection, truths: Sequence[tuple[Any, ...]]) -> None:
    """Store outcomes: (prediction, value as JSON, known, source, received)."""
    packed = packs_in(connection).models_of({truth[0] for truth in truths})
    numbers = {name: number_of(connection, name) for name in set(packed.values())}
    for start in range(0, len(truths), _ROWS):
        some = [(*truth, numbers.get(packed.get(truth[0], ""))) for truth in truths[start : start + _ROWS]]
        connection.execute(_insert_outcomes(len(some)), tuple(chain.from_iterable(some)))


@cache
def _insert_outcomes(rows: int) -> str:
    values = ", ".join(["(?, ?, ?, ?, ?, ?)"] * rows)
    return (
        "INSERT INTO outcomes (prediction, model, value, known, source, received) SELECT column1, "
        f"coalesce(column6, (SELECT model FROM predictions WHERE id = column1), {_MODEL_OF_MOVED}), column2, column3, column4, column5 "
        f"FROM (VALUES {values}) WHERE true ON CONFLICT (prediction, value, known, source) DO NOTHING"
    )


def _not_moved(connection: sqlite3.Connection, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    there: set[str] = set()
    for start in range(0, len(rows), IDS):
        ids = [row[1] for row in rows[start : start + IDS]]
        there.update(row[0] for row in connection.execute(f"SELECT id FROM moved WHERE id IN ({', '.join('?' * len(ids))})", ids))
    return [row for row in rows if row[1] not in there]


def number_of(connection: sqlite3.Connection, model: str) -> int:
    """The number of a model, which gets one if it has none."""
    connection.execute("INSERT INTO models (name) VALUES (?) ON CONFLICT DO NOTHING", (model,))
    return int(connection.execute("SELECT id FROM models WHERE name = ?", (model,)).fetchone()[0])


def _packed(output: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(output)}d", *output)
