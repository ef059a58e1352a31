"""A disk that is really full: a clear StorageError, everything acknowledged is kept, nothing half-written remains, and room makes it work again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from treadle.backends.file_blobs import FileBlobs
from treadle.backends.file_notifier import FileNotifier
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.backends.sqlite_online import SqliteOnline
from treadle.core.errors import StorageError, Unavailable
from treadle.core.records import Ref
from treadle.ports.notifier import Message
from treadle.ports.online import Key, Value

LIMITED = """
import json, resource, sys
from pathlib import Path
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.file_notifier import FileNotifier
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.errors import StorageError, Unavailable
from treadle.core.records import Ref
from treadle.ports.notifier import Message

place = Path(sys.argv[1])
ledger, blobs, notifier = SqliteLedger(place / "ledger.db"), FileBlobs(place / "blobs"), FileNotifier(place / "alarms.jsonl")
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
told = {"events": 0, "alarms": 0}
try:
    while True:
        with ledger.transaction():
            ledger.append("tick", Ref("run", "a"), {"padding": "x" * 2000})
            ledger.put("counter", "c", {"n": told["events"] + 1})
        told["events"] += 1
except StorageError as error:
    told["ledger"] = str(error)
try:
    blobs.put(b"x" * 1_000_000)
except StorageError as error:
    told["blobs"] = str(error)
try:
    while True:
        notifier.send(Message("m", "title", "x" * 7000))
        told["alarms"] += 1
except Unavailable as error:
    told["notifier"] = str(error)
told["small"] = blobs.put(b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
told["next"] = ledger.append("again", Ref("run", "a")).seq
notifier.send(Message("again", "title", "text"))
print(json.dumps(told))
"""


def test_a_file_that_may_not_grow_stops_writers_cleanly(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    assert str(tmp_path / "ledger.db") in told["ledger"]
    assert str(tmp_path / "blobs") in told["blobs"]
    assert str(tmp_path / "alarms.jsonl") in told["notifier"]
    ledger, blobs = SqliteLedger(tmp_path / "ledger.db"), FileBlobs(tmp_path / "blobs")
    assert told["events"] > 10
    assert ledger.verify_chain() == told["events"] + 1 == told["next"]
    assert ledger.get("counter", "c").body == {"n": told["events"]}  # type: ignore[union-attr]
    assert list(blobs.addresses()) == [told["small"]]
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
    lines = (tmp_path / "alarms.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["m"] * told["alarms"] + ["again"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.root
def test_a_ledger_on_a_full_disk_keeps_what_it_acknowledged_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    ledger = SqliteLedger(small_disk / "ledger.db")
    kept = ledger.put("run", "kept", {"n": 1})
    ballast = small_disk / "ballast"
    _fill(ballast)
    with pytest.raises(StorageError, match=r"ledger\.db"):
        _write_until_it_fails(ledger)
    events = ledger.verify_chain()
    assert ledger.get("run", "kept") == kept
    assert len(ledger.find("tick")) == events
    ballast.unlink()
    assert ledger.append("again", Ref("run", "a")).seq == events + 1
    ledger.close()
    assert SqliteLedger(small_disk / "ledger.db").verify_chain() == events + 1


@pytest.mark.root
def test_an_online_store_on_a_full_disk_keeps_what_it_acknowledged(small_disk: Path) -> None:
    store = SqliteOnline(small_disk / "online.db")
    store.put_many([(Key("a", "kept"), Value(1, b"1"))])
    ballast = small_disk / "ballast"
    _fill(ballast)
    with pytest.raises(StorageError, match=r"online\.db"):
        store.put_many([(Key("a", str(n)), Value(1, b"x" * 1000)) for n in range(2000)])
    assert (store.count("a"), store.get_many([Key("a", "kept"), Key("a", "0")])) == (1, [Value(1, b"1"), None])
    ballast.unlink()
    assert store.put_many([(Key("a", "0"), Value(1, b"1"))]) == 1


@pytest.mark.root
def test_blobs_and_alarms_on_a_full_disk_leave_nothing_behind(small_disk: Path) -> None:
    blobs, notifier = FileBlobs(small_disk / "blobs"), FileNotifier(small_disk / "alarms.jsonl")
    address = blobs.put(b"kept")
    notifier.send(Message("kept", "title", "text"))
    big = small_disk.parent / "model"
    big.write_bytes(b"x" * 2_000_000)
    for source in (big, big.read_bytes()):
        with pytest.raises(StorageError, match="full"):
            blobs.put(source)
    assert list(blobs.addresses()) == [address]
    assert list((small_disk / "blobs" / "tmp").iterdir()) == []
    with pytest.raises(Unavailable, match="full"):
        notifier.send(Message("lost", "title", "x" * 2_000_000))
    notifier.send(Message("next", "title", "text"))
    assert [json.loads(line)["id"] for line in (small_disk / "alarms.jsonl").read_text().splitlines()] == ["kept", "next"]


def _fill(ballast: Path) -> None:
    """Leave about 100 kB."""
    space = os.statvfs(ballast.parent)
    ballast.write_bytes(b"\0" * max(0, space.f_bavail * space.f_frsize - 100_000))


def _write_until_it_fails(ledger: SqliteLedger) -> None:
    for n in range(10_000):
        with ledger.transaction():
            ledger.put("tick", str(n), {"padding": "x" * 3000})
            ledger.append("tick", Ref("run", str(n)))
