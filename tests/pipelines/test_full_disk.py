"""A run on a disk that is really full fails with a sentence, loses nothing it had done, and goes on when there is room again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from treadle.backends.file_blobs import FileBlobs
from treadle.backends.inprocess import InProcessExecutor
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.clock import ReplayClock
from treadle.core.errors import StorageError
from treadle.pipelines.graph import Step
from treadle.pipelines.run import Runner, steps_of

CALLS: list[str] = []


def small() -> list[int]:
    CALLS.append("small")
    return [1, 2, 3]


def large(numbers: list[int]) -> bytes:
    CALLS.append("large")
    print("making it")
    return bytes(3_000_000) + bytes(numbers)


def last(data: bytes) -> int:
    CALLS.append("last")
    return len(data)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.root
@pytest.mark.parametrize("left", [2_000_000, 200_000, 20_000, 0])
def test_a_full_disk_ends_the_run_cleanly_and_room_lets_it_go_on(disk: Path, left: int) -> None:
    CALLS.clear()
    ledger, blobs = SqliteLedger(disk / "ledger.db"), FileBlobs(disk / "blobs")
    runner = Runner(ledger, blobs, InProcessExecutor(), ReplayClock(datetime(2026, 1, 1, tzinfo=UTC)), home=disk)
    steps = [Step("small", small), Step("large", large, {"numbers": "small"}), Step("last", last, {"data": "large"})]
    cause = {"kind": "person", "id": "", "text": ""}
    runner.run("p.m", steps, cause=cause, until=["small"], id="run-before")
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    with ballast.open("r+b") as file:
        file.truncate(max(0, ballast.stat().st_size - left))

    with pytest.raises(StorageError):
        runner.run("p.m", steps, cause=cause, id="run-1")
    ballast.unlink()
    ledger.close()

    ledger = SqliteLedger(disk / "ledger.db")
    ledger.verify_chain()
    runner = Runner(ledger, blobs, InProcessExecutor(), ReplayClock(datetime(2026, 1, 1, tzinfo=UTC)), home=disk)
    found = ledger.get("run", "run-1")
    if found is None:  # not even its start could be recorded
        outcome = runner.run("p.m", steps, cause=cause, id="run-1")
    else:
        assert found["status"] in ("failed", "running")
        ledger.put("run", "run-1", {**found.body, "status": "interrupted"})  # what the next process to look does, once this one is gone
        outcome = runner.resume("run-1", steps)
    assert (outcome.run["status"], outcome["last"]) == ("done", 3_000_003)
    assert CALLS.count("small") == 1
    assert {s["step"]: s["status"] for s in steps_of("run-1", ledger)} == {"small": "reused", "large": "done", "last": "done"}
    assert list((disk / "blobs" / "tmp").iterdir()) == []
