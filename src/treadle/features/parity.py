"""Proof that training and serving do not differ: rows go through the real serving path and must give the features training saw."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from treadle.core.declare.data import View
from treadle.core.declare.model import Model
from treadle.features.history import AT
from treadle.features.online import Materialiser
from treadle.features.rows import KEY, MOMENT, Values
from treadle.ports.online import OnlineStore


@dataclass(frozen=True)
class Mismatch:
    """One feature of one row that serving computes otherwise than training."""

    key: str
    feature: str
    training: Any
    serving: Any


def check(
    model: Model,
    source: pl.DataFrame,
    rows: pl.DataFrame,
    views: Sequence[tuple[View, Values]],
    store: OnlineStore,
    request_fields: Sequence[str],
    features: Sequence[str],
    serve: Callable[[Mapping[str, Any]], list[Any]],
    most: int = 300,
    encode: Callable[[Sequence[Sequence[Any]]], Any] | None = None,
) -> tuple[int, list[Mismatch]]:
    """Serve rows one by one, at their own moments, from an online store brought forward as it is in production.

    Args:
        source: rows of the data set, in the order of `rows` (the model's feature frame).
        store: an empty online store.
        serve: takes a request (field to JSON value) and returns the feature values serving computed.
        encode: makes the model's matrix of feature values; then the matrices are compared too.
    Returns: (rows served, mismatches).
    """
    moments = rows[MOMENT]
    if views:
        lasts = [_scan(values).select(pl.col(AT).max()).collect().item() for _, values in views]
        newest = max((at for at in lasts if at is not None), default=None)
        usable = rows.with_row_index("__i__").filter(pl.col(MOMENT) <= newest if newest is not None else True)
        # The last rows before the newest value: one stretch of time, so that the store has to be brought over it only once.
        chosen = usable.sort(MOMENT).tail(most * 5).gather_every(5)["__i__"].to_list()
    else:
        chosen = list(range(0, rows.height, max(1, rows.height // most)))[:most]
    if not chosen:
        return 0, []
    material = Materialiser(store, [(view, _of(source[chosen], view, values)) for view, values in views])
    if views:
        material.fill(moments[chosen[0]])
    found: list[Mismatch] = []
    for i in chosen:
        if views:
            material.advance(moments[i])
        request = request_of(source.row(i, named=True), request_fields)
        served = serve(request)
        expected = rows.row(i, named=True)
        for name, value in zip(features, served, strict=True):
            if not equal(expected[name], value):
                found.append(Mismatch(expected[KEY], name, expected[name], value))
        if encode is not None:
            trained = [expected[name] for name in features]
            if encode([served]).tobytes() != encode([trained]).tobytes():
                found.append(Mismatch(expected[KEY], "the encoded row", trained, served))
    return len(chosen), found


def _scan(values: Values) -> pl.LazyFrame:
    return values.lazy() if isinstance(values, pl.DataFrame) else pl.scan_parquet(values, glob=False)


def _of(rows: pl.DataFrame, view: View, values: Values) -> pl.DataFrame:
    """A view's history; of one in a file what is about the entities of rows."""
    if isinstance(values, pl.DataFrame):
        return values
    entities = rows.lazy().select(view.entity).unique()
    return _scan(values).join(entities, on=list(view.entity), how="semi", maintain_order="left").collect().sort(AT, maintain_order=True)


def request_of(row: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """A row of a data set as the request a caller would send: moments as ISO text, missing values left out."""
    request = {}
    for name in fields:
        value = row.get(name)
        if value is not None and not (isinstance(value, float) and math.isnan(value)):
            request[name] = value.isoformat() if hasattr(value, "isoformat") else value
    return request


def equal(training: Any, serving: Any) -> bool:
    """Whether a feature is the same in both; missing may be null, NaN or blank text."""
    if training is None or training == "" or (isinstance(training, float) and math.isnan(training)):
        return serving is None or serving == "" or (isinstance(serving, float) and math.isnan(serving))
    return bool(training == serving)
