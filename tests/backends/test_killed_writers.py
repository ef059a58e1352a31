"""A writer killed with SIGKILL in the middle of its work: everything it acknowledged is there, and nothing half done."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from treadle.backends.file_blobs import FileBlobs
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.backends.sqlite_online import SqliteOnline
from treadle.core.records import Ref
from treadle.ports.online import Key

ROUNDS = 5

COMMITS = """
import sys
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.records import Link, Point, Ref
ledger, round = SqliteLedger(sys.argv[1]), sys.argv[2]
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

BLOBS = """
import sys
from treadle.backends.file_blobs import FileBlobs
blobs, round = FileBlobs(sys.argv[1]), sys.argv[2]
for n in range(1_000_000):
    print(blobs.put(f"{round}-{n} ".encode() * 200_000), flush=True)
"""

VALUES = """
import sys
from treadle.backends.sqlite_online import SqliteOnline
from treadle.ports.online import Key, Value
store, round = SqliteOnline(sys.argv[1]), int(sys.argv[2])
for n in range(round * 1_000_000, (round + 1) * 1_000_000):
    store.put_many([(Key(view, str(entity)), Value(n, b"%d" % n)) for view in ("a", "b") for entity in range(5)])
    print(n, flush=True)
"""


def _killed(code: str, place: Path, round: int) -> list[str]:
    """What a child acknowledged before it was killed, at a random moment after its first line."""
    with subprocess.Popen([sys.executable, "-c", code, str(place), str(round)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(random.uniform(0.005, 0.25))
        os.kill(child.pid, signal.SIGKILL)
        rest = child.stdout.read()
        assert child.wait(timeout=30) == -signal.SIGKILL
    # The kill may have cut the last line; a line that came through whole is an acknowledgement.
    return [line.strip() for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")]


def test_every_acknowledged_commit_is_there_and_none_is_half_there(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for round in range(ROUNDS):
        acknowledged += _killed(COMMITS, tmp_path / "ledger.db", round)
        ledger = SqliteLedger(tmp_path / "ledger.db")
        ids = [record.id for record in ledger.find("run")]
        assert set(acknowledged) <= set(ids)
        assert len(ids) <= len(acknowledged) + round + 1  # at most the one commit a round that was made but not yet told
        assert ledger.verify_chain() == len(ids)
        assert [event.subject.id for event in ledger.events_since(limit=10**6)] == ids
        assert [link.source.id for link in ledger.links(Ref("data", "flights"), back=True)] == ids
        assert ledger.get("model", "late")["newest"] == ids[-1]  # type: ignore[index]
        assert all(len(ledger.points(id)) == 3 for id in ids[-5:])
        ledger.close()


def test_every_acknowledged_blob_is_whole_and_no_half_blob_is_visible(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for round in range(ROUNDS):
        acknowledged += _killed(BLOBS, tmp_path / "blobs", round)
        blobs = FileBlobs(tmp_path / "blobs")
        held = list(blobs.addresses())
        assert set(acknowledged) <= set(held)
        for address in held:
            assert hashlib.sha256(blobs.path(address).read_bytes()).hexdigest() == address
    left_over = len(list((tmp_path / "blobs" / "tmp").iterdir()))
    assert blobs.sweep(3600) == 0
    assert blobs.sweep(0) == left_over
    assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
    assert set(blobs.addresses()) == set(held)


def test_every_acknowledged_feature_value_is_there_in_every_view(tmp_path: Path) -> None:
    for round in range(ROUNDS):
        acknowledged = int(_killed(VALUES, tmp_path / "online.db", round)[-1])
        store = SqliteOnline(tmp_path / "online.db")
        times = {value.time for value in store.get_many([Key(view, str(n)) for view in ("a", "b") for n in range(5)]) if value}
        assert len(times) == 1
        assert acknowledged <= times.pop() <= acknowledged + 1
        store.close()


def test_another_process_goes_on_while_a_writer_is_killed_inside_its_transaction(tmp_path: Path) -> None:
    code = """
import sys, time
from treadle.backends.sqlite_ledger import SqliteLedger
ledger = SqliteLedger(sys.argv[1])
with ledger.transaction():
    ledger.put("run", "never", {})
    print("inside", flush=True)
    time.sleep(60)
"""
    ledger = SqliteLedger(tmp_path / "ledger.db")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "ledger.db")], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "inside\n"
        assert ledger.find("run") == []
        os.kill(child.pid, signal.SIGKILL)
        assert ledger.put("run", "after", {}).version == 1
    assert [record.id for record in ledger.find("run")] == ["after"]
