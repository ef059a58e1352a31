"""The truth of earlier predictions, as callers send it."""

from __future__ import annotations

import time
from typing import Any

from treadle.core.errors import InvalidRequest
from treadle.core.ids import check_id
from treadle.ports.predictions import Outcome
from treadle.serving.requests import moment


def outcomes_of(body: Any) -> list[Outcome]:
    """The outcomes of a body: one, or {'outcomes': [...]}. Raises: InvalidRequest naming the one that does not fit; UsageError for a bad id."""
    entries = body["outcomes"] if isinstance(body, dict) and isinstance(body.get("outcomes"), list) else [body]
    return [_outcome(entry, i if len(entries) > 1 else None) for i, entry in enumerate(entries)]


def _outcome(entry: Any, number: int | None) -> Outcome:
    where = None if number is None else f"outcome {number}"
    if not isinstance(entry, dict) or not isinstance(entry.get("prediction"), str) or "value" not in entry:
        raise InvalidRequest("An outcome is an object with 'prediction' (an id) and 'value'.", where=where)
    if not isinstance(entry["value"], str | int | float | bool):
        raise InvalidRequest("'value' must be text, a number, true or false.", where=where, fields={"value": "has the wrong type"})
    try:
        known = moment(entry["known_at"]) if entry.get("known_at") is not None else time.time_ns() // 1000
    except Exception as error:
        raise InvalidRequest(f"'known_at' {error}", where=where, fields={"known_at": str(error)}) from None
    return Outcome(check_id(entry["prediction"], "prediction id"), entry["value"], known, str(entry.get("source", ""))[:100])
