"""Every prediction log keeps the promises of the port."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from treadle.backends.catalog import open_backend
from treadle.backends.compacted_predictions import CompactedPredictions
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.memory_predictions import MemoryPredictions
from treadle.backends.postgres_predictions import PostgresPredictions
from treadle.backends.sqlite_predictions import SqlitePredictions
from treadle.core.errors import StorageError
from treadle.ports.predictions import Outcome, PredictionLog
from treadle.testing import servers
from treadle.testing.predictions_contract import PredictionsContract, prediction, read


class TestMemoryPredictions(PredictionsContract):
    @pytest.fixture
    def new_log(self) -> Callable[[], PredictionLog]:
        return MemoryPredictions


class TestSqlitePredictions(PredictionsContract):
    @pytest.fixture
    def new_log(self, tmp_path: Path) -> Callable[[], PredictionLog]:
        numbers = count()
        return lambda: SqlitePredictions(tmp_path / f"predictions-{next(numbers)}.db")

    def test_another_log_on_the_same_file_sees_what_was_written(self, tmp_path: Path) -> None:
        writer, reader = SqlitePredictions(tmp_path / "p.db"), SqlitePredictions(tmp_path / "p.db")
        writer.write([prediction("a")], [Outcome("a", 1, 5)], durable=False)
        assert read(reader) == [(prediction("a"), Outcome("a", 1, 5))]
        reader.write([prediction("b", model="early")])
        assert writer.get("b") == prediction("b", model="early")

    def test_only_a_durable_write_forces_the_disk(self, tmp_path: Path) -> None:
        log = SqlitePredictions(tmp_path / "p.db")
        levels = [sessions.mine().rows("PRAGMA synchronous")[0][0] for sessions in (log._forced, log._sessions)]
        assert levels == [2, 1]  # FULL, NORMAL

    @pytest.mark.parametrize("durable", [True, False])
    def test_a_full_disk_stores_nothing_of_the_call_and_the_next_call_goes_on(self, tmp_path: Path, durable: bool) -> None:
        log = SqlitePredictions(tmp_path / "p.db")
        log.write([prediction("before")])
        room = (tmp_path / "p.db-wal").stat().st_size + 50_000
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with pytest.raises(StorageError):
                log.write([prediction(f"p{i}") for i in range(2_000)], [Outcome("before", 1, 5)], durable=durable)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert log.count("late") == (1, 0)
        log.write([prediction("p0"), prediction("new", model="unseen")], durable=durable)
        assert SqlitePredictions(tmp_path / "p.db").count("late") == (2, 0)
        assert log.count("unseen") == (1, 0)

    def test_a_model_first_seen_in_a_call_that_failed_is_written_well_the_next_time(self, tmp_path: Path) -> None:
        log = SqlitePredictions(tmp_path / "p.db")
        with pytest.raises(OverflowError):
            log.write([prediction("a", moment=2**63)])
        log.write([prediction("b", model="early")])
        log.write([prediction("c")])
        assert [log.count("late"), log.count("early")] == [(1, 0), (1, 0)]

    def test_a_file_that_is_no_prediction_log_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        with sqlite3.connect(tmp_path / "p.db") as connection:
            connection.execute("CREATE TABLE mine (x)")
        with pytest.raises(StorageError, match="not a Treadle prediction log"):
            SqlitePredictions(tmp_path / "p.db")

    def test_reading_a_range_uses_the_index(self, tmp_path: Path) -> None:
        from treadle.backends.sqlite_predictions import _BETWEEN

        log = SqlitePredictions(tmp_path / "p.db")
        plan = " ".join(row[3] for row in log._rows(f"EXPLAIN QUERY PLAN {_BETWEEN}", (0, "late", 0, 0, 9, 9, 10)))
        assert "predictions_by_moment (model=? AND moment>? AND moment<?)" in plan
        assert "SCAN" not in plan
        assert "TEMP B-TREE" not in plan


class TestPostgresPredictions(PredictionsContract):
    @pytest.fixture
    def new_log(self, tmp_path: Path) -> Callable[[], PredictionLog]:
        numbers = count()
        return lambda: PostgresPredictions(servers.postgres_url(schema=servers.schema_of(tmp_path / str(next(numbers)))))


class TestCompactedPostgresPredictions(PredictionsContract):
    moves = True

    @pytest.fixture
    def new_log(self, tmp_path: Path) -> Callable[[], PredictionLog]:
        numbers = count()
        blobs = FileBlobs(tmp_path / "blobs")
        return lambda: CompactedPredictions(
            PostgresPredictions(servers.postgres_url(schema=servers.schema_of(tmp_path / str(next(numbers))))), lambda: blobs
        )


class TestCompactedSqlitePredictions(PredictionsContract):
    """The same log, from which any day may be moved into a file at any moment."""

    moves = True

    @pytest.fixture
    def new_log(self, tmp_path: Path) -> Callable[[], PredictionLog]:
        numbers = count()
        blobs = FileBlobs(tmp_path / "blobs")
        return lambda: CompactedPredictions(SqlitePredictions(tmp_path / f"predictions-{next(numbers)}.db"), lambda: blobs)


def test_the_catalog_opens_both(tmp_path: Path) -> None:
    assert isinstance(open_backend("predictions", f"sqlite://{tmp_path}/p.db"), SqlitePredictions)
    assert isinstance(open_backend("predictions", "memory:"), MemoryPredictions)
