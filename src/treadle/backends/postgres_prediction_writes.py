"""How predictions and outcomes get into the tables of a prediction log in PostgreSQL, inside a transaction that has its turn."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence

from treadle.backends.pack_table import PackTable
from treadle.backends.postgres_sessions import Session
from treadle.backends.prediction_packs import Pack
from treadle.ports.predictions import Prediction

_BATCH = 2_000
_PUT = """
INSERT INTO predictions (id, model, moment, answered, version, variant, output, other_version, other_output, inputs, features, micros)
SELECT u.id, m.id, u.moment, u.answered, u.version, u.variant, u.output, u.other_version, u.other_output, u.inputs, u.features, u.micros
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %b::bytea[], %s::bigint[], %b::bytea[], %b::bytea[],
    %b::bytea[], %s::bigint[]) WITH ORDINALITY
    AS u (id, model, moment, answered, version, variant, output, other_version, other_output, inputs, features, micros, number)
JOIN models m ON m.name = u.model WHERE NOT EXISTS (SELECT FROM moved WHERE moved.id = u.id) ORDER BY u.number ON CONFLICT (id) DO NOTHING
"""
_ADOPT = "UPDATE outcomes o SET model = p.model FROM predictions p WHERE o.model IS NULL AND p.id = o.prediction AND o.prediction = ANY(%s::text[])"
_TRUTHS = """
INSERT INTO outcomes (prediction, model, value, known, source, received)
SELECT u.prediction, coalesce(
    (SELECT id FROM models WHERE name = u.packed),
    (SELECT model FROM predictions WHERE id = u.prediction),
    (SELECT s.model FROM moved a JOIN segments s ON s.id = a.segment WHERE a.id = u.prediction)
), u.value, u.known, u.source, %s FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::text[], %s::text[]) WITH ORDINALITY
    AS u (prediction, value, known, source, packed, number)
ORDER BY u.number ON CONFLICT (prediction, md5(value), known, source) DO NOTHING
"""
_ANY_STRAYS = "EXISTS (SELECT FROM outcomes WHERE model IS NULL)"
_ADOPT_PACKED = (
    "UPDATE outcomes SET model = (SELECT id FROM models WHERE name = %s) WHERE model IS NULL AND prediction = ANY(%s::text[])"
)
_TAKE = "SELECT setval(pg_get_serial_sequence('predictions', 'seq'), nextval(pg_get_serial_sequence('predictions', 'seq')) + %s - 1)"


def packs_in(session: Session) -> PackTable:
    """The packs, inside a transaction."""
    return PackTable(lambda sql, values: session.run((sql.replace("?", "%s"), values))[0])


def put(session: Session, pack: Pack) -> None:
    """Store what of a pack is not stored yet."""
    packs = packs_in(session)
    there = packs.stored(pack)
    left = pack.without(there) if there else pack
    if left is not None:
        number, last, strays = session.run((f"SELECT id, ({_TAKE}), {_ANY_STRAYS} FROM models WHERE name = %s", (left.taken, left.model)))[0][0]
        packs.put(left, number, last)
        if strays:
            session.run((_ADOPT_PACKED, (left.model, left.content.ids)))


def put_rows(session: Session, predictions: Sequence[Prediction]) -> None:
    """Store predictions as rows of their own."""
    for start in range(0, len(predictions), _BATCH):
        some = predictions[start : start + _BATCH]
        rows = [
            (p.id, p.model, p.moment, p.answered, p.version, p.variant, _packed(p.output), p.other_version, _packed(p.other_output), p.inputs,
             p.features, p.micros) for p in some
        ]  # fmt: skip
        session.run((_PUT, [list(column) for column in zip(*rows)]))
        session.run((_ADOPT, ([p.id for p in some],)))


def put_truths(session: Session, truths: Sequence[tuple[str, str, int, str]]) -> None:
    """Store outcomes: (prediction, value as JSON, known, source)."""
    packed = packs_in(session).models_of({t[0] for t in truths})
    columns = [list(column) for column in zip(*truths)]
    session.run((_TRUTHS, (time.time_ns() // 1000, *columns, [packed.get(t[0]) for t in truths])))


def _packed(output: tuple[float, ...]) -> bytes:
    return struct.pack(f"<{len(output)}d", *output)
