"""The journal writes what the event loop hands over: together, in time, and never loses anything silently."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from treadle.backends.memory_predictions import MemoryPredictions
from treadle.backends.sqlite_predictions import SqlitePredictions
from treadle.core.errors import StorageError, TreadleError, Unavailable
from treadle.ports.predictions import Outcome, Prediction
from treadle.serving.journal import Journal
from treadle.testing.predictions_contract import prediction as one


class Said(list[Prediction]):
    """The answers of one request."""

    def predictions(self) -> list[Prediction]:
        return list(self)


def prediction(id: str, **says: Any) -> Said:
    return Said([one(id, **says)])


class Trying(MemoryPredictions):
    """A log in memory that can be held still, fails as often as told, and remembers the size of every commit."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.commits: list[int] = []
        self.go = threading.Event()
        self.go.set()
        self.entered = threading.Event()

    def write(self, predictions: Sequence[Prediction], outcomes: Sequence[Outcome] = (), *, durable: bool = True) -> None:
        self.entered.set()
        self.go.wait(10)
        if self.failures:
            self.failures -= 1
            raise StorageError("The disk is full.")
        if any(p.moment >= 2**63 for p in predictions):
            raise OverflowError("too large")
        super().write(predictions, outcomes)
        self.commits.append(len(predictions) + len(outcomes))


Open = Callable[..., Journal]


@pytest.fixture
def journal_of() -> Iterator[Open]:
    opened: list[Journal] = []

    def start(log: Any, **options: Any) -> Journal:
        opened.append(Journal(log, model="late", **options))
        return opened[-1]

    yield start
    for journal in opened:
        with suppress(StorageError):
            journal.close(timeout=0)


async def outcome_of(future: asyncio.Future[None] | None) -> BaseException | None:
    assert future is not None
    await asyncio.wait([future], timeout=5)
    return future.exception()


def test_a_durable_prediction_is_stored_when_the_wait_ends(tmp_path: Path, journal_of: Open) -> None:
    log = SqlitePredictions(tmp_path / "p.db")
    journal = journal_of(log, durable=True)

    async def serve(id: str) -> bool:
        waiting = journal.submit(prediction(id))
        assert waiting is not None
        await waiting
        return log.get(id) is not None

    async def main() -> list[bool]:
        return await asyncio.gather(*(serve(f"p{i}") for i in range(300)))

    assert all(asyncio.run(main()))
    assert (journal.written, journal.waiting, journal.failed) == (300, 0, 0)


def test_what_arrives_during_a_commit_shares_the_next_one(journal_of: Open) -> None:
    log = Trying()
    journal = journal_of(log, durable=True, batch=100)

    async def main() -> None:
        log.go.clear()
        first = journal.submit(prediction("first"))
        await asyncio.to_thread(log.entered.wait, 5)
        rest = [journal.submit(prediction(f"p{i}")) for i in range(250)]
        assert first is not None
        assert not first.done()
        assert journal.waiting == 251
        log.go.set()
        await asyncio.gather(first, *(f for f in rest if f is not None))

    asyncio.run(main())
    assert log.commits == [1, 100, 100, 50]


def test_without_durability_submit_returns_at_once_and_the_entry_is_written_within_50_ms(tmp_path: Path, journal_of: Open) -> None:
    log = SqlitePredictions(tmp_path / "p.db")
    journal = journal_of(log, durable=False)

    async def main(id: str) -> float:
        await asyncio.sleep(0.05)
        start = time.perf_counter()
        assert journal.submit(prediction(id)) is None
        while log.get(id) is None and time.perf_counter() - start < 5:
            await asyncio.sleep(0.002)
        return time.perf_counter() - start

    assert 0.005 < min(asyncio.run(main(f"p{i}")) for i in range(5)) < 0.05


def test_without_durability_predictions_gather_before_they_are_written(journal_of: Open) -> None:
    log = Trying()
    journal = journal_of(log, durable=False)

    async def main() -> None:
        for i in range(10):
            journal.submit(prediction(f"p{i}"))
            await asyncio.sleep(0)

    asyncio.run(main())
    journal.flush()
    assert len(log.commits) <= 2
    assert sum(log.commits) == 10


@pytest.mark.parametrize("durable", [True, False])
def test_outcomes_are_acknowledged_when_stored(tmp_path: Path, journal_of: Open, durable: bool) -> None:
    log = SqlitePredictions(tmp_path / "p.db")
    journal = journal_of(log, durable=durable)

    async def main() -> tuple[int, int]:
        journal.submit(prediction("a"))
        await journal.submit_outcomes([Outcome("a", 1, 5), Outcome("b", 0, 5)])
        return len(log.outcomes_of("a")), log.strays()

    assert asyncio.run(main()) == (1, 1)
    assert journal.written == 3


@pytest.mark.parametrize("durable", [True, False])
def test_a_full_queue_refuses_more_and_takes_again_when_there_is_room(journal_of: Open, durable: bool) -> None:
    log = Trying()
    journal = journal_of(log, durable=durable, limit=5)

    async def main() -> None:
        log.go.clear()
        futures = [journal.submit(prediction(f"p{i}")) for i in range(5)]
        with pytest.raises(Unavailable, match="prediction log of late is behind") as refusal:
            journal.submit(prediction("more"))
        assert refusal.value.transient
        with pytest.raises(Unavailable):
            journal.submit_outcomes([Outcome("p1", 1, 5)])
        log.go.set()
        if durable:
            await asyncio.gather(*(f for f in futures if f is not None))
        else:
            await asyncio.to_thread(journal.flush)
        journal.submit(prediction("later"))

    asyncio.run(main())
    journal.flush()
    assert log.get("more") is None
    assert log.count("late") == (6, 0)


