"""The prediction log as a table: a row a prediction, what it was asked and answered, and the outcome that counts.

`told` and `prediction` are what the caller got; `output` is what the version says by itself. They differ where a recalibration was applied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from treadle.core.masking import masked_within
from treadle.ports.predictions import Outcome, Prediction, PredictionLog
from treadle.serving import recalibration

MOMENT = pl.Datetime("us", "UTC")


def tables(
    log: PredictionLog, model: str, start: int, end: int, labels: Mapping[int, Sequence[Any]], personal: Mapping[str, str] | None, batch: int = 20_000
) -> Iterator[pl.DataFrame]:
    """Predictions with start <= moment < end (microseconds since 1970 UTC), in frames of up to `batch` rows.

    Args:
        labels: of each version, in the order of its outputs; nothing for one that answers numbers.
        personal: names under which values are masked, to the sort of data they are; None masks nothing.
    """
    for pairs in log.between(model, start, end, batch=batch):
        yield pl.DataFrame([_row(p, o, labels.get(p.version, ()), personal) for p, o in pairs], schema=SCHEMA, orient="row")


SCHEMA: dict[str, Any] = {
    "id": pl.String, "moment": MOMENT, "answered": MOMENT, "version": pl.Int64, "variant": pl.String, "prediction": pl.String,
    "told": pl.List(pl.Float64), "output": pl.List(pl.Float64), "other_version": pl.Int64, "other_output": pl.List(pl.Float64),
    "outcome": pl.String, "outcome_known": MOMENT, "outcome_source": pl.String,
    "inputs": pl.String, "features": pl.String, "micros": pl.Int64,
}  # fmt: skip


def _row(p: Prediction, o: Outcome | None, labels: Sequence[Any], personal: Mapping[str, str] | None) -> tuple[Any, ...]:
    inputs = p.inputs.decode("utf-8", "replace")
    if personal:
        inputs = json.dumps(masked_within(json.loads(p.inputs or b"{}"), personal), ensure_ascii=False)
    said = recalibration.told(p)[0]
    answer: Any = said[0] if said else None
    if labels and said:
        answer = labels[max(range(len(said)), key=said.__getitem__)]
    told = (None, None, None) if o is None else (json.dumps(o.value), o.known, o.source)
    return (
        p.id, p.moment, p.answered, p.version, p.variant, json.dumps(answer), list(said), list(p.output), p.other_version or None,
        list(p.other_output), *told, inputs, p.features.decode("utf-8", "replace"), p.micros,
    )  # fmt: skip
