"""A model that runs code of its own cannot hang, kill, fill or read the process that serves it; it is ended and started again."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from treadle.backends.isolated import ROOM, Isolated
from treadle.backends.pickle_format import PickleFormat
from treadle.core.errors import CannotConvert, Corrupt, InvalidRequest, NotFound, TreadleError, Unavailable
from treadle.training.encoding import make_pipeline


class Moody(ClassifierMixin, BaseEstimator):
    """Answers as its first column tells it to: by raising, sleeping, ending its process, taking memory, or a word about its environment."""

    def fit(self, X: Any, y: Any) -> Moody:
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X: Any) -> Any:
        first = float(X[0, 0])
        if first == 1:
            raise ValueError("in a mood")
        if first == 2:
            time.sleep(3600)
        if first == 3:
            os._exit(9)
        if first == 4:
            bytearray(64 << 30)
        if first == 5:
            return np.zeros((1, 2))
        if first == 6:
            print("a word to standard output", flush=True)
        if first == 7:
            return np.full((len(X), 2), float(len(os.environ.get("TREADLE_TRIGGER_TOKEN", ""))))
        p = 1 / (1 + np.exp(-X[:, 1].astype(np.float64)))
        return np.column_stack([1 - p, p])

    def predict(self, X: Any) -> Any:
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def rows(first: float, count: int = 1) -> np.ndarray:
    return np.column_stack([np.full(count, first), np.linspace(-2, 2, count)]).astype(np.float32)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("pickle")
    frame = pl.DataFrame({"a": np.zeros(20), "b": np.arange(20.0)})
    fitted = make_pipeline(Moody(), ["a", "b"], [], linear=False, task="binary").fit(frame, np.arange(20) % 2)
    return folder, PickleFormat().save(fitted, folder)


@pytest.fixture
def scorer(packed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("TREADLE_TRIGGER_TOKEN", "a secret of the server's")
    made = PickleFormat().load(*packed)
    made.isolated._seconds = 2.0
    yield made
    made.isolated.close()


def until(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(0.05)


def answers(scorer: Any) -> bool:
    try:
        return bool(scorer.score(rows(0, 3)).shape == (3, 2))
    except Unavailable:
        return False


def test_it_answers_as_the_estimator_does_and_what_it_prints_is_no_answer(scorer: Any) -> None:
    for first in (0, 6):
        np.testing.assert_allclose(scorer.score(rows(first, 50)), Moody().predict_proba(rows(0, 50)), atol=1e-12)
    assert scorer.score(rows(0, 20_000)).shape == (20_000, 2)
    with pytest.raises(InvalidRequest, match="rows of 2 encoded features"):
        scorer.score(np.zeros((1, 3), dtype=np.float32))


def test_what_it_raises_is_told_and_the_process_goes_on(scorer: Any) -> None:
    pid = scorer.isolated.pid
    with pytest.raises(TreadleError, match="The model raised ValueError: in a mood"):
        scorer.score(rows(1))
    with pytest.raises(TreadleError, match="The model raised MemoryError"):
        scorer.score(rows(4))
    with pytest.raises(Corrupt, match=r"an answer of shape \[1, 2\] for 3 rows"):
        scorer.score(rows(5, 3))
    assert answers(scorer)
    assert scorer.isolated.pid == pid


def test_it_sees_nothing_of_the_servers_environment(scorer: Any) -> None:
    assert scorer.score(rows(7)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(("first", "reason"), [(2, "took more than 2 s to answer; its process was ended and starts again"), (3, "ended with 9, and starts again")])
def test_one_that_hangs_or_dies_is_ended_and_started_again(scorer: Any, first: float, reason: str) -> None:
    pid = scorer.isolated.pid
    with pytest.raises(Unavailable, match=reason):
        scorer.score(rows(first))
    with pytest.raises(Unavailable, match="starts again"):
        scorer.score(rows(0))
    until(lambda: answers(scorer))
    assert scorer.isolated.pid != pid
    assert not Path(f"/proc/{pid}").exists()


def test_one_that_is_killed_from_outside_is_started_again(scorer: Any) -> None:
    os.kill(scorer.isolated.pid, 9)
    until(lambda: scorer.isolated.pid is None)
    with pytest.raises(Unavailable, match="starts again"):
        scorer.score(rows(0))
    until(lambda: answers(scorer))


def test_several_threads_each_get_their_own_answer(scorer: Any) -> None:
    wrong: list[float] = []

    def work(count: int) -> None:
        for _ in range(20):
            if len(scorer.score(rows(0, count))) != count:
                wrong.append(count)

    threads = [threading.Thread(target=work, args=(count,)) for count in (1, 10, 1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_its_process_and_folder_go_with_it(packed: tuple[Path, dict[str, Any]]) -> None:
    made = PickleFormat().load(*packed)
    pid, room = made.isolated.pid, made.isolated._room
    assert room.is_dir()
    assert room.name.startswith(f"{ROOM}{os.getpid()}-")
    del made
    assert not Path(f"/proc/{pid}").exists()
    assert not room.exists()


def test_a_file_that_was_changed_is_not_read(packed: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, info = packed
    (tmp_path / "model.pkl").write_bytes((folder / "model.pkl").read_bytes() + b".")
    with pytest.raises(Corrupt, match="is not the one that was packed"):
        PickleFormat().load(tmp_path, info)
    with pytest.raises(NotFound):
        PickleFormat().load(tmp_path / "none", info)
    with pytest.raises(Corrupt, match=r"was pickled by Python 2\.7"):
        PickleFormat().load(folder, {**info, "python": "2.7"})


def test_what_cannot_be_pickled_or_loaded_says_so(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": np.zeros(20), "b": np.arange(20.0)})
    fitted = make_pipeline(Moody(), ["a", "b"], [], linear=False, task="binary").fit(frame, np.arange(20) % 2)
    fitted[-1].lock = threading.Lock()
    with pytest.raises(CannotConvert, match="Moody cannot be pickled"):
        PickleFormat().save(fitted, tmp_path)
    (tmp_path / "bad.pkl").write_bytes(b"not a pickle")
    with pytest.raises(Corrupt, match="The model cannot be loaded: UnpicklingError"):
        Isolated(Path(sys.executable), ["pickle", str(tmp_path / "bad.pkl")], 2.0).start()
    with pytest.raises(Unavailable, match="interpreter of the model cannot be started"):
        Isolated(tmp_path / "nopython", ["pickle", str(tmp_path / "bad.pkl")], 2.0).start()
