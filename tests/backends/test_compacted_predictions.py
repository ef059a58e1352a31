"""Closed days of the prediction log lie in files: quick to find, safe to kill, the same to whoever reads meanwhile, gone when they are dropped."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from treadle.backends.compacted_predictions import DAY, CompactedPredictions
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.sqlite_predictions import SqlitePredictions
from treadle.core.errors import NotFound
from treadle.ports.predictions import Outcome, Prediction
from treadle.testing.predictions_contract import EVER, read

INPUTS = b'{"carrier":"UA","origin":"EWR","dest":"IAH","distance":1400.0,"scheduled_departure":%d}'
FEATURES = b'["UA","EWR","IAH",1400.0,315.0,2.0,39.02,28.04,12.65858,0.0,10.0,1012.3,0.21,6.4,0.18,3.1,5.9,0.%06d]'


def predictions(count: int, day: int = 0) -> list[Prediction]:
    return [
        Prediction(f"p-{day}-{i:06d}", "late", day * DAY + i * 1000, day * DAY + i * 1000 + 7, 3, "champion", (0.75, 0.25), 0, (), INPUTS % i,
                   FEATURES % i, 120) for i in range(count)
    ]  # fmt: skip


def opened(folder: Path) -> CompactedPredictions:
    blobs = FileBlobs(folder / "blobs")
    return CompactedPredictions(SqlitePredictions(folder / "p.db"), lambda: blobs)


@pytest.fixture
def log(tmp_path: Path) -> CompactedPredictions:
    return opened(tmp_path)


def test_only_days_that_have_ended_are_moved(log: CompactedPredictions) -> None:
    for day in range(4):
        log.write(predictions(10, day))
    assert log.compact(2 * DAY + 5) == 20
    assert [(s.start // DAY, s.rows) for s in log.segments()] == [(0, 10), (1, 10)]
    assert len(log.log.last("late", 100)) == 20
    assert [p.moment for p, _ in read(log)] == [p.moment for day in range(4) for p in predictions(10, day)]


def test_a_moved_prediction_is_found_by_reading_little_and_takes_a_tenth_of_the_room(log: CompactedPredictions, tmp_path: Path) -> None:
    log.write(predictions(30_000))
    before = 30_000 * 500  # bytes: about what the rows and their indexes take
    log.compact(EVER)
    files = sum(p.stat().st_size for p in (tmp_path / "blobs").rglob("*") if p.is_file())
    assert files < before / 10
    begun = time.process_time()
    for i in range(0, 30_000, 1_000):
        assert log.get(f"p-0-{i:06d}") == predictions(i + 1)[-1]
    assert (time.process_time() - begun) / 30 < 0.5  # generous: it is milliseconds


def test_late_and_corrected_outcomes_reach_what_was_moved(log: CompactedPredictions) -> None:
    log.write(predictions(3), [Outcome("p-0-000000", True, 5)])
    log.compact(EVER)
    log.write([], [Outcome("p-0-000001", True, 6), Outcome("p-0-000000", False, 7), Outcome("p-0-000000", True, 5), Outcome("gone", 1, 1)])
    assert [o and o.value for _, o in read(log)] == [False, True, None]
    assert log.count("late") == (3, 2)
    assert log.strays() == 1


def test_a_prediction_that_was_moved_is_not_written_again(log: CompactedPredictions) -> None:
    log.write(predictions(3))
    log.compact(EVER)
    log.write(predictions(5))
    assert log.count("late") == (5, 0)
    assert [p.id for p, _ in read(log)] == [p.id for p in predictions(5)]
    assert [p.id for p in log.last("late", 2)] == ["p-0-000004", "p-0-000003"]


def test_whoever_reads_while_days_are_moved_and_written_anew_misses_nothing_and_sees_nothing_twice(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for day in range(12):
        log.write(predictions(300, day))
    expected = [p.id for day in range(12) for p in predictions(300, day)]
    wrong: list[int] = []
    done = threading.Event()

    def look() -> None:
        mine = opened(tmp_path)
        while not done.is_set():
            found = [p.id for p, _ in read(mine, batch=97)]
            if found != expected:
                wrong.append(len(found))
            if mine.get(random.choice(expected)) is None:
                wrong.append(-1)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for day in range(12):
        log.compact((day + 1) * DAY)
        time.sleep(0.03)
    for segment in log.segments():  # as an erasure does
        rows = log._all_of(segment)
        log.log.move(log._stored("late", segment.start, rows), [n.prediction.id for n in rows], instead_of=segment)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert log.log.last("late") == []


MOVER = """
import sys
from pathlib import Path
from treadle.backends.compacted_predictions import CompactedPredictions
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.sqlite_predictions import SqlitePredictions
folder = Path(sys.argv[1])
log = CompactedPredictions(SqlitePredictions(folder / "p.db"), lambda: FileBlobs(folder / "blobs"))
print("begun", flush=True)
log.compact(1 << 60)
"""


def test_killed_while_days_are_moved_every_prediction_is_there_once(tmp_path: Path) -> None:
    log = opened(tmp_path)
    for day in range(30):
        log.write(predictions(50, day), [Outcome(p.id, True, 1) for p in predictions(50, day)])
    expected = read(log)
    for life in range(4):
        child = subprocess.Popen([sys.executable, "-c", MOVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(random.uniform(0.05, 0.5) if life else 0.3)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert read(opened(tmp_path)) == expected
    assert opened(tmp_path).compact(EVER) + sum(s.rows for s in log.segments()) >= 1_500
    assert read(opened(tmp_path)) == expected
    assert opened(tmp_path).count("late") == (1_500, 1_500)


def test_what_is_dropped_is_gone_with_its_outcomes_and_its_files(log: CompactedPredictions, tmp_path: Path) -> None:
    for day in range(3):
        log.write(predictions(5, day), [Outcome(p.id, True, 1) for p in predictions(5, day)])
    log.compact(DAY)
    assert log.drop(2 * DAY) == 10
    assert log.count("late") == (5, 5)
    assert log.strays() == 0
    assert not [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()]
    assert log.get("p-0-000001") is None


def test_a_file_that_is_gone_is_said(log: CompactedPredictions) -> None:
    log.write(predictions(5))
    log.compact(EVER)
    log._blobs.delete(log.segments()[0].address)
    with pytest.raises(NotFound, match="is gone"):
        log.get("p-0-000001")
