"""The prediction log in memory: for tests and for trying things out; it dies with the process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from heapq import nlargest

from treadle.core.canonical import canonical
from treadle.ports.prediction_blocks import Block, each
from treadle.ports.predictions import Outcome, Prediction


class MemoryPredictions:
    """Keeps every prediction in dictionaries. `durable` changes nothing: nothing here outlives the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._predictions: dict[str, Prediction] = {}
        self._by_model: dict[str, list[Prediction]] = {}  # in the order written
        self._outcomes: dict[str, dict[tuple[str, int, str], Outcome]] = {}  # in the order received

    def write(self, predictions: Sequence[Prediction | Block], outcomes: Sequence[Outcome] = (), *, durable: bool = True) -> None:
        rows = each(predictions)
        truths = [(canonical(outcome.value).decode(), outcome) for outcome in outcomes]
        with self._lock:
            for prediction in rows:
                if prediction.id not in self._predictions:
                    self._predictions[prediction.id] = prediction
                    self._by_model.setdefault(prediction.model, []).append(prediction)
            for text, outcome in truths:
                stored = Outcome(outcome.prediction, json.loads(text), outcome.known, outcome.source)
                self._outcomes.setdefault(outcome.prediction, {}).setdefault((text, outcome.known, outcome.source), stored)

    def get(self, id: str) -> Prediction | None:
        return self._predictions.get(id)

    def outcomes_of(self, id: str) -> list[Outcome]:
        with self._lock:
            return list(self._outcomes.get(id, {}).values())

    def between(self, model: str, start: int, end: int, *, batch: int = 10_000) -> Iterator[list[tuple[Prediction, Outcome | None]]]:
        with self._lock:
            chosen = [p for p in self._by_model.get(model, ()) if start <= p.moment < end]
            found = [(p, self._counting(p.id)) for p in sorted(chosen, key=lambda p: p.moment)]
        size = max(1, batch)
        for first in range(0, len(found), size):
            yield found[first : first + size]

    def last(self, model: str, count: int = 1) -> list[Prediction]:
        with self._lock:
            numbered = enumerate(self._by_model.get(model, ()))
            return [p for _, p in nlargest(count, numbered, key=lambda item: (item[1].answered, item[0]))]

    def count(self, model: str) -> tuple[int, int]:
        with self._lock:
            written = self._by_model.get(model, ())
            return len(written), sum(p.id in self._outcomes for p in written)

    def strays(self) -> int:
        with self._lock:
            return sum(len(outcomes) for id, outcomes in self._outcomes.items() if id not in self._predictions)

    def close(self) -> None:
        """Nothing is held."""

    def _counting(self, id: str) -> Outcome | None:
        outcomes = self._outcomes.get(id)
        return next(reversed(outcomes.values())) if outcomes else None
