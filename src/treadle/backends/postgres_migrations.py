"""Numbered SQL scripts that bring a PostgreSQL schema from any older version to this one; script 2 of a store here is script 2 of its SQLite file.

What is said in `sqlite_migrations.py` about old and new processes side by side holds here too. A schema carries its version and its floor in the
table `treadle_versions`, one row a store. A script that is run `beside` the work of others runs outside a transaction, statement by statement, and is
written so that it can be run again after it was cut off.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import psycopg
from psycopg import sql

from treadle.core.errors import StorageError, Unavailable

MIGRATION_SECONDS = 600.0  # to wait for another process that is migrating


@dataclass(frozen=True, slots=True)
class Schema:
    """What a kind of store is called and its scripts, oldest first; the numbers of those that only add, and of those that block nobody."""

    name: str
    scripts: tuple[str, ...]
    adds: frozenset[int] = frozenset()
    beside: frozenset[int] = frozenset()


LEDGER = Schema(
    "ledger",
    (
        # Texts are compared byte by byte (COLLATE "C"), as everywhere else in the house. `json` keeps a body as it was written, to the last digit.
        """
        CREATE TABLE records (
            kind text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, body json NOT NULL, version bigint NOT NULL,
            created_at text COLLATE "C" NOT NULL, updated_at text COLLATE "C" NOT NULL,
            PRIMARY KEY (kind, id)
        );
        CREATE INDEX records_by_time ON records (kind, created_at, id);

        CREATE TABLE links (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            source_kind text COLLATE "C" NOT NULL, source_id text COLLATE "C" NOT NULL, relation text COLLATE "C" NOT NULL,
            target_kind text COLLATE "C" NOT NULL, target_id text COLLATE "C" NOT NULL,
            UNIQUE (source_kind, source_id, relation, target_kind, target_id)
        );
        CREATE INDEX links_by_target ON links (target_kind, target_id);

        CREATE TABLE events (
            seq bigint PRIMARY KEY, time text COLLATE "C" NOT NULL, kind text COLLATE "C" NOT NULL, subject_kind text COLLATE "C" NOT NULL,
            subject_id text COLLATE "C" NOT NULL, actor text COLLATE "C" NOT NULL, body text COLLATE "C" NOT NULL,
            previous text COLLATE "C" NOT NULL, hash text COLLATE "C" NOT NULL
        );
        CREATE INDEX events_by_kind ON events (kind, seq);
        -- Against accidents, not against thieves: those are found by the hash chain.
        CREATE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the event log is append-only'; END $$;
        CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON events FOR EACH STATEMENT EXECUTE FUNCTION events_stay();

        CREATE TABLE metrics (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run text COLLATE "C" NOT NULL, name text COLLATE "C" NOT NULL, UNIQUE (run, name)
        );
        CREATE TABLE points (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, metric bigint NOT NULL, step bigint NOT NULL, time bigint NOT NULL,
            value double precision NOT NULL
        );
        CREATE INDEX points_by_step ON points (metric, step);
        """,
        # The two questions that are asked all the time: which steps has this run, and which runs are under way. An entry of an index has to be
        # short, so it holds the first 200 characters (see `find`).
        """
        CREATE INDEX CONCURRENTLY IF NOT EXISTS run_steps_by_run ON records
            (left((body -> 'run'::text)::text, 200), created_at, id) WHERE kind = 'run_step';
        CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_by_status ON records
            (left((body -> 'status'::text)::text, 200), created_at, id) WHERE kind = 'run';
        """,
    ),
    adds=frozenset({2}),
    beside=frozenset({2}),
)

ONLINE = Schema(
    "online store",
    (
        # Names are bytes: a text of PostgreSQL cannot hold every character. Rows are replaced all the time, so pages keep room for the next version.
        """
        CREATE TABLE views (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name bytea NOT NULL UNIQUE, newest bigint);
        CREATE TABLE latest (
            view integer NOT NULL, entity bytea NOT NULL, time bigint NOT NULL, packed bytea NOT NULL,
            PRIMARY KEY (view, entity)
        ) WITH (fillfactor = 70);
        """,
        "ALTER TABLE latest ADD COLUMN event bigint;",
    ),
    adds=frozenset({2}),
)


PREDICTIONS = Schema(
    "prediction log",
    (
        # As in SQLite. An outcome's value may be longer than an entry of an index, so its hash tells two apart.
        """
        CREATE TABLE models (id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text COLLATE "C" NOT NULL UNIQUE);

        CREATE TABLE predictions (
            seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE, model integer NOT NULL, moment bigint NOT NULL,
            answered bigint NOT NULL, version bigint NOT NULL, variant text NOT NULL, output bytea NOT NULL, other_version bigint NOT NULL,
            other_output bytea NOT NULL, inputs bytea NOT NULL, features bytea NOT NULL, micros bigint NOT NULL
        );
        CREATE INDEX predictions_by_moment ON predictions (model, moment, seq);
        CREATE INDEX predictions_by_answer ON predictions (model, answered, seq);

        CREATE TABLE outcomes (
            seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, prediction text COLLATE "C" NOT NULL, model integer, value text COLLATE "C" NOT NULL,
            known bigint NOT NULL, source text COLLATE "C" NOT NULL, received bigint NOT NULL
        );
        CREATE UNIQUE INDEX outcomes_once ON outcomes (prediction, md5(value), known, source);
        CREATE INDEX outcomes_by_model ON outcomes (model, prediction);
        CREATE INDEX strays ON outcomes (prediction) WHERE model IS NULL;

        CREATE TABLE segments (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, model integer NOT NULL, start bigint NOT NULL, "end" bigint NOT NULL,
            address text NOT NULL, rows bigint NOT NULL, newest bigint NOT NULL, last bigint NOT NULL
        );
        CREATE TABLE moved (id text COLLATE "C" PRIMARY KEY, segment bigint NOT NULL, row integer NOT NULL);
        CREATE INDEX moved_by_segment ON moved (segment);
        """,
        # Predictions that were written together as one row: script 3 of SQLite. A Treadle that does not know them must not read the log.
        """
        CREATE TABLE packs (
            last bigint PRIMARY KEY, model integer NOT NULL, first_id text COLLATE "C" NOT NULL, last_id text COLLATE "C" NOT NULL,
            start bigint NOT NULL, "end" bigint NOT NULL, answered bigint NOT NULL, taken integer NOT NULL, rows integer NOT NULL,
            packed bytea NOT NULL
        );
        CREATE INDEX packs_by_id ON packs (last_id, first_id);
        CREATE INDEX packs_by_moment ON packs (model, start, last, "end");
        CREATE INDEX packs_by_answer ON packs (model, answered, last, rows);
        """,
    ),
)


def migrate(connection: psycopg.Connection, schema: Schema, namespace: str, lock: int, shown: str) -> None:
    """Run the scripts this schema has not seen. Others go on working meanwhile, and of several that want to migrate one does.

    Raises StorageError for a schema of a newer Treadle or another program, Unavailable when another process does not finish its migration.
    """
    if _versions(connection, schema, namespace, shown)[0] >= len(schema.scripts):
        return
    give_up = time.monotonic() + MIGRATION_SECONDS
    # Asked again and again instead of waited for: CREATE INDEX CONCURRENTLY waits for every statement that is under way, so it would wait for ours.
    while not connection.execute("SELECT pg_try_advisory_lock(%s)", (lock,)).fetchone()[0]:  # type: ignore[index]
        if time.monotonic() > give_up:
            raise Unavailable(f"{shown} has been migrated by another process for {MIGRATION_SECONDS:g} s.", hint="Try again when it is done.")
        time.sleep(0.05)
    try:
        version, floor = _versions(connection, schema, namespace, shown)
        for number in range(version + 1, len(schema.scripts) + 1):
            floor = floor if number in schema.adds else number
            if number in schema.beside:
                _beside(connection, schema.scripts[number - 1], namespace)
            with connection.transaction():
                if version == 0:
                    _prepare(connection, namespace)
                if number not in schema.beside:
                    connection.execute(schema.scripts[number - 1].encode())
                connection.execute(
                    "INSERT INTO treadle_versions VALUES (%s, %s, %s) "
                    "ON CONFLICT (store) DO UPDATE SET version = excluded.version, floor = excluded.floor",
                    (schema.name, number, floor),
                )
            version = number
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (lock,))


def _versions(connection: psycopg.Connection, schema: Schema, namespace: str, shown: str) -> tuple[int, int]:
    """How many scripts the schema has seen, and how many a Treadle must know that may use it."""
    tables = {row[0] for row in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (namespace,))}
    if not tables:
        return 0, 0
    if "treadle_versions" not in tables:
        raise StorageError(
            f"Schema {namespace!r} of {shown} holds tables of another program.", hint="Name another one with ?schema=; nothing in it was changed."
        )
    if not connection.execute("SELECT has_schema_privilege(%s, 'USAGE')", (namespace,)).fetchone()[0]:  # type: ignore[index]
        raise StorageError(
            f"Schema {namespace!r} of {shown} may not be used by this user.",
            hint=f"Its owner can say: GRANT USAGE ON SCHEMA {namespace} TO user; GRANT ALL ON ALL TABLES IN SCHEMA {namespace} TO user.",
        )
    version, floor = connection.execute("SELECT version, floor FROM treadle_versions WHERE store = %s", (schema.name,)).fetchone() or (0, 0)
    if floor > len(schema.scripts):
        raise StorageError(
            f"{shown} was written by a newer Treadle: its {schema.name} needs one of version {floor}, this one knows up to {len(schema.scripts)}.",
            hint="Install the newer Treadle; nothing was changed.",
        )
    return version, floor


def _prepare(connection: psycopg.Connection, namespace: str) -> None:
    if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (namespace,)).fetchone() is None:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(namespace)))
    connection.execute("CREATE TABLE IF NOT EXISTS treadle_versions (store text PRIMARY KEY, version integer NOT NULL, floor integer NOT NULL)")


def _beside(connection: psycopg.Connection, script: str, namespace: str) -> None:
    """Statement by statement, without limits of time: an index that takes an hour holds up nobody."""
    waits = connection.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')").fetchone()
    connection.execute("SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)")
    try:
        # What is left of an index whose building was cut off.
        for (name,) in connection.execute(
            "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND NOT i.indisvalid",
            (namespace,),
        ).fetchall():
            connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(name)))
        for statement in script.split(";")[:-1]:
            connection.execute(statement.encode())
    finally:
        if not connection.closed:
            connection.execute("SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)", waits)
