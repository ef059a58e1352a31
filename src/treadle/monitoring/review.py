"""What people are asked about: a sampled share of the predictions, whatever was predicted, so that what they say is a fair picture of quality.

Which predictions are asked about follows from their ids alone, so nobody can choose them and nothing has to be kept. What a person says becomes an
outcome like any other, with the source 'review:NAME'; who said what is also an event of the record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from treadle.core.canonical import canonical
from treadle.core.clock import parse_time
from treadle.core.errors import Conflict, NotFound, UsageError
from treadle.core.records import Ref
from treadle.ports.ledger import Ledger
from treadle.ports.predictions import Outcome, Prediction, PredictionLog

SOURCE = "review:"


def sampled(id: str, share: float) -> bool:
    """Whether people are asked about a prediction; of a larger share those of a smaller one are a part."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=6, person=b"review").digest(), "big") < share * 2**48


def waiting(model: str, share: float, log: PredictionLog, *, since: int = 0, limit: int = 100) -> Iterator[Prediction]:
    """Sampled predictions that nobody has reviewed, oldest first."""
    left = limit
    if share <= 0:
        return
    for batch in log.between(model, since, 2**62):
        for prediction, outcome in batch:
            if not sampled(prediction.id, share) or (outcome is not None and _reviewed(prediction.id, log)):
                continue
            yield prediction
            left -= 1
            if left <= 0:
                return


def answer(id: str, value: Any, labels: Sequence[Any], log: PredictionLog, ledger: Ledger, now: datetime, *, person: str) -> Outcome:
    """Record what a person says is the truth of a prediction.

    Raises: NotFound for an unknown prediction, UsageError for a value that is none of the labels (or no number), Conflict when the same person has
    said something else before.
    """
    prediction = log.get(id)
    if prediction is None:
        raise NotFound(f"There is no prediction {id!r}.", hint="See what waits with: treadle review")
    said = next((label for label in labels if canonical(label) == canonical(value) or str(label).lower() == str(value).lower()), None)
    if labels and said is None:
        raise UsageError(f"{value!r} is none of {', '.join(map(repr, labels))}.")
    if not labels:
        try:
            said = float(value)
        except (TypeError, ValueError):
            raise UsageError(f"{value!r} is no number.") from None
    source = f"{SOURCE}{person}"
    mine = [o for o in log.outcomes_of(id) if o.source == source]
    if mine and canonical(mine[-1].value) != canonical(said):
        raise Conflict(f"{person} said {mine[-1].value!r} of {id} before.", hint="Somebody else may say otherwise; both are kept.")
    outcome = Outcome(id, said, round((now - parse_time("1970-01-01")).total_seconds() * 1e6), source)
    if not mine:
        log.write([], [outcome])
        ledger.append("prediction.reviewed", Ref("prediction", id), {"model": prediction.model}, actor=person)
    return outcome


def _reviewed(id: str, log: PredictionLog) -> bool:
    return any(o.source.startswith(SOURCE) for o in log.outcomes_of(id))
