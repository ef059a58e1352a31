"""What the PostgreSQL ledger promises beyond the port: addresses and errors, migrations, the chain, forks, lost connections."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from treadle.backends import ledger_rows, postgres_ledger, postgres_sessions
from treadle.backends.catalog import open_backend
from treadle.backends.postgres_ledger import PostgresLedger
from treadle.backends.postgres_migrations import LEDGER
from treadle.core.errors import Corrupt, StorageError, TreadleError, Unavailable, UsageError
from treadle.core.records import Point, Ref, chain_hash
from treadle.testing.servers import Server, free_port, postgres, postgres_url, schema_of

RUN = Ref("run", "run-1")
GUEST = "guest:secret%20%25%40%2F"


@pytest.fixture
def schema(tmp_path: Path) -> str:
    return schema_of(tmp_path)


@pytest.fixture
def url(schema: str) -> str:
    return postgres_url(schema=schema)


@pytest.fixture
def ledger(url: str) -> Iterator[PostgresLedger]:
    ledger = PostgresLedger(url)
    yield ledger
    ledger.close()


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server that may be stopped without disturbing other tests."""
    server = postgres.__wrapped__()
    yield server
    server.stop()


def _sql(schema: str, *statements: str) -> list[tuple[object, ...]]:
    with psycopg.connect(postgres_url(), autocommit=True, options=f"-c search_path={schema}") as connection:
        for statement in statements:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


# Addresses


def test_the_catalog_hands_a_whole_address_on(url: str) -> None:
    assert isinstance(open_backend("ledger", url), PostgresLedger)
    assert isinstance(open_backend("ledger", url.replace("postgresql:", "postgres:")), PostgresLedger)


