"""What an online store does when its server is killed, hangs, or is not there: it says so within seconds, and works again by itself."""

from __future__ import annotations

import functools
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from treadle.backends import postgres_online, redis_online
from treadle.backends.postgres_online import PostgresOnline
from treadle.backends.redis_online import RedisOnline
from treadle.backends.sqlite_online import SqliteOnline
from treadle.core.errors import StorageError, Unavailable, UsageError
from treadle.ports.online import Key, OnlineStore, Value
from treadle.serving.lookup import Lookup
from treadle.testing import servers

KEY = Key("weather", "JFK")
Made = tuple[OnlineStore, servers.Server]


@functools.cache
def own_redis() -> servers.Server:
    return servers.redis.__wrapped__()


@functools.cache
def own_postgres() -> servers.Server:
    return servers.postgres.__wrapped__()


@pytest.fixture(params=["redis", "postgres"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Made]:
    if request.param == "redis":
        server = own_redis()
        store: OnlineStore = RedisOnline(servers.redis_url(server, prefix=f"{servers.schema_of(tmp_path)}:", timeout="1"))
    else:
        server = own_postgres()
        store = PostgresOnline(servers.postgres_url(server, schema=servers.schema_of(tmp_path)))
    yield store, server
    store.close()


def said(call: Callable[[], object]) -> tuple[str, float]:
    begun = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        call()
    return str(caught.value), time.monotonic() - begun


def test_a_killed_server_is_unavailable_and_what_it_acknowledged_is_there_when_it_is_back(made: Made) -> None:
    store, server = made
    store.put_many([(KEY, Value(9, b"a"))])
    server.stop(signal.SIGKILL, keep=True)
    for verb in (lambda: store.get_many([KEY]), lambda: store.put_many([(KEY, Value(10, b"b"))]), lambda: store.newest("weather"), lambda: store.forget("weather", ["JFK"])):
        sentence, _ = said(verb)
        assert "127.0.0.1" in sentence
    server.start()
    assert store.get_many([KEY]) == [Value(9, b"a")]
    assert store.put_many([(KEY, Value(10, b"b"))]) == 1


def test_a_store_whose_server_is_not_there_yet_can_be_opened_and_works_when_it_is(made: Made, tmp_path: Path) -> None:
    first, server = made
    server.stop(signal.SIGKILL, keep=True)
    kind = type(first)
    url = servers.redis_url(server, prefix=f"{servers.schema_of(tmp_path)}:") if kind is RedisOnline else servers.postgres_url(server, schema=servers.schema_of(tmp_path))
    store = kind(url)
    said(lambda: store.get_many([KEY]))
    server.start()
    assert store.put_many([(KEY, Value(10, b"b"))]) == 1
    store.close()


def test_a_server_that_hangs_with_its_connections_open_is_waited_for_only_so_long(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    store, server = made
    monkeypatch.setattr(postgres_online, "SECONDS", 1.0)
    store.put_many([(KEY, Value(9, b"a"))])
    store.get_many([KEY])
    hung = [server.pid, *children(server.pid)]
    for pid in hung:
        os.kill(pid, signal.SIGSTOP)
    try:
        said(lambda: store.get_many([KEY]))  # that it returns at all is the point: the server says nothing, and keeps the connection
    finally:
        for pid in hung:
            os.kill(pid, signal.SIGCONT)
    assert store.get_many([KEY]) == [Value(9, b"a")]


def children(pid: int) -> list[int]:
    return [int(p) for task in Path(f"/proc/{pid}/task").iterdir() for p in (task / "children").read_text().split()]


def test_a_store_that_failed_is_left_alone_for_a_second_and_asked_again_then(made: Made) -> None:
    store, server = made
    store.put_many([(KEY, Value(9, b"a"))])
    now = [0.0]
    refusing, answering = Lookup(store, "refuse", lambda: now[0]), Lookup(store, "answer", lambda: now[0])
    assert refusing.get_many([KEY]) == answering.get_many([KEY]) == [Value(9, b"a")]
    server.stop(signal.SIGKILL, keep=True)
    for _ in range(3):
        with pytest.raises(Unavailable, match=r"The feature store is down: .*127\.0\.0\.1.*Try again"):
            refusing.get_many([KEY])
        assert answering.get_many([KEY]) is None
    assert (refusing.failures, answering.failures) == (1, 1)
    server.start()
    assert answering.get_many([KEY]) is None
    now[0] = 1.1
    assert refusing.get_many([KEY]) == answering.get_many([KEY]) == [Value(9, b"a")]


def test_nothing_listens_there_and_it_is_said_at_the_first_use() -> None:
    with socket.socket() as taken:  # a port that is ours, and nobody listens on
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        store = RedisOnline(f"redis://127.0.0.1:{port}/0")
        assert "cannot be reached" in said(lambda: store.get_many([KEY]))[0]


@pytest.mark.parametrize("url", ["redis://host:port/0", "redis://a@b@c/0", "redis://host/zero", "redis://host/0?timeout=0", "redis://host/0#x"])
def test_an_address_of_redis_that_cannot_be_read_is_refused_without_telling_its_password(url: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be read\. Write redis://"):
        RedisOnline(url.replace("//", "//me:secret@") if "@" not in url else url)


def test_a_password_is_never_in_an_error() -> None:
    server = own_redis()
    with pytest.raises((UsageError, StorageError)) as caught:
        RedisOnline(f"redis://me:secret@127.0.0.1:{server.port}/0")
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_a_full_redis_keeps_nothing_of_a_write_and_what_it_had() -> None:
    server = own_redis()
    store = RedisOnline(servers.redis_url(server, prefix="full:"))
    store.put_many([(KEY, Value(1, b"kept"))])
    client = store._server()
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StorageError, match=r"is full\. Raise its maxmemory"):
            store.put_many([(Key("weather", str(n)), Value(2, b"x" * 1000)) for n in range(2000)])
        assert (store.count("weather"), store.get_many([KEY])) == (1, [Value(1, b"kept")])
    finally:
        client.config_set("maxmemory", 0)
    assert store.put_many([(Key("weather", str(n)), Value(2, b"x" * 1000)) for n in range(2000)]) == 2000


def test_redis_drops_a_value_when_its_end_has_long_passed_and_counts_it_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    store = RedisOnline(servers.redis_url(own_redis(), prefix="ends:"))
    now = time.time_ns() // 1000
    monkeypatch.setattr(redis_online, "_SLACK", 300)
    store.put_many([(KEY, Value(now, b"a", None, now)), (Key("weather", "LGA"), Value(now, b"b")), (Key("weather", "EWR"), Value(now, b"c", None, now + 3_600_000_000))])
    while store.get_many([KEY]) != [None]:
        time.sleep(0.05)
    assert store.count("weather") == 2
    assert {entity for entity, _ in store.scan("weather")} == {"LGA", "EWR"}
    assert store.put_many([(KEY, Value(now - 5, b"d"))]) == 1
    assert store.count("weather") == 3


# --- forgotten for good

SECRET = b"Ada Lovelace, 12 St James's Square"


def bytes_of(folder: Path) -> bool:
    """Whether any file below a folder holds the secret."""
    found = False
    for file in folder.rglob("*"):
        try:
            found = found or (file.is_file() and SECRET in file.read_bytes())
        except FileNotFoundError:
            continue
    return found


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)


def test_a_forgotten_value_is_in_no_byte_of_the_sqlite_file_nor_the_one_it_replaced(tmp_path: Path) -> None:
    store = SqliteOnline(tmp_path / "online.db")
    for n in range(40):  # replaced many times, between others that make pages split
        store.put_many([(Key("people", f"p{i}"), Value(n, b"%d " % i + SECRET[: 8 if i != 7 else None] * (1 + n % 3))) for i in range(300)])
    assert bytes_of(tmp_path)
    with ThreadPoolExecutor(1) as reading:
        assert reading.submit(store.get_many, [Key("people", "p7")]).result()[0] is not None  # another thread's connection is open
        assert store.forget("people", ["p7"]) == 1
    assert not bytes_of(tmp_path)
    assert store.count("people") == 299
    store.close()


def test_a_forgotten_value_leaves_the_files_of_redis() -> None:
    server = own_redis()
    store = RedisOnline(servers.redis_url(server, prefix="forget:"))
    for n in range(3):
        store.put_many([(Key("people", "ada"), Value(n, SECRET + b"%d" % n)), (Key("people", "bob"), Value(n, b"x"))])
    until(lambda: bytes_of(server.folder))  # Redis answers before it writes, by up to two seconds, while an earlier part of its file is on its way to the disk
    assert store.forget("people", ["ada"]) == 1
    until(lambda: not bytes_of(server.folder))  # the server writes its file anew beside its work
    assert store.count("people") == 1


def test_a_forgotten_value_leaves_the_tables_of_postgresql(tmp_path: Path) -> None:
    server = own_postgres()
    store = PostgresOnline(servers.postgres_url(server, schema=servers.schema_of(tmp_path)))
    for n in range(3):
        store.put_many([(Key("people", "ada"), Value(n, SECRET + b"%d" % n)), (Key("people", "bob"), Value(n, b"x"))])
    with psycopg.connect(servers.postgres_url(server), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        assert bytes_of(server.folder / "data" / "base")
        assert store.forget("people", ["ada"]) == 1
        connection.execute("CHECKPOINT")
    assert not bytes_of(server.folder / "data" / "base")
    store.close()
