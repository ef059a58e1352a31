"""Numbered SQL scripts that bring a database file from any older version to this one.

A script, once released, is never changed: what is wrong with it is mended by the next one.

Old and new processes work on one file side by side while a script only adds (an index, a table, a column with a default): the old ones go on
without noticing. So a file carries two numbers. `PRAGMA user_version` is its floor: the oldest Treadle, counted in scripts known, that may use it.
The table `migrations` says which scripts it has seen, once that is more than the floor. A script that only adds leaves the floor where it was.
Every Treadle refuses a file whose floor is above what it knows, and leaves alone what it does not know below that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from treadle.core.errors import StorageError


@dataclass(frozen=True, slots=True)
class Schema:
    """What a kind of database file is called, the number that marks such files, and its scripts, oldest first.

    `adds` are the numbers (from 1) of the scripts that only add: a Treadle that has never heard of them works on as before.
    """

    name: str
    application_id: int
    scripts: tuple[str, ...]
    adds: frozenset[int] = frozenset()


LEDGER = Schema(
    "ledger",
    0x54726C31,
    (
        """
        CREATE TABLE records (
            kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, version INTEGER NOT NULL,
            created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
            PRIMARY KEY (kind, id)
        );
        CREATE INDEX records_by_time ON records (kind, created_at, id);

        CREATE TABLE links (
            id INTEGER PRIMARY KEY,
            source_kind TEXT NOT NULL, source_id TEXT NOT NULL, relation TEXT NOT NULL, target_kind TEXT NOT NULL, target_id TEXT NOT NULL,
            UNIQUE (source_kind, source_id, relation, target_kind, target_id)
        );
        CREATE INDEX links_by_target ON links (target_kind, target_id);

        CREATE TABLE events (
            seq INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, subject_kind TEXT NOT NULL, subject_id TEXT NOT NULL,
            actor TEXT NOT NULL, body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL
        );
        CREATE INDEX events_by_kind ON events (kind, seq);
        -- Against accidents, not against thieves: those are found by the hash chain.
        CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
        CREATE TRIGGER events_remain BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;

        -- A run logs millions of points under a few names, so a point row holds a number instead of the two names,
        -- and its time as microseconds. NaN is stored as NULL.
        CREATE TABLE metrics (id INTEGER PRIMARY KEY, run TEXT NOT NULL, name TEXT NOT NULL, UNIQUE (run, name));
        CREATE TABLE points (id INTEGER PRIMARY KEY, metric INTEGER NOT NULL, step INTEGER NOT NULL, time INTEGER NOT NULL, value REAL);
        CREATE INDEX points_by_step ON points (metric, step);
        """,
        # The two questions that are asked all the time: which steps has this run, and which runs are under way.
        """
        CREATE INDEX run_steps_by_run ON records (body -> '$."run"', created_at, id) WHERE kind = 'run_step';
        CREATE INDEX runs_by_status ON records (body -> '$."status"', created_at, id) WHERE kind = 'run';
        """,
    ),
    adds=frozenset({2}),
)

ONLINE = Schema(
    "online store",
    0x54726F31,
    (
        """
        CREATE TABLE views (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, newest INTEGER);
        CREATE TABLE latest (
            view INTEGER NOT NULL, entity TEXT NOT NULL, time INTEGER NOT NULL, packed BLOB NOT NULL,
            PRIMARY KEY (view, entity)
        ) WITHOUT ROWID;
        """,
        # The moment a value is about, where that is not the moment it became known.
        "ALTER TABLE latest ADD COLUMN event INTEGER;",
    ),
    adds=frozenset({2}),
)


def migrate(connection: sqlite3.Connection, schema: Schema, path: Path) -> None:
    """Run the scripts this file has not seen, all in one transaction. Raises StorageError for a file of a newer Treadle or another program."""
    connection.execute("BEGIN")  # all that is asked is of one moment: another process may be making the file just now
    try:
        known = _versions(connection, schema, path)[0]
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")
    if known >= len(schema.scripts):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another process may have migrated while we waited.
        version, floor = _versions(connection, schema, path)
        for number in range(version + 1, len(schema.scripts) + 1):
            for statement in statements(schema.scripts[number - 1]):
                connection.execute(statement)
            if number in schema.adds:
                connection.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY)")
                connection.execute("INSERT INTO migrations VALUES (?)", (number,))
            else:
                floor = number
        connection.execute(f"PRAGMA user_version = {floor}")
        connection.execute(f"PRAGMA application_id = {schema.application_id}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def statements(script: str) -> Iterator[str]:
    """The single statements of a script (`executescript` would commit the transaction we are in)."""
    pending = ""
    for part in script.split(";")[:-1]:
        pending += part + ";"
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    if pending.strip():
        raise ValueError(f"unfinished statement: {pending.strip()[:60]}")


def _versions(connection: sqlite3.Connection, schema: Schema, path: Path) -> tuple[int, int]:
    """How many scripts the file has seen, and how many a Treadle must know that may use it."""
    floor = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    if (floor or tables) and owner != schema.application_id:
        raise StorageError(f"{path} is a database, but not a Treadle {schema.name}.", hint="Choose another path; nothing in it was changed.")
    if floor > len(schema.scripts):
        raise StorageError(
            f"{path} was written by a newer Treadle: its {schema.name} needs one of version {floor}, this one knows up to {len(schema.scripts)}.",
            hint="Install the newer Treadle; nothing was changed.",
        )
    seen = connection.execute("SELECT max(number) FROM migrations").fetchone()[0] if "migrations" in tables else None
    return max(floor, seen or 0), floor
