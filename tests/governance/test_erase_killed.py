"""Killed without warning before and after every write of an erasure: the same command again finishes it, and nothing of the person is left.

A real process is killed with -9. What it had begun is on record, under no name; until it is finished the person's rows stay out of what is read.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from treadle.assemble import open_workspace
from treadle.data import suppressed, versions
from treadle.persons import erase as work
from treadle.registry import packages
from treadle.registry import versions as registry
from treadle.testing.forgotten import holding
from treadle.testing.persons import ADA, OLD_EMAIL

TEXTS = (ADA.id, ADA.name, ADA.email, OLD_EMAIL)

PROGRAM = """
import functools, os, signal, sys
from treadle.persons import erase as work
from treadle.assemble import open_workspace
from treadle.backends import table_places
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.backends.sqlite_online import SqliteOnline

folder, subject, at = sys.argv[1], sys.argv[2], int(sys.argv[3])
count = 0


def point():
    global count
    count += 1
    if count == at:
        os.kill(os.getpid(), signal.SIGKILL)


def counted(owner, name):
    function = getattr(owner, name)

    @functools.wraps(function)
    def call(*arguments, **named):
        point()
        result = function(*arguments, **named)
        point()
        return result

    setattr(owner, name, call)


for owner, names in {SqliteLedger: ("put", "append", "scrub"), FileBlobs: ("put", "delete"), SqliteOnline: ("forget",),
                     table_places.Folder: ("replace", "remove", "add"), os: ("replace",)}.items():
    for name in names:
        counted(owner, name)

record = work.erase(open_workspace(folder), subject, request="DSR-1")
print(count, record["status"])
"""


def erase_and_die(folder: Path, at: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TREADLE_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", PROGRAM, str(folder), ADA.id, str(at)], capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def points(lived_in: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many points there are to be killed at."""
    done = erase_and_die(Path(shutil.copytree(lived_in, tmp_path_factory.mktemp("count") / "persons")), 0)
    assert done.returncode == 0, done.stderr
    number, status = done.stdout.split()
    assert status == "done"
    assert int(number) > 100
    return int(number)


def killed_and_finished(folder: Path, at: int) -> None:
    died = erase_and_die(folder, at)
    assert died.returncode == -signal.SIGKILL, (at, died.stderr)
    ws = open_workspace(folder)
    known = ws.ledger.find(suppressed.KIND)
    assert len(known) <= 1
    if known:
        assert not any(text in str(known[0].body) for text in TEXTS), at
        assert suppressed.known(ws.ledger, ws.settings.home).digests
    record = work.erase(ws, ADA.id, request="DSR-1") if not known or known[0]["status"] != "done" else known[0]
    assert record["status"] == "done", (at, record["verification"])
    assert holding(folder / ".treadle", TEXTS) == [], at
    assert len(ws.ledger.find(suppressed.KIND)) == 1, "finished, not begun again"
    fresh = open_workspace(folder)
    fresh.ledger.verify_chain()
    for held in fresh.ledger.find(versions.KIND):
        fresh.tables.verify(held["address"])
        assert held["rows"] == fresh.tables.scan(held["address"]).collect().height
        if held["quarantine"]:
            fresh.tables.verify(held["quarantine"])
    for version in registry.all_versions("late-return", fresh.ledger):
        packages.open_package(version["package"], fresh.blobs, fresh.shelf)
        assert version["erasures"] == {record.id: 11}, at
    kinds = [e.kind for e in fresh.ledger.events_since(limit=10_000)]
    assert [kinds.count(k) for k in ("erasure.begun", "version.trained_on_erased", "erasure.done")] == [1, 2, 1], at


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
def test_killed_on_the_way_it_is_finished_by_the_same_command(share: float, points: int, persons: Path) -> None:
    killed_and_finished(persons, max(1, round(points * share)))


@pytest.mark.slow
def test_killed_at_every_point_it_is_finished_by_the_same_command(points: int, lived_in: Path, tmp_path: Path) -> None:
    for at in range(1, points + 1):
        folder = Path(shutil.copytree(lived_in, tmp_path / f"at-{at}"))
        killed_and_finished(folder, at)
        shutil.rmtree(folder)


def test_killed_again_and_again_it_gets_on(points: int, persons: Path) -> None:
    for _ in range(40):
        if erase_and_die(persons, points // 4).returncode == 0:
            break
    else:
        raise AssertionError("it never came to its end")
    assert holding(persons / ".treadle", TEXTS) == []
