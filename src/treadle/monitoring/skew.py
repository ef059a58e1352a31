"""Skew: a sample of what was served in production is computed again from the recorded data, as known then, and compared.

A feature agrees when what was served is what the data give at the prediction's moment, or what a store gives that was filled when ours was. So a
store that is behind is no skew; that its values are too old is an alarm of its own. A feature does not agree when the store held something the data
never said, or did not hold what they said when it was last filled. Where it is not known when that was, what the data give now alone counts.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from treadle.core.declare.data import View
from treadle.core.declare.features import Derived
from treadle.core.declare.model import Model
from treadle.core.schema import Field
from treadle.features.parity import equal
from treadle.features.rows import features_of
from treadle.monitoring.findings import Finding
from treadle.ports.predictions import Prediction, PredictionLog
from treadle.serving.answers import share_of

STATE, CHECK = "skew_state", "skew_check"
_MOMENT, _TOLD = "__moment__", "__told__"
_TIME = pl.Datetime("us", "UTC")
_decode = msgspec.json.Decoder().decode
_SHOWN = 3


@dataclass(frozen=True)
class Skewed:
    """One served feature that the recorded data do not give. `view` is empty for a feature computed from the request."""

    prediction: str
    view: str
    feature: str
    served: Any
    recomputed: Any


def sample(log: PredictionLog, model: str, version: int, start: int, end: int, most: int) -> tuple[list[Prediction], int]:
    """At most `most` predictions of a version with start <= moment < end: those whose ids have the lowest numbers, in constant memory.

    Returns: the predictions by moment; the moment after the last one that was looked at.
    """
    last = start
    kept: list[tuple[float, str, Prediction]] = []
    for batch in log.between(model, start, end):
        last = max(last, batch[-1][0].moment + 1)
        for prediction, _ in batch:
            if prediction.version == version and prediction.variant == "champion":
                entry = (-share_of(prediction.id), prediction.id, prediction)
                if len(kept) < most:
                    heapq.heappush(kept, entry)
                else:
                    heapq.heappushpop(kept, entry)
    return sorted((p for _, _, p in kept), key=lambda p: (p.moment, p.id)), last


def compare(
    model: Model, request: Sequence[Field], features: Sequence[Field], predictions: Sequence[Prediction], views: Sequence[tuple[View, pl.DataFrame]],
    filled: Callable[[str, int], int | None],
) -> list[Skewed]:  # fmt: skip
    """What was served otherwise than the data give.

    Args:
        request, features: the signature of the version that answered.
        views: histories from the data as recorded when the predictions were answered.
        filled: when a view's online values were last brought up to date before a moment (microseconds; the view's name and the moment), if known.
    """
    if not predictions:
        return []
    inputs = [_decode(p.inputs) for p in predictions]
    served = [_decode(p.features) for p in predictions]
    rows = _frame(request, inputs, views).with_columns(pl.Series(_MOMENT, [p.moment for p in predictions], dtype=pl.Int64).cast(_TIME))
    now = features_of(model, rows, _MOMENT, views).rows(named=True)
    then: list[dict[str, Any]] | None = None
    view_of = {f: v.name for v, _ in views for f in v.feature_names()}
    needs = {item.name: set(item.columns) & set(view_of) for item in model.inputs if isinstance(item, Derived)}
    found: list[Skewed] = []
    for i, prediction in enumerate(predictions):
        sent = {f for f in view_of if f in inputs[i]}  # the caller's own, which were not looked up
        unreachable = {v for v, why in (inputs[i].get("__missing__") or {}).items() if why == "unreachable"}
        for field, value in zip(features, served[i], strict=True):
            behind = needs.get(field.name, set()) | ({field.name} if field.name in view_of else set())
            if sent & behind or any(view_of[f] in unreachable for f in behind):
                continue
            if equal(now[i][field.name], value):
                continue
            if behind:
                then = then if then is not None else _as_filled(model, rows, predictions, views, filled)
                if then and equal(then[i][field.name], value):
                    continue
            found.append(Skewed(prediction.id, view_of.get(field.name, ""), field.name, value, now[i][field.name]))
    return found


def finding(rows: int, skewed: Sequence[Skewed], limit: float, start: int, end: int) -> Finding | None:
    """What is told of a sample of `rows` predictions; None when no more than the share `limit` of them is skewed."""
    wrong = list(dict.fromkeys(s.prediction for s in skewed))
    if not rows or len(wrong) / rows <= limit:
        return None
    counts = Counter((s.feature, s.view) for s in skewed).most_common()
    named = "; ".join(f"{f!r}" + (f" of view {v!r}" if v else " of the request") + f" ({n:,})" for (f, v), n in counts[:_SHOWN])
    more = f" and {len(counts) - _SHOWN} more features" if len(counts) > _SHOWN else ""
    first = skewed[0]
    sentence = (
        f"{len(wrong):,} of {rows:,} sampled predictions ({len(wrong) / rows:.1%}) were served features that the recorded data do not give: "
        f"{named}{more}. "
        f"For example {first.prediction}: {first.feature} was {_shown(first.served)}, and the data give {_shown(first.recomputed)}"
        + (f"; also {', '.join(wrong[1 : 1 + _SHOWN])}." if len(wrong) > 1 else ".")
    )
    features = tuple((f, n / rows) for (f, _), n in counts)
    return Finding("skew", "share of sampled predictions", len(wrong) / rows, limit, start, end, features, sentence)


def _frame(request: Sequence[Field], inputs: Sequence[Mapping[str, Any]], views: Iterable[tuple[View, pl.DataFrame]]) -> pl.DataFrame:
    """Logged inputs as the columns they came from."""
    entities = {c: values.schema[c] for v, values in views for c in v.entity}
    columns = []
    for field in request:
        given = [row.get(field.name) for row in inputs]
        if field.kind == "timestamp":
            column = pl.Series(field.name, given, dtype=pl.Int64, strict=False).cast(_TIME)
        elif field.kind in ("category", "text"):
            column = pl.Series(field.name, given, dtype=pl.String, strict=False)
        else:
            column = pl.Series(field.name, given, dtype=pl.Float64, strict=False)
        columns.append(column.cast(entities[field.name], strict=False) if field.name in entities else column)
    return pl.DataFrame(columns)


def _as_filled(
    model: Model, rows: pl.DataFrame, predictions: Sequence[Prediction], views: Sequence[tuple[View, pl.DataFrame]],
    filled: Callable[[str, int], int | None],
) -> list[dict[str, Any]]:
    """The features as a store gives them that was filled when ours was; empty when that is not known."""
    told: dict[str, str] = {}
    for view, _ in views:
        last = [filled(view.name, p.moment) for p in predictions]
        if all(m is None for m in last):
            return []
        told[view.name] = f"{_TOLD}{view.name}"
        moments = [min(p.moment, p.moment if m is None else m) for p, m in zip(predictions, last, strict=True)]
        rows = rows.with_columns(pl.Series(told[view.name], moments, dtype=pl.Int64).cast(_TIME))
    return features_of(model, rows, _MOMENT, views, told=told).rows(named=True)


def _shown(value: Any) -> str:
    return "missing" if value is None or value == "" else f"{value:g}" if isinstance(value, float) else repr(value)
