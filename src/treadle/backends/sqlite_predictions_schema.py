"""The tables of a prediction log in SQLite, script by script."""

from __future__ import annotations

from treadle.backends.sqlite_migrations import Schema

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
        # Predictions that were written together as one row (see prediction_packs.py); `last` is the number of the last of them, and the others have
        # those before it. A Treadle that does not know them must not read the log.
        """
        CREATE TABLE packs (
            last INTEGER PRIMARY KEY, model INTEGER NOT NULL, first_id TEXT NOT NULL, last_id TEXT NOT NULL, start INTEGER NOT NULL,
            "end" INTEGER NOT NULL, answered INTEGER NOT NULL, taken INTEGER NOT NULL, rows INTEGER NOT NULL, packed BLOB NOT NULL
        );
        CREATE INDEX packs_by_id ON packs (last_id, first_id);
        CREATE INDEX packs_by_moment ON packs (model, start, last, "end");
        CREATE INDEX packs_by_answer ON packs (model, answered, last, rows);
        """,
    ),
)
