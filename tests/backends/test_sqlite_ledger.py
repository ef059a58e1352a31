"""What the SQLite ledger promises beyond the port: migrations, the chain check, forks, and errors that say what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from treadle.backends import sqlite_sessions
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.backends.sqlite_migrations import LEDGER, ONLINE, Schema, migrate, statements
from treadle.backends.sqlite_online import SqliteOnline
from treadle.core.errors import Corrupt, StorageError, Unavailable
from treadle.core.records import Ref, chain_hash

RUN = Ref("run", "run-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> SqliteLedger:
    return SqliteLedger(path)


def _sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


# Migrations


def test_an_empty_file_becomes_a_ledger_of_the_present_version(path: Path) -> None:
    path.touch()
    SqliteLedger(path).put("run", "a", {})
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 1  # the floor: who knows one script may use it
        assert connection.execute("SELECT max(number) FROM migrations").fetchone()[0] == len(LEDGER.scripts)
        assert connection.execute("PRAGMA application_id").fetchone()[0] == LEDGER.application_id
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_an_old_file_gets_only_the_scripts_it_has_not_seen(path: Path) -> None:
    old = Schema("ledger", 7, ("CREATE TABLE a (n INTEGER); INSERT INTO a VALUES (1);",))
    new = Schema("ledger", 7, (*old.scripts, "ALTER TABLE a ADD COLUMN m INTEGER; UPDATE a SET m = n + 1;", "UPDATE a SET m = m * 10;"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, old, path)
        migrate(connection, new, path)
        migrate(connection, new, path)
        assert connection.execute("SELECT n, m FROM a").fetchall() == [(1, 20)]


def test_a_migration_that_fails_leaves_the_old_version_whole(path: Path) -> None:
    old = Schema("ledger", 7, ("CREATE TABLE a (n INTEGER);",))
    bad = Schema("ledger", 7, (*old.scripts, "CREATE TABLE b (n INTEGER);", "CREATE TABLE b (n INTEGER);"))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, old, path)
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, bad, path)
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 1
        assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["a"]


def test_a_script_is_split_where_its_statements_end() -> None:
    script = "CREATE TABLE a (n); -- a; b\nCREATE TRIGGER t BEFORE DELETE ON a BEGIN SELECT ';'; SELECT 2; END;\nINSERT INTO a VALUES ('x;y');"
    assert len(list(statements(script))) == 3


def test_a_file_of_a_newer_treadle_is_refused_and_left_alone(ledger: SqliteLedger, path: Path) -> None:
    ledger.put("run", "a", {})
    ledger.close()
    _sql(path, "PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="newer Treadle") as caught:
        SqliteLedger(path)
    assert "Install" in str(caught.value)
    _sql(path, "PRAGMA user_version = 1")
    assert SqliteLedger(path).get("run", "a") is not None


def test_a_script_that_only_adds_leaves_the_file_to_older_ones(path: Path) -> None:
    old = Schema("ledger", 7, ("CREATE TABLE a (n INTEGER);",))
    new = Schema("ledger", 7, (*old.scripts, "CREATE INDEX i ON a (n);", "ALTER TABLE a ADD COLUMN m;"), adds=frozenset({2, 3}))
    newest = Schema("ledger", 7, (*new.scripts, "DROP TABLE a;"), adds=new.adds)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for schema in (old, new, old, new):
            migrate(connection, schema, path)
        connection.execute("INSERT INTO a (n, m) VALUES (1, 2)")
        migrate(connection, newest, path)
        migrate(connection, newest, path)
        for schema in (old, new):
            with pytest.raises(StorageError, match="newer Treadle"):
                migrate(connection, schema, path)


@pytest.mark.parametrize(("kind", "where", "index"), [("run_step", {"run": "a"}, "run_steps_by_run"), ("run", {"status": "done"}, "runs_by_status")])
def test_the_questions_asked_all_the_time_use_an_index(ledger: SqliteLedger, kind: str, where: dict[str, str], index: str) -> None:
    asked: list[str] = []
    connection = ledger._sessions.mine().connection
    connection.set_trace_callback(asked.append)
    ledger.find(kind, where, newest_first=True, limit=1)
    connection.set_trace_callback(None)
    plan = " ".join(row[3] for row in ledger._rows(f"EXPLAIN QUERY PLAN {asked[0]}"))
    assert index in plan
    assert "B-TREE" not in plan


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    _sql(path, "CREATE TABLE experiments (n INTEGER)")
    with pytest.raises(StorageError, match="not a Treadle ledger"):
        SqliteLedger(path)
    with closing(sqlite3.connect(path)) as connection:
        assert [row[0] for row in connection.execute("SELECT name FROM sqlite_master")] == ["experiments"]


def test_an_online_store_is_no_ledger(path: Path) -> None:
    SqliteOnline(path).close()
    with pytest.raises(StorageError, match="not a Treadle ledger"):
        SqliteLedger(path)
    assert LEDGER.application_id != ONLINE.application_id


def test_two_threads_may_create_the_same_file_at_once(path: Path) -> None:
    start, ledgers = threading.Barrier(4), []

    def create() -> None:
        start.wait()
        ledger = SqliteLedger(path)
        ledger.append("created", RUN)
        ledgers.append(ledger)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ledger.verify_chain() for ledger in ledgers] == [4] * 4


# The chain


def test_an_untouched_chain_verifies_and_counts(ledger: SqliteLedger) -> None:
    assert ledger.verify_chain() == 0
    with ledger.transaction():
        for n in range(5001):
            ledger.append("tick", RUN, {"n": n, "auc": float("nan")})
    assert ledger.verify_chain() == 5001


@pytest.mark.parametrize(
    ("tampering", "bad"),
    [
        ("UPDATE events SET body = '{\"n\":99}' WHERE seq = 3", 3),
        ("UPDATE events SET actor = 'mallory' WHERE seq = 1", 1),
        ("UPDATE events SET subject_id = 'run-2' WHERE seq = 5", 5),
        ("UPDATE events SET time = '2013-01-01T00:00:00.000000Z' WHERE seq = 2", 2),
        ("UPDATE events SET body = 'no json' WHERE seq = 4", 4),
        ("UPDATE events SET hash = previous WHERE seq = 4", 4),
        ("DELETE FROM events WHERE seq = 3", 3),
        ("DELETE FROM events WHERE seq = 1", 1),
        ("UPDATE events SET seq = seq + 10 WHERE seq > 3", 4),
    ],
)
def test_tampering_with_an_event_row_is_found(ledger: SqliteLedger, path: Path, tampering: str, bad: int) -> None:
    for n in range(5):
        ledger.append("tick", RUN, {"n": n})
    _sql(path, "DROP TRIGGER events_stay", "DROP TRIGGER events_remain", tampering)
    with pytest.raises(Corrupt, match=f"Event {bad} "):
        ledger.verify_chain()


def test_an_event_rewritten_with_a_fitting_hash_breaks_the_next_one(ledger: SqliteLedger, path: Path) -> None:
    events = [ledger.append("tick", RUN, {"n": n}) for n in range(3)]
    forged = chain_hash(type(events[1])("tick", RUN, "mallory", {"n": 1}, 2, events[1].time, events[1].previous))
    _sql(path, "DROP TRIGGER events_stay", f"UPDATE events SET actor = 'mallory', hash = '{forged}' WHERE seq = 2")
    with pytest.raises(Corrupt, match="Event 3 "):
        ledger.verify_chain()


@pytest.mark.parametrize("change", ["UPDATE events SET actor = 'x'", "DELETE FROM events"])
def test_the_database_itself_refuses_changes_to_the_event_log(ledger: SqliteLedger, path: Path, change: str) -> None:
    ledger.append("tick", RUN)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        _sql(path, change)


def test_two_processes_that_append_at_once_make_one_chain(ledger: SqliteLedger, path: Path) -> None:
    code = """
