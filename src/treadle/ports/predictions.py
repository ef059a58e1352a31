"""The door to the prediction log: every answered prediction, and the truth when it comes.

Promises every prediction log keeps:

- When `write` returns, its predictions and outcomes are stored: against the death of the process always, against a power cut when `durable` is true.
  All of one call are stored, or none.
- A prediction id is stored once; writing it again changes nothing (a retried request is not two predictions).
- A block (`prediction_blocks.py`) is stored as one entry, and read as the predictions it holds: nobody who reads can tell.
- Outcomes may come late, twice, before their prediction, or corrected: the same outcome twice is one; a different one is a correction, the latest
  received counts, and the earlier ones are kept. An outcome for an id that is not logged is kept and counted by `strays`.
- Moments are microseconds since 1970 UTC. Readers see whole `write` calls only. Several processes may read while one writes.
- A full or read-only disk raises StorageError and stores nothing of the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from treadle.ports.prediction_blocks import Block


class Prediction(msgspec.Struct, frozen=True, array_like=True, tag="row", gc=False):
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
    def write(self, predictions: Sequence[Prediction | Block], outcomes: Sequence[Outcome] = (), *, durable: bool = True) -> None:
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


class Mark(NamedTuple):
    """How far a log was at a moment: what is numbered beyond it was written later. `generation` differs when rows were moved meanwhile."""

    last: int
    last_outcome: int
    generation: int


class Numbered(NamedTuple):
    """A prediction with its number: the order in which predictions were written."""

    seq: int
    prediction: Prediction


@dataclass(frozen=True, slots=True)
class Segment:
    """Predictions of one model and one day that were moved out of the log into a file of columns.

    Args:
        id: given by the log. start, end: of their moments, the end exclusive.
        address: of the file, in the blobs; its rows are in the order of (moment, number).
        newest: when the last of them was answered; last: the highest number.
    """

    id: int
    model: str
    start: int
    end: int
    address: str
    rows: int
    newest: int
    last: int


class Compactable(PredictionLog, Protocol):
    """A prediction log whose closed days can be moved into files. It keeps the outcomes, and for each id that was moved where it is now.

    `write` treats ids that were moved as written, and outcomes of them as any other; `count` counts them. Everything else that reads predictions says
    only what was not moved: `backends/compacted_predictions.py` puts both together.
    """

    def mark(self, model: str) -> Mark | None:
        """How far the log is now; None for a model that has no predictions."""
        ...

    def page(self, model: str, mark: Mark, after: tuple[int, int], end: int, size: int) -> list[tuple[Numbered, Outcome | None]]:
        """Up to `size` predictions after (moment, number), before moment `end`, that the mark covers, with the outcome that counts."""
        ...

    def counting(self, ids: Sequence[str], mark: Mark) -> dict[str, Outcome]:
        """The outcome that counts for each id that has one."""
        ...

    def numbers(self, ids: Sequence[str]) -> dict[str, int]:
        """The numbers of predictions that were not moved."""
        ...

    def segments(self, model: str = "") -> list[Segment]:
        """What was moved, by start; of all models if none is named."""
        ...

    def place(self, id: str) -> tuple[Segment, int] | None:
        """Where a prediction was moved to: the segment, and the row in it."""
        ...

    def days(self, before: int) -> list[tuple[str, int]]:
        """(model, start of the day) of every day that ended by `before` and has predictions which were not moved."""
        ...

    def move(self, segment: Segment, ids: Sequence[str], instead_of: Segment | None = None) -> None:
        """Put on record that these predictions are now in a segment, in the order of its rows, and remove them here: at once, or not at all.

        Args:
            instead_of: a segment that this one replaces; what it has and this one has not is forgotten, with its outcomes.
        Raises: Conflict when some of them are not here any more.
        """
        ...

    def forget(self, ids: Sequence[str]) -> int:
        """Remove predictions that were not moved, and the outcomes of these ids, moved or not; returns how many predictions."""
        ...

    def models(self) -> list[str]:
        """The models that were ever logged."""
        ...

    def stray_ids(self) -> list[str]:
        """Ids that outcomes are of and no prediction has."""
        ...

    def scrub(self) -> list[str]:
        """Make what was removed unreadable; as `ports/scrub.py` says it."""
        ...

    def drop(self, segment: Segment) -> None:
        """Forget a segment, its ids and their outcomes."""
        ...
