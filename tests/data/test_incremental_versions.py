"""From a source that grows to versions that grow with it: through a crash between reading and recording, and with bad rows on the way."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from treadle.assemble import open_workspace
from treadle.data import versions
from treadle.data.versions import Version
from treadle.testing import servers

PROJECT = """
import treadle as tr

project = tr.Project("shop")
orders = project.dataset(
    "orders", source={source}, key="id",
    contract=tr.Contract({{"id": tr.integer(), "amount": tr.number(ge=0), "updated_at": tr.timestamp()}}, at_most=1.0),
)
"""
TAKE = """
import os, sys
from treadle.assemble import open_workspace
from treadle.data import versions

ws = open_workspace(sys.argv[1])
taken = versions.take(ws.project.datasets["orders"], ws.folder, ws.tables, ws.ledger, reach=ws.reach)
if len(sys.argv) > 2:
    os._exit(9)
versions.record(taken, ws.ledger)
"""


def take(folder: Path, *, dies: bool = False) -> None:
    done = subprocess.run([sys.executable, "-c", TAKE, str(folder), *(["dies"] if dies else [])], capture_output=True, text=True)
    assert done.returncode == (9 if dies else 0), done.stderr


def newest(folder: Path) -> tuple[Version, dict[int, float]]:
    ws = open_workspace(folder)
    version = versions.newest("orders", ws.ledger)
    assert version is not None
    return version, dict(ws.tables.scan(version.address).select("id", "amount").collect().iter_rows())


def table(folder: Path) -> tuple[str, Callable[..., None]]:
    connection = sqlite3.connect(folder / "shop.db", isolation_level=None)
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, amount REAL, updated_at TIMESTAMP)")

    def put(minute: int, rows: dict[int, float]) -> None:
        said = [(i, amount, f"2024-01-01 12:{minute:02d}:00") for i, amount in rows.items()]
        connection.executemany("INSERT OR REPLACE INTO orders VALUES (?, ?, ?)", said)

    return 'tr.sql("sqlite:shop.db", table="orders", watermark="updated_at")', put


def stream(folder: Path) -> tuple[str, Callable[..., None]]:
    client, topic = redis.Redis(port=servers.redis().port), servers.schema_of(folder)
    client.delete(topic)

    def put(minute: int, rows: dict[int, float]) -> None:
        for i, amount in rows.items():
            client.xadd(topic, {"json": json.dumps({"id": i, "amount": amount, "updated_at": f"2024-01-01T12:{minute:02d}:00Z"})})

    return f'tr.stream("redis://127.0.0.1:{servers.redis().port}/0", topic={topic!r}, field="json")', put


def files(folder: Path) -> tuple[str, Callable[..., None]]:
    def put(minute: int, rows: dict[int, float]) -> None:
        lines = [f"{i},{amount},2024-01-01 12:{minute:02d}:00\n" for i, amount in rows.items()]
        (folder / f"orders-{minute:02d}.csv").write_text("id,amount,updated_at\n" + "".join(lines))

    return 'tr.csv("orders-*.csv")', put


@pytest.mark.parametrize("kind", [pytest.param(table, marks=pytest.mark.slow), stream, files])
def test_nothing_is_lost_or_doubled_when_it_dies_between_reading_and_recording(tmp_path: Path, kind: Callable[[Path], tuple[str, Callable[..., None]]]) -> None:
    source, put = kind(tmp_path)
    (tmp_path / "project.py").write_text(PROJECT.format(source=source))
    put(0, {1: 1.0, 2: 2.0})
    take(tmp_path, dies=True)
    take(tmp_path)
    first, rows = newest(tmp_path)
    assert rows == {1: 1.0, 2: 2.0}
    put(1, {2: 20.0, 3: 3.0, 4: -4.0})  # one changed, one new, one that breaks the contract
    take(tmp_path, dies=True)
    put(2, {5: 5.0})
    take(tmp_path)
    second, rows = newest(tmp_path)
    assert rows == {1: 1.0, 2: 20.0, 3: 3.0, 5: 5.0}
    assert (second.parent, second.quarantined) == (first.id, 1)
    put(3, {4: 4.0})  # corrected at the source
    take(tmp_path)
    third, rows = newest(tmp_path)
    assert rows == {1: 1.0, 2: 20.0, 3: 3.0, 4: 4.0, 5: 5.0}
    assert third.quarantined == 0
    take(tmp_path)
    assert newest(tmp_path)[0].id == third.id  # nothing new: no new version


def test_a_password_is_in_no_file_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pymysql

    name, port = servers.schema_of(tmp_path), servers.mariadb().port
    with pymysql.connect(host="127.0.0.1", port=port, user="root", autocommit=True) as root, root.cursor() as cursor:
        cursor.execute(f"CREATE TABLE treadle.{name} (id integer, amount double, updated_at datetime)")
        cursor.execute(f"INSERT INTO treadle.{name} VALUES (1, 1.5, '2024-01-01')")
    monkeypatch.setenv("SHOP_PASSWORD", "secret %@/")
    source = f'tr.sql("mariadb://treadle:${{SHOP_PASSWORD}}@127.0.0.1:{port}/treadle", table={name!r}, watermark="updated_at")'
    (tmp_path / "project.py").write_text(PROJECT.format(source=source.replace("{", "{").replace("}", "}")))
    take(tmp_path)
    assert newest(tmp_path)[1] == {1: 1.5}
    held = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(held) > 3
    for secret in (b"secret %@/", b"secret%20%25%40%2F"):
        assert [path for path in held if secret in path.read_bytes()] == []


@pytest.mark.parametrize("kind", [table, stream, files])
def test_the_share_of_bad_rows_is_of_all_rows_there_are(tmp_path: Path, kind: Callable[[Path], tuple[str, Callable[..., None]]]) -> None:
    source, put = kind(tmp_path)
    (tmp_path / "project.py").write_text(PROJECT.format(source=source).replace("at_most=1.0", "at_most=0.02"))
    put(0, {i: float(i) for i in range(1, 101)})
    take(tmp_path)
    put(1, {101: 1.0, 102: -1.0})  # a half of what is new, and one in a hundred of all
    take(tmp_path)
    version, rows = newest(tmp_path)
    assert len(rows) == 101
    assert version.quarantined == 1


def test_a_message_of_a_stream_that_does_not_read_is_set_aside_for_being_no_json_object_and_stays_so(tmp_path: Path) -> None:
    source, put = stream(tmp_path)
    (tmp_path / "project.py").write_text(PROJECT.format(source=source))
    put(0, {1: 1.0})
    client, topic = redis.Redis(port=servers.redis().port), servers.schema_of(tmp_path)
    client.xadd(topic, {"json": "{broken"})
    take(tmp_path)
    version, rows = newest(tmp_path)
    assert (rows, version.quarantined) == ({1: 1.0}, 1)
    assert version.reasons["the message is no JSON object"] == 1
    put(1, {2: 2.0})
    take(tmp_path)
    version, rows = newest(tmp_path)
    assert (rows, version.reasons["the message is no JSON object"]) == ({1: 1.0, 2: 2.0}, 1)
    assert open_workspace(tmp_path).tables.scan(version.quarantine).collect()["unread"].to_list() == ['{"message": "{broken"}']  # not lost
    run = [sys.executable, "-m", "treadle.cli.main", "-C", str(tmp_path), "quarantine"]
    listed = json.loads(subprocess.run([*run, "list", "orders", "--json"], capture_output=True, text=True, check=True).stdout)
    row = listed[0]["row"]
    half = subprocess.run([*run, "fix", "orders", row, "amount=4", "--reason", "asked"], capture_output=True, text=True)
    assert "still breaks the contract: id is missing; updated_at is missing" in half.stderr
    whole = ["id=3", "amount=3", "updated_at=2024-01-01T12:00:00Z"]
    subprocess.run([*run, "fix", "orders", row, *whole, "--reason", "asked"], capture_output=True, text=True, check=True)
    take(tmp_path)
    version, rows = newest(tmp_path)
    assert (rows, version.quarantined) == ({1: 1.0, 2: 2.0, 3: 3.0}, 0)
    client.delete(topic)