import sys
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.records import Ref
ledger = SqliteLedger(sys.argv[1])
for n in range(200):
    ledger.append("tick", Ref("run", sys.argv[2]), {"n": n})
"""
    children = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in ("a", "b")]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    events = ledger.events_since()
    assert [event.seq for event in events] == list(range(1, 401))
    assert all(later.previous == earlier.hash for earlier, later in pairwise(events))
    for name in ("a", "b"):
        assert [event.body["n"] for event in events if event.subject.id == name] == list(range(200))
    assert ledger.verify_chain() == 400


# Threads, forks, closing


def test_a_forked_child_writes_through_its_own_connection_and_the_parent_goes_on(ledger: SqliteLedger, path: Path) -> None:
    ledger.append("parent", RUN)
    with ledger.transaction():
        ledger.put("run", "before fork", {})
        child = os.fork()
        if child == 0:  # the parent holds the write lock, so the child can only read; it sees the last commit
            os._exit(0 if (len(ledger.events_since()), ledger.find("run")) == (1, []) else 1)
        assert os.waitpid(child, 0)[1] == 0
        ledger.append("parent", RUN)
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            ledger.append("child", RUN)
            ledger.close()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    ledger.append("parent", RUN)
    assert [event.kind for event in ledger.events_since()] == ["parent", "parent", "child", "parent"]
    assert (ledger.verify_chain(), len(ledger.find("run"))) == (4, 1)


def test_a_thread_that_ends_gives_its_connection_back(ledger: SqliteLedger) -> None:
    files = Path("/proc/self/fd")
    if not files.is_dir():
        pytest.skip("no /proc here")
    ledger.append("first", RUN)
    before = len(list(files.iterdir()))
    for _ in range(20):
        thread = threading.Thread(target=ledger.append, args=("tick", RUN))
        thread.start()
        thread.join()
    assert len(list(files.iterdir())) <= before + 3


def test_closing_lets_go_of_every_thread_and_using_it_again_opens_it_anew(ledger: SqliteLedger, path: Path) -> None:
    opened, closed, found = threading.Event(), threading.Event(), []

    def reader() -> None:
        ledger.events_since()
        opened.set()
        closed.wait(10)
        found.extend(ledger.events_since())

    thread = threading.Thread(target=reader)
    thread.start()
    opened.wait(10)
    ledger.append("tick", RUN)
    ledger.close()
    assert not path.with_name("ledger.db-wal").exists()  # SQLite removes it with the last connection
    closed.set()
    thread.join()
    assert len(found) == 1
    assert ledger.append("tick", RUN).seq == 2


def test_a_later_chdir_does_not_move_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = SqliteLedger("place/ledger.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ledger.close()
    ledger.append("tick", RUN)
    assert [p.name for p in tmp_path.rglob("ledger.db")] == ["ledger.db"]


# Errors


def test_a_file_that_is_no_database_is_said_to_be_damaged(path: Path) -> None:
    path.write_bytes(b"carrier,origin\nAA,JFK\n" * 100)
    with pytest.raises(Corrupt, match=r"ledger\.db"):
        SqliteLedger(path)


def test_overwritten_pages_are_said_to_be_damaged(ledger: SqliteLedger, path: Path) -> None:
    with ledger.transaction():
        for n in range(500):
            ledger.put("run", f"run-{n}", {"text": "x" * 200})
    ledger.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (size - 8192))
    with pytest.raises(Corrupt, match="backup"):
        SqliteLedger(path).find("run")


def test_a_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        SqliteLedger(tmp_path / "file" / "ledger.db")
    with pytest.raises(StorageError):
        SqliteLedger(tmp_path)


def test_a_writer_that_waits_too_long_is_told_to_try_again(ledger: SqliteLedger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_sessions, "BUSY_SECONDS", 0.1)
    impatient = SqliteLedger(path)
    with ledger.transaction():
        ledger.put("run", "a", {})
        with pytest.raises(Unavailable, match="locked"):
            impatient.put("run", "b", {})
        assert impatient.find("run") == []
    assert impatient.put("run", "b", {}).version == 1


def test_a_database_that_cannot_be_written_is_a_storage_error(ledger: SqliteLedger) -> None:
    ledger.put("run", "a", {})
    ledger._sessions.mine().connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StorageError, match="cannot be written"):
        ledger.put("run", "b", {})
    assert len(ledger.find("run")) == 1


def test_after_the_store_gave_up_a_transaction_nothing_more_gets_into_it(ledger: SqliteLedger) -> None:
    def block() -> None:
        with ledger.transaction():
            ledger.put("run", "a", {})
            ledger._sessions.mine().connection.execute("ROLLBACK")  # as SQLite itself does when the disk is full
            with suppress(StorageError):
                ledger.put("run", "b", {})

    with pytest.raises(StorageError, match="gave up"):
        block()
    assert ledger.find("run") == []
    assert ledger.put("run", "c", {}).version == 1


def test_find_can_use_an_index_on_a_field(ledger: SqliteLedger, path: Path) -> None:
    """The path of a field is part of the SQL text, so a later migration can make a slow question fast."""
    with ledger.transaction():
        for n in range(300):
            ledger.put("run", str(n), {"params": {"depth": n}})
    _sql(path, 'CREATE INDEX by_depth ON records (kind, (body -> \'$."params"."depth"\'))', "ANALYZE")
    asked: list[str] = []
    connection = ledger._sessions.mine().connection
    connection.set_trace_callback(asked.append)
    assert [record.id for record in ledger.find("run", {"params.depth": 3})] == ["3"]
    connection.set_trace_callback(None)
    assert "by_depth" in ledger._rows(f"EXPLAIN QUERY PLAN {asked[0]}")[0][3]


def test_opening_the_ledger_imports_nothing_heavy() -> None:
    heavy = "{'sqlalchemy', 'polars', 'numpy', 'pydantic', 'msgspec'}"
    code = f"import sys, treadle.backends.sqlite_ledger, treadle.backends.catalog; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
