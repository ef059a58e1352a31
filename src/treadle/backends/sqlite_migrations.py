"""Numbered SQL scripts that bring a database file from any older version to this one; `PRAGMA user_version` counts them.

A script, once released, is never changed: what is wrong with it is mended by the next one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from treadle.core.errors import StorageError


@dataclass(frozen=True, slots=True)
class Schema:
    """What a kind of database file is called, the number that marks such files, and its scripts, oldest first."""

    name: str
    application_id: int
    scripts: tuple[str, ...]


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
    ),
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
    ),
)


def migrate(connection: sqlite3.Connection, schema: Schema, path: Path) -> None:
    """Run the scripts this file has not seen, all in one transaction. Raises StorageError for a file of a newer Treadle or another program."""
    if _version(connection, schema, path) == len(schema.scripts):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another process may have migrated while we waited.
        for number in range(_version(connection, schema, path), len(schema.scripts)):
            for statement in statements(schema.scripts[number]):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number + 1}")
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


def _version(connection: sqlite3.Connection, schema: Schema, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    empty = version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if not empty and owner != schema.application_id:
        raise StorageError(f"{path} is a database, but not a Treadle {schema.name}.", hint="Choose another path; nothing in it was changed.")
    if version > len(schema.scripts):
        raise StorageError(
            f"{path} was written by a newer Treadle: its {schema.name} has version {version}, this one knows up to {len(schema.scripts)}.",
            hint="Install the newer Treadle; nothing was changed.",
        )
    return version
