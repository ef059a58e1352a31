"""A quicker way to many rows is opened beside the work, proved, and dropped when it says anything else."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from treadle.serving.bulk import MANY, Bulk


class Way:
    def __init__(self, add: float = 0.0) -> None:
        self.add, self.calls = add, 0

    def score(self, matrix: np.ndarray) -> np.ndarray:
        self.calls += 1
        return matrix[:, :1].astype(np.float64) + self.add


def asked(bulk: Bulk, times: int) -> None:
    for i in range(times):
        matrix = np.full((MANY, 2), i, np.float32)
        assert bulk.score(matrix).tolist() == [[float(i)]] * MANY
        time.sleep(0.005)


def test_few_rows_never_open_it() -> None:
    opened: list[int] = []
    bulk = Bulk(Way(), lambda: opened.append(1))  # type: ignore[arg-type, func-returns-value]
    bulk.score(np.zeros((MANY - 1, 2), np.float32))
    assert not opened


def test_it_answers_alone_when_it_is_proved() -> None:
    plain, quick = Way(), Way()
    bulk = Bulk(plain, lambda: quick)
    asked(bulk, 30)
    assert quick.calls > plain.calls


def test_until_it_is_ready_the_plain_way_answers() -> None:
    plain, go = Way(), threading.Event()

    def open_late() -> Way:
        go.wait(10)
        return Way()

    asked(Bulk(plain, open_late), 5)
    assert plain.calls == 5
    go.set()


@pytest.mark.parametrize("wrong", [1e-9, 1.0])
def test_one_that_answers_otherwise_by_a_bit_is_dropped(wrong: float) -> None:
    plain, quick = Way(), Way(wrong)
    asked(Bulk(plain, lambda: quick), 20)
    assert (plain.calls, quick.calls) == (20, 1)


def test_one_that_cannot_be_opened_is_not_missed() -> None:
    def broken() -> Way:
        raise OSError("gone")

    asked(Bulk(Way(), broken), 5)
