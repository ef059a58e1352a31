"""Moves the ledger of a SQLite file into an empty PostgreSQL schema as it is: versions, times, the order of links, the chain of events.

python -m treadle.backends.postgres_import .treadle/ledger.db postgresql://me@db.example.org/treadle
"""

from __future__ import annotations

import math
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from treadle.backends.postgres_ledger import PostgresLedger, stored
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.errors import Conflict, NotFound, TreadleError

_RECORDS = "kind, id, body, version, created_at, updated_at"
_LINKS = "source_kind, source_id, relation, target_kind, target_id"
_EVENTS = "seq, time, kind, subject_kind, subject_id, actor, body, previous, hash"


def move(file: Path, url: str) -> dict[str, int]:
    """Copy everything in one transaction, and return how many rows of each table. The file stays as it is.

    Raises NotFound for a file that is not there, Conflict for a schema that holds something, Corrupt when the chain does not verify on both sides.
    """
    if not file.is_file():
        raise NotFound(f"There is no ledger {file}.")
    source, target = SqliteLedger(file), PostgresLedger(url)
    source.verify_chain()
    moved: dict[str, int] = {}
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as reader, target._sessions.mine() as session, session.transaction():
        connection = session.connection
        reader.execute("BEGIN")  # one moment of it, should somebody still write

        def copy(table: str, columns: str, order: str, change: Callable[[Any], Any] = lambda row: row) -> None:
            if connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():  # type: ignore[call-overload]
                raise Conflict(f"{session.at.shown} is not empty.", hint="Name another schema, with ?schema=.")
            rows: Iterator[Any] = reader.execute(f"SELECT {columns} FROM {table} ORDER BY {order}")
            moved[table] = 0
            with connection.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as out:  # type: ignore[call-overload]
                for row in rows:
                    out.write_row(change(row))
                    moved[table] += 1

        copy("records", _RECORDS, "created_at, id", lambda row: (*row[:2], stored(row[2]), *row[3:]))
        copy("links", _LINKS, "id")
        copy("events", _EVENTS, "seq")
        copy("metrics", "id, run, name", "id")
        copy("points", "metric, step, time, value", "id", lambda row: (*row[:3], math.nan if row[3] is None else row[3]))
        connection.execute("SELECT setval(pg_get_serial_sequence('metrics', 'id'), (SELECT coalesce(max(id), 0) + 1 FROM metrics), false)")
        target.verify_chain()
    source.close()
    target.close()
    return moved


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        print(", ".join(f"{count} {table}" for table, count in move(Path(sys.argv[1]), sys.argv[2]).items()))
    except TreadleError as error:
        print(f"treadle: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
