"""Old and new processes side by side: while old ones write, a new one migrates; both go on, nothing is lost, nobody gets an error."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from treadle.backends import sqlite_ledger
from treadle.backends.catalog import open_backend
from treadle.backends.sqlite_migrations import LEDGER, migrate
from treadle.core.errors import StorageError
from treadle.ports.ledger import Ledger
from treadle.testing.servers import postgres_url, schema_of

# A process of the version before: it knows one script. It opens the ledger again and again, as its threads and children do.
OLD = """
import dataclasses, sys
from treadle.backends import MODULE as module
assert len(module.LEDGER.scripts) > 1
known = {name: frozenset() for name in ("adds", "beside") if hasattr(module.LEDGER, name)}
module.LEDGER = dataclasses.replace(module.LEDGER, scripts=module.LEDGER.scripts[:1], **known)
"""
NEW = ""
WRITE = """
import sys, threading
from treadle.backends.catalog import open_backend
from treadle.core.errors import Conflict
from treadle.core.records import Link, Point, Ref
url, name = sys.argv[1:]
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
n = 0
while not over.is_set():
    ledger = open_backend("ledger", url)
    for _ in range(10):
        id = f"{name}-{n}"
        with ledger.transaction():
            ledger.put("run", id, {"status": "running", "by": name}, expect=0)
            ledger.append("started", Ref("run", id))
        for step in range(3):
            ledger.put("run_step", f"{id}/{step}", {"run": id, "step": step})
        assert len(ledger.find("run_step", {"run": id})) == 3
        ledger.log_points([Point(id, "loss", 0.5)])
        ledger.put("run", id, {"status": "done", "by": name}, expect=1)
        while True:
            now = ledger.get("counter", "c")
            try:
                ledger.put("counter", "c", {"n": (now["n"] if now else 0) + 1}, expect=now.version if now else 0)
                break
            except Conflict:
                pass
        print(id, flush=True)
        n += 1
    ledger.close()
"""


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """The module that says which scripts there are, and an address."""
    if request.param == "sqlite":
        return "sqlite_ledger", f"sqlite://{tmp_path}/ledger.db"
    return "postgres_ledger", postgres_url(schema=schema_of(tmp_path))


def _writer(knows: str, url: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", knows + WRITE, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _indexes(url: str, schema: str) -> set[str]:
    if url.startswith("postgresql"):
        with psycopg.connect(postgres_url()) as connection:
            return {row[0] for row in connection.execute("SELECT indexname FROM pg_indexes WHERE schemaname = %s", (schema,))}
    connection = sqlite3.connect(url.removeprefix("sqlite://"))
    try:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
    finally:
        connection.close()


def test_old_writers_go_on_while_a_new_process_migrates_and_afterwards(place: tuple[str, str], tmp_path: Path) -> None:
    module, url = place
    old = OLD.replace("MODULE", module)
    writers = [_writer(old, url, name) for name in ("old-a", "old-b")]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.readline()
    time.sleep(0.5)
    schema = schema_of(tmp_path)
    assert "runs_by_status" not in _indexes(url, schema)
    writers += [_writer(NEW, url, name) for name in ("new-a", "new-b")]  # two, so that they also race for who migrates
    for writer in writers[2:]:
        assert writer.stdout is not None
        writer.stdout.readline()
    assert {"runs_by_status", "run_steps_by_run"} <= _indexes(url, schema)
    time.sleep(1.0)
    told = {}
    for name, writer in zip(("old-a", "old-b", "new-a", "new-b"), writers):
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdin.close()
        told[name] = 1 + len(writer.stdout.read().splitlines())
        assert writer.wait(60) == 0
        writer.stdout.close()
    ledger: Ledger = open_backend("ledger", url)
    runs = ledger.find("run", {"status": "done"})
    assert {name: sum(run["by"] == name for run in runs) for name in told} == told
    assert ledger.verify_chain() == len(runs) == ledger.get("counter", "c")["n"]  # type: ignore[index]
    assert len(ledger.find("run_step")) == 3 * len(runs)
    assert all(len(ledger.find("run_step", {"run": run.id})) == 3 for run in runs[:: max(1, len(runs) // 20)])
    assert ledger.find("run", {"status": "running"}) == []
    ledger.close()


def test_an_old_process_refuses_what_a_newer_one_changed_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    sqlite_ledger.SqliteLedger(path).put("run", "a", {})
    changes = replace(LEDGER, scripts=(*LEDGER.scripts, "ALTER TABLE records RENAME COLUMN body TO said;"))
    monkeypatch.setattr(sqlite_ledger, "LEDGER", changes)
    sqlite_ledger.SqliteLedger(path)
    monkeypatch.undo()
    with pytest.raises(StorageError, match="newer Treadle"):
        sqlite_ledger.SqliteLedger(path)


def test_the_treadle_that_knew_one_script_only_opens_a_file_that_has_two(tmp_path: Path) -> None:
    """Version 0.1 compares PRAGMA user_version with what it knows, and refuses more: an expanded file still says 1."""
    path = tmp_path / "ledger.db"
    ledger = sqlite_ledger.SqliteLedger(path)
    with ledger._sessions.mine().transaction() as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("SELECT number FROM migrations").fetchall() == [(2,)]
    ledger.close()


def test_a_file_that_another_process_makes_while_it_is_looked_at_is_not_taken_for_a_strangers(tmp_path: Path) -> None:
    path = tmp_path / "new.db"

    class Slow(sqlite3.Connection):
        """Between two questions another process makes the whole file."""

        asked = False

        def execute(self, sql: str, *more: Any) -> Any:
            found = super().execute(sql, *more)
            if sql == "PRAGMA application_id" and not self.asked:
                self.asked = True
                other = sqlite3.connect(path, isolation_level=None)
                migrate(other, LEDGER, path)
                other.close()
            return found

    mine = sqlite3.connect(path, isolation_level=None, factory=Slow)
    mine.execute("PRAGMA journal_mode = WAL")
    migrate(mine, LEDGER, path)
    assert mine.asked
    mine.close()