def test_what_an_address_leaves_out_comes_from_the_environment(schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGHOST": "127.0.0.1", "PGPORT": str(postgres().port), "PGUSER": "treadle", "PGDATABASE": "postgres"}.items():
        monkeypatch.setenv(name, value)
    open_backend("ledger", f"postgresql:///?schema={schema}").put("run", "a", {})
    assert PostgresLedger(postgres_url(schema=schema)).get("run", "a") is not None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:pass-word@x@h/db", "postgresql://u:pass-word%zz@h/db", "postgresql://u:pass-word@h:port/db", "postgresql://u:pass-word#x@h/db",
        "postgresql:db", "postgresql://u:pass-word@h/db?nonsense=1", "postgresql://u:pass-word@h/db?schema=No Name", "postgresql://u:pass-word@h/db?schema=",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        PostgresLedger(url)
    assert "pass-word" not in f"{caught.value} {caught.value!r} {caught.value.__cause__}"
    assert caught.value.hint


def test_a_ledger_says_what_is_wrong_with_its_server_and_never_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    here = f"127.0.0.1:{postgres().port}"
    cases: list[tuple[str, type[TreadleError], str]] = [
        (f"postgresql://treadle:pass-word@127.0.0.1:{free_port()}/postgres", Unavailable, "refused"),
        ("postgresql://treadle:pass-word@nohost.invalid/postgres", Unavailable, "does not answer"),
        (f"postgresql://treadle:pass-word@{here}/nope", UsageError, "no such database"),
        (f"postgresql://nobody:pass-word@{here}/postgres", UsageError, "user"),
        (f"postgresql://guest:pass-word@{here}/postgres", UsageError, "password"),
        (f"postgresql://guest@{here}/postgres", UsageError, "password"),
        (f"postgresql://treadle:pass-word@{here}/postgres?sslmode=require", Unavailable, "SSL"),
        (f"postgresql://{GUEST}@{here}/postgres?schema=not_mine", StorageError, "permission denied"),
    ]
    for url, kind, says in cases:
        with pytest.raises(kind, match=says) as caught:
            PostgresLedger(url)
        told = f"{caught.value} {caught.value!r} {caught.value.__cause__}"
        assert "pass-word" not in told
        assert "secret" not in told
        assert caught.value.hint
        assert caught.value.transient == (kind is Unavailable)
    monkeypatch.setenv("PGPASSWORD", "secret %@/")
    with pytest.raises(StorageError, match="permission denied"):
        PostgresLedger(f"postgresql://guest@{here}/postgres?schema=not_mine")


def test_a_schema_that_may_not_be_used_is_said(ledger: PostgresLedger, schema: str) -> None:
    with pytest.raises(StorageError, match="may not be used") as caught:
        PostgresLedger(f"postgresql://{GUEST}@127.0.0.1:{postgres().port}/postgres?schema={schema}")
    assert "GRANT" in str(caught.value)
    _sql(schema, f"GRANT USAGE ON SCHEMA {schema} TO guest", f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO guest")
    reader = PostgresLedger(f"postgresql://{GUEST}@127.0.0.1:{postgres().port}/postgres?schema={schema}")
    assert reader.find("run") == []
    with pytest.raises(StorageError, match="permission denied"):
        reader.put("run", "a", {})


def test_what_postgresql_cannot_hold_is_refused_in_our_words(ledger: PostgresLedger) -> None:
    for write in (
        lambda: ledger.put("run", "a\x00", {}),
        lambda: ledger.put("run", os.urandom(4000).hex(), {}),
        lambda: ledger.log_points([Point("r", "x", 1.0, 2**70)]),
    ):
        with pytest.raises(UsageError, match="cannot hold"):
            write()
    assert (ledger.find("run"), ledger.points("r")) == ([], [])
    assert ledger.put("run", "a", {"status": os.urandom(4000).hex()}).version == 1


def test_a_password_is_not_shown_by_the_ledger_itself(schema: str) -> None:
    ledger = PostgresLedger(f"postgresql://treadle:pass-word@127.0.0.1:{postgres().port}/postgres?schema={schema}")
    assert "pass-word" not in repr(vars(ledger)) + repr(vars(ledger._sessions))


# Migrations


def test_a_new_schema_gets_the_present_version(ledger: PostgresLedger, schema: str) -> None:
    assert _sql(schema, "SELECT store, version, floor FROM treadle_versions") == [("ledger", len(LEDGER.scripts), 1)]


def test_a_schema_of_a_newer_treadle_is_refused_unless_that_only_added(ledger: PostgresLedger, url: str, schema: str) -> None:
    _sql(schema, "UPDATE treadle_versions SET version = 99")
    assert PostgresLedger(url).append("tick", RUN).seq == 1
    _sql(schema, "UPDATE treadle_versions SET floor = 99")
    with pytest.raises(StorageError, match="newer Treadle"):
        PostgresLedger(url)


def test_a_schema_of_another_program_is_refused_and_left_alone(url: str, schema: str) -> None:
    _sql("public", f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.experiments (n int)")
    with pytest.raises(StorageError, match="another program"):
        PostgresLedger(url)
    assert _sql(schema, f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'") == [("experiments",)]


def test_a_migration_that_fails_leaves_the_old_version_whole(url: str, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PostgresLedger(url).put("run", "a", {})
    bad = replace(LEDGER, scripts=(*LEDGER.scripts, "CREATE TABLE b (n int); CREATE TABLE b (n int);"))
    monkeypatch.setattr(postgres_ledger, "LEDGER", bad)
    with pytest.raises(psycopg.ProgrammingError):
        PostgresLedger(url)
    monkeypatch.undo()
    assert _sql(schema, "SELECT version, floor, to_regclass('b') FROM treadle_versions") == [(len(LEDGER.scripts), 1, None)]
    assert PostgresLedger(url).get("run", "a") is not None


def test_an_index_whose_building_was_cut_off_is_built_again(url: str, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_ledger, "LEDGER", replace(LEDGER, scripts=LEDGER.scripts[:1], adds=frozenset(), beside=frozenset()))
    PostgresLedger(url).put("run", "a", {"status": "done"})
    monkeypatch.undo()
    _sql(
        schema, "CREATE INDEX runs_by_status ON records (id)", "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'runs_by_status'::regclass"
    )
    PostgresLedger(url)
    [(valid, definition)] = _sql(schema, "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid = 'runs_by_status'::regclass")
    assert valid
    assert "status" in str(definition)


def test_many_processes_may_open_a_new_schema_at_once(url: str) -> None:
    start, failed = threading.Barrier(6), []

    def create() -> None:
        start.wait()
        try:
            PostgresLedger(url).append("created", RUN)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert PostgresLedger(url).verify_chain() == 6


@pytest.mark.parametrize(
    ("kind", "where", "index"), [("run_step", {"run": "a"}, "run_steps_by_run"), ("run", {"status": "running"}, "runs_by_status")]
)
def test_the_questions_asked_all_the_time_use_an_index(ledger: PostgresLedger, kind: str, where: dict[str, str], index: str) -> None:
    with ledger.transaction():
        for n in range(400):
            ledger.put(kind, str(n), {name: f"{value}{n}" for name, value in where.items()} | {"padding": "x" * 500})
    with ledger._sessions.mine() as session:
        session.connection.execute("ANALYZE records")
        asked: list[str] = []
        run = session.run
        session.run = lambda statement: (asked.append(statement), run(statement))[1]  # type: ignore[method-assign, assignment, func-returns-value]
        ledger.find(kind, where, newest_first=True, limit=1)
        del session.run  # type: ignore[method-assign]
        sql, values = asked[0]
        plan = "\n".join(row[0] for row in session.run((f"EXPLAIN {sql}", values))[0])
    assert index in plan
    assert "Sort" not in plan


# The chain


def test_a_long_chain_verifies_and_counts(ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_rows, "_PAGE", 50)
    with ledger.transaction():
        for n in range(151):
            ledger.append("tick", RUN, {"n": n, "auc": float("nan")})
    assert ledger.verify_chain() == 151


@pytest.mark.parametrize(
    ("tampering", "bad"),
    [
        ("UPDATE events SET body = '{\"n\":99}' WHERE seq = 3", 3), ("UPDATE events SET actor = 'mallory' WHERE seq = 1", 1),
        ("UPDATE events SET body = 'no json' WHERE seq = 4", 4), ("UPDATE events SET hash = previous WHERE seq = 4", 4),
        ("DELETE FROM events WHERE seq = 3", 3), ("UPDATE events SET seq = seq + 10 WHERE seq > 3", 4),
    ],
)  # fmt: skip
def test_tampering_with_an_event_row_is_found(ledger: PostgresLedger, schema: str, tampering: str, bad: int) -> None:
    for n in range(5):
        ledger.append("tick", RUN, {"n": n})
    for change in ("UPDATE events SET actor = 'x'", "DELETE FROM events", "TRUNCATE events"):
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            _sql(schema, change)
    _sql(schema, "DROP TRIGGER events_stay ON events", tampering)
    with pytest.raises(Corrupt, match=f"Event {bad} "):
        ledger.verify_chain()


def test_the_server_hashes_as_we_do(ledger: PostgresLedger) -> None:
    bodies = [{"t": 'é "q" \\ \n \x00 \x7f \u2028 🚲'}, {"n": [1.5, -0.0, 2**70, 1e300, float("inf")]}, {"z": {"b": 1, "a": None}, "a": True}]
    for body in bodies:
        event = ledger.append("kind é", Ref("run'", 'a"b'), body, actor="ann\\")
        assert chain_hash(event) == event.hash
    assert ledger.verify_chain() == 3


def test_two_processes_that_append_at_once_make_one_chain(ledger: PostgresLedger, url: str) -> None:
    code = """
import sys
from treadle.backends.postgres_ledger import PostgresLedger
from treadle.core.records import Ref
ledger = PostgresLedger(sys.argv[1])
for n in range(200):
    ledger.append("tick", Ref("run", sys.argv[2]), {"n": n})
"""
    children = [subprocess.Popen([sys.executable, "-c", code, url, name]) for name in ("a", "b")]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    events = ledger.events_since()
    assert [event.seq for event in events] == list(range(1, 401))
    assert all(later.previous == earlier.hash for earlier, later in pairwise(events))
    assert all(later.time >= earlier.time for earlier, later in pairwise(events))
    assert ledger.verify_chain() == 400


# Threads, forks, closing


def test_a_forked_child_writes_through_its_own_connection_and_the_parent_goes_on(ledger: PostgresLedger) -> None:
    ledger.append("parent", RUN)
    with ledger.transaction():
        ledger.put("run", "before fork", {})
        child = os.fork()
        if child == 0:  # the parent has the writers' turn, so the child can only read; it sees the last commit
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


def test_many_threads_share_a_few_connections(ledger: PostgresLedger, schema: str) -> None:
    threads = [threading.Thread(target=lambda n=n: [ledger.put("run", f"{n}-{k}", {}) for k in range(5)]) for n in range(30)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.find("run")) == 150
    assert len(ledger._sessions._free) <= postgres_sessions.CONNECTIONS


def test_closing_lets_go_of_every_connection(url: str) -> None:
    ledger = PostgresLedger(f"{url}&application_name=closing")
    ledger.append("tick", RUN)
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'closing'"
    assert _sql("public", count) == [(1,)]
    with ledger.transaction():
        ledger.append("tick", RUN)
        ledger.close()
        ledger.append("tick", RUN)
    give_up = time.monotonic() + 10
    while _sql("public", count) != [(0,)]:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    assert ledger.append("tick", RUN).seq == 4
    ledger.close()


# Waiting, and losing the server


def test_a_writer_that_waits_too_long_is_told_to_try_again(ledger: PostgresLedger, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_sessions, "LOCK_SECONDS", 0.1)
    impatient = PostgresLedger(url)
    with ledger.transaction():
        ledger.put("run", "a", {})
        for write in (lambda: impatient.put("run", "b", {}), lambda: impatient.log_points([Point("r", "x", 1.0)]), lambda: _block(impatient)):
            with pytest.raises(Unavailable, match="locked"):
                write()
        assert impatient.find("run") == []
    assert impatient.put("run", "b", {}).version == 1
    impatient.close()


def _block(ledger: PostgresLedger) -> None:
    with ledger.transaction():
        ledger.put("run", "b", {})


def test_a_transaction_that_hangs_is_ended_by_the_server_and_others_go_on(url: str, ledger: PostgresLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_sessions, "IDLE_SECONDS", 0.3)
    hanging = PostgresLedger(url)

    def block() -> None:
        with hanging.transaction():
            hanging.put("run", "never", {})
            time.sleep(1.0)
            hanging.put("run", "never again", {})

    with pytest.raises(Unavailable, match="lost in the middle of a transaction"):
        block()
    assert ledger.put("run", "after", {}).version == 1
    assert [record.id for record in hanging.find("run")] == ["after"]


def test_after_an_error_nothing_more_gets_into_the_block_it_was_in(ledger: PostgresLedger) -> None:
    def block() -> None:
        with ledger.transaction():
            ledger.put("run", "a", {})
            with suppress(UsageError):
                ledger.put("run", os.urandom(4000).hex(), {})
            with pytest.raises(StorageError, match="gave up"):
                ledger.put("run", "b", {})

    with pytest.raises(StorageError, match="gave up"):
        block()
    with ledger.transaction():
        ledger.put("run", "c", {})
        with suppress(UsageError), ledger.transaction():
            ledger.put("run", "d", {})
            ledger.put("run", os.urandom(4000).hex(), {})
        ledger.put("run", "e", {})
    assert [record.id for record in ledger.find("run")] == ["c", "e"]


def test_an_interrupted_wait_gives_the_connection_up_and_the_ledger_works_on(ledger: PostgresLedger, url: str) -> None:
    other = PostgresLedger(url)
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with other.transaction():
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            ledger.put("run", "a", {})
    assert ledger.put("run", "b", {}).version == 1
    assert [record.id for record in ledger.find("run")] == ["b"]


def test_a_server_that_restarts_is_unavailable_and_then_works_again(own: Server, tmp_path: Path) -> None:
    ledger = PostgresLedger(postgres_url(own, schema=schema_of(tmp_path)))
    ledger.put("run", "before", {})
    ledger.append("tick", RUN)
    own.stop(signal.SIGQUIT, keep=True)  # as when it crashes: no farewell, and recovery from its log at the next start
    with pytest.raises(Unavailable):
        ledger.find("run")
    with pytest.raises(Unavailable):
        ledger.put("run", "lost", {})
    own.start()
    assert [record.id for record in ledger.find("run")] == ["before"]
    assert ledger.put("run", "after", {}, expect=0).version == 1

    def block() -> None:
        with ledger.transaction():
            ledger.put("run", "half", {})
            own.stop(keep=True)
            own.start()
            with suppress(Unavailable):
                ledger.put("run", "other half", {})

    with pytest.raises(Unavailable, match="Nothing of it was kept"):
        block()
    own.stop(keep=True)
    own.start()
    assert ledger.append("tick", RUN).seq == 2  # an idle connection that died unseen is no error
    assert [record.id for record in ledger.find("run")] == ["before", "after"]
    assert ledger.verify_chain() == 2
    ledger.close()


def test_a_server_that_restarts_under_writers_loses_nothing_it_acknowledged(own: Server, tmp_path: Path) -> None:
    url = postgres_url(own, schema=schema_of(tmp_path))
    PostgresLedger(url).close()
    stop, told, refused = threading.Event(), [], []

    def write(name: str) -> None:
        ledger, n = PostgresLedger(url), 0
        while not stop.is_set():
            try:
                with ledger.transaction():
                    ledger.put("run", f"{name}-{n}", {"n": n}, expect=0)
                    ledger.append("done", Ref("run", f"{name}-{n}"))
                told.append(f"{name}-{n}")
            except Unavailable as error:
                refused.append(error)
                time.sleep(0.02)
            n += 1
        ledger.close()

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for how in (signal.SIGQUIT, None, signal.SIGQUIT):
        time.sleep(0.4)
        own.stop(how, keep=True)
        own.start()
    time.sleep(0.4)
    stop.set()
    for thread in threads:
        thread.join()
    ledger = PostgresLedger(url)
    held = {record.id for record in ledger.find("run")}
    assert set(told) <= held
    assert refused
    assert {event.subject.id for event in ledger.events_since(limit=10**6)} == held
    assert ledger.verify_chain() == len(held)
    ledger.close()


# Killed writers, and races


def test_every_commit_a_killed_writer_acknowledged_is_there_and_none_is_half_there(url: str, ledger: PostgresLedger) -> None:
    code = """
import sys
from treadle.backends.postgres_ledger import PostgresLedger
from treadle.core.records import Link, Point, Ref
ledger, round = PostgresLedger(sys.argv[1]), sys.argv[2]
for n in range(1_000_000):
    id = f"{round}-{n}"
    with ledger.transaction():
        ledger.put("run", id, {"n": n, "padding": "x" * 3000})
        ledger.put("model", "late", {"newest": id})
        ledger.link(Link(Ref("run", id), "trained_on", Ref("data", "flights")))
        ledger.append("finished", Ref("run", id), {"n": n})
        ledger.log_points([Point(id, "loss", 0.5, step) for step in range(3)])
    print(id, flush=True)
"""
    acknowledged: list[str] = []
    for round in range(5):
        with subprocess.Popen([sys.executable, "-c", code, url, str(round)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(0.01 + 0.05 * round)
            os.kill(child.pid, signal.SIGKILL)
            lines = (first + child.stdout.read()).splitlines(keepends=True)
        acknowledged += [line.strip() for line in lines if line.endswith("\n")]
        ledger.append("after", RUN)  # waits for the server to notice that the writer is gone
        ids = [record.id for record in ledger.find("run")]
        assert set(acknowledged) <= set(ids)
        assert len(ids) <= len(acknowledged) + round + 1  # at most the one commit a round that was made but not yet told
        assert ledger.verify_chain() == len(ids) + round + 1
        assert [link.source.id for link in ledger.links(Ref("data", "flights"), back=True)] == ids
        assert ledger.get("model", "late")["newest"] == ids[-1]  # type: ignore[index]
        assert all(len(ledger.points(id)) == 3 for id in ids[-5:])


def test_of_two_processes_that_race_for_a_thousand_records_one_wins_each(url: str, ledger: PostgresLedger) -> None:
    code = """
import sys
from treadle.backends.postgres_ledger import PostgresLedger
from treadle.core.errors import Conflict
ledger, won = PostgresLedger(sys.argv[1]), 0
sys.stdin.readline()
for n in range(1000):
    try:
        ledger.put("claim", str(n), {"by": sys.argv[2]}, expect=n % 2)
        won += 1
    except Conflict:
        pass
print(won)
"""
    with ledger.transaction():
        for n in range(1, 1000, 2):
            ledger.put("claim", str(n), {"by": "nobody"})
    children = [subprocess.Popen([sys.executable, "-c", code, url, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for name in "ab"]
    time.sleep(1.0)
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    won = [int(child.communicate(timeout=120)[0]) for child in children]
    assert sum(won) == 1000
    claims = ledger.find("claim")
    assert [sum(claim["by"] == name for claim in claims) for name in "ab"] == won
    assert {int(claim.id): claim.version for claim in claims} == {n: 1 + n % 2 for n in range(1000)}