def test_one_list_larger_than_the_limit_is_taken_when_nothing_waits(journal_of: Open) -> None:
    log = Trying()
    journal = journal_of(log, durable=True, limit=5, batch=3)

    async def main() -> None:
        await journal.submit_outcomes([Outcome(f"p{i}", 1, 5) for i in range(20)])

    asyncio.run(main())
    assert log.commits == [20]  # all or none, so one commit


def test_a_commit_that_fails_tells_everybody_who_waits_and_the_next_one_works(journal_of: Open) -> None:
    log = Trying()
    journal = journal_of(log, durable=True)

    async def main() -> tuple[list[BaseException | None], BaseException | None]:
        log.go.clear()
        first = journal.submit(prediction("first"))
        await asyncio.to_thread(log.entered.wait, 5)
        log.failures = 2
        rest = [journal.submit(prediction(f"p{i}")) for i in range(20)]
        log.go.set()
        told = [await outcome_of(future) for future in [first, *rest]]
        return told, await outcome_of(journal.submit(prediction("after")))

    told, after = asyncio.run(main())
    assert all(isinstance(error, StorageError) for error in told)
    assert after is None
    assert [p.id for p in log.last("late", 100)] == ["after"]
    assert (journal.failed, journal.written, journal.waiting, journal.error) == (2, 1, 0, None)


def test_predictions_nobody_waits_for_are_kept_and_written_when_the_log_recovers(journal_of: Open) -> None:
    log = Trying(failures=4)
    journal = journal_of(log, durable=False)

    async def main() -> BaseException | None:
        for i in range(30):
            journal.submit(prediction(f"p{i}", answered=i))
        told = await outcome_of(journal.submit_outcomes([Outcome("p0", 1, 5)]))  # somebody waits for these
        assert journal.waiting == 30
        assert isinstance(journal.error, TreadleError)
        await asyncio.to_thread(journal.flush)
        return told

    assert isinstance(asyncio.run(main()), StorageError)
    assert [p.id for p in log.last("late", 100)] == [f"p{i}" for i in reversed(range(30))]
    assert log.strays() == 0
    assert (journal.failed, journal.written, journal.waiting, journal.error) == (4, 30, 0, None)


def test_an_entry_that_cannot_be_stored_fails_alone(journal_of: Open) -> None:
    log = Trying()
    journal = journal_of(log, durable=True)

    async def main() -> list[BaseException | None]:
        log.go.clear()
        futures = [journal.submit(prediction("first"))]
        futures += [journal.submit(prediction(f"p{i}", moment=2**63 if i == 3 else i)) for i in range(6)]
        log.go.set()
        return [await outcome_of(future) for future in futures]

    told = asyncio.run(main())
    assert [type(error) for error in told] == [type(None)] * 4 + [OverflowError] + [type(None)] * 2
    assert log.count("late") == (6, 0)
    assert journal.waiting == 0


def test_a_request_that_went_away_disturbs_nobody(journal_of: Open) -> None:
    log = Trying()
    journal = journal_of(log, durable=True)

    async def main() -> None:
        log.go.clear()
        gone, stays = journal.submit(prediction("gone")), journal.submit(prediction("stays"))
        assert gone is not None
        gone.cancel()
        log.go.set()
        assert await outcome_of(stays) is None

    asyncio.run(main())
    assert log.count("late") == (2, 0)


def test_a_loop_that_ended_disturbs_nobody(journal_of: Open) -> None:
    log = Trying()
    journal = journal_of(log, durable=True)

    async def leave() -> None:
        log.go.clear()
        journal.submit(prediction("left behind"))

    async def stay() -> BaseException | None:
        return await outcome_of(journal.submit(prediction("a")))

    asyncio.run(leave())
    log.go.set()
    assert asyncio.run(stay()) is None
    assert log.count("late") == (2, 0)


@pytest.mark.parametrize("durable", [True, False])
def test_closing_writes_what_waits_and_takes_no_more(tmp_path: Path, journal_of: Open, durable: bool) -> None:
    log = SqlitePredictions(tmp_path / "p.db")
    journal = journal_of(log, durable=durable)

    async def main() -> None:
        for i in range(2_500):
            journal.submit(prediction(f"p{i}"))
        journal.close()
        with pytest.raises(Unavailable, match="closed"):
            journal.submit(prediction("late"))

    asyncio.run(main())
    assert log.count("late") == (2_500, 0)
    journal.close()
    journal.flush()


def test_closing_waits_for_a_log_that_recovers(journal_of: Open) -> None:
    log = Trying(failures=2)
    journal = journal_of(log, durable=False)
    asyncio.run(submit(journal, "a"))
    journal.close(timeout=5)
    assert log.get("a") == one("a")


def test_closing_says_what_could_not_be_written(journal_of: Open) -> None:
    journal = journal_of(Trying(failures=10**9), durable=False)
    asyncio.run(submit(journal, "a"))
    with pytest.raises(StorageError, match=r"1 entries of the prediction log of late are not written yet .*full"):
        journal.flush(timeout=0.1)
    with pytest.raises(StorageError, match="1 entries"):
        journal.close(timeout=0.2)
    assert journal.failed < 20  # it paused between the tries
    with pytest.raises(StorageError):
        journal.flush(timeout=0.1)


async def submit(journal: Journal, id: str) -> None:
    journal.submit(prediction(id))
