"""The door to the prediction log: every answered prediction, and the truth when it comes.

Promises every prediction log keeps:

- When `write` returns, its predictions and outcomes are stored: against the death of the process always, against a power cut when `durable` is true.
  All of one call are stored, or none.
- A prediction id is stored once; writing it again changes nothing (a retried request is not two predictions).
- Outcomes may come late, twice, before their prediction, or corrected: the same outcome twice is one; a different one is a correction, the latest
  received counts, and the earlier ones are kept. An outcome for an id that is not logged is kept and counted by `strays`.
- Moments are microseconds since 1970 UTC. Readers see whole `write` calls only. Several processes may read while one writes.
- A full or read-only disk raises StorageError and stores nothing of the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answered prediction.

    Args:
        moment: what the prediction is of (event time); answered: when it was answered.
        version: number of the model version that answered, as champion or canary by `variant`.
        output: probabilities in the order of the labels, or one number.
        other_version, other_output: the version that answered beside it, unheard; 0 and empty if none.
        inputs: the request's fields as JSON; features: the model's features as a JSON list, in the order of its signature.
    """

    id: str
    model: str
    moment: int
    answered: int
    version: int
    variant: str
    output: tuple[float, ...]
    other_version: int
    other_output: tuple[float, ...]
    inputs: bytes
    features: bytes
    micros: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The truth of one prediction. `value` is the target's value as JSON; `known` when it became known; `source` who says so."""

    prediction: str
    value: Any
    known: int
    source: str = ""


class PredictionLog(Protocol):
    def write(self, predictions: Sequence[Prediction], outcomes: Sequence[Outcome] = (), *, durable: bool = True) -> None:
        """Store them all in one commit."""
        ...

    def get(self, id: str) -> Prediction | None:
        """One prediction, in milliseconds however long the log is."""
        ...

    def outcomes_of(self, id: str) -> list[Outcome]:
        """Every outcome received for a prediction, in the order received; the last one counts."""
        ...

    def between(self, model: str, start: int, end: int, *, batch: int = 10_000) -> Iterator[list[tuple[Prediction, Outcome | None]]]:
        """Predictions of a model with start <= moment < end, by moment, with the outcome that counts, in batches (constant memory)."""
        ...

    def last(self, model: str, count: int = 1) -> list[Prediction]:
        """The predictions answered last, newest first."""
        ...

    def count(self, model: str) -> tuple[int, int]:
        """(predictions, predictions with an outcome) of a model."""
        ...

    def strays(self) -> int:
        """Outcomes whose prediction is not logged."""
        ...
