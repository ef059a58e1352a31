"""The rows of a model: one per prediction, with what the caller sends, what is derived, what was known, and the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import polars as pl

from treadle.core.declare.data import View
from treadle.core.declare.features import Derived
from treadle.core.declare.model import Model
from treadle.core.errors import DataError
from treadle.core.schema import Field, Kind
from treadle.features import derived
from treadle.features.history import feature_kinds, join

MOMENT, KNOWN, TARGET, KEY = "__moment__", "__known__", "__target__", "__key__"


def model_rows(model: Model, rows: pl.DataFrame, views: Sequence[tuple[View, pl.DataFrame]]) -> pl.DataFrame:
    """The feature frame of a model.

    Returns: KEY (text), MOMENT, KNOWN (null where the data set has no times), TARGET, the slices as `slice:NAME`, then each feature in the
    order of the signature. Rows without a truth are kept with a null TARGET: they can be predicted, not learned from.
    """
    for column in (model.target, *model.slices):
        if column not in rows.columns:
            raise DataError(f"Column {column!r} is missing.", where=f"model {model.name!r} ({model.place})", hint=f"It has: {rows.columns}.")
    moment, known = model.rows.event_time, model.rows.known_time or model.rows.event_time
    nothing = pl.lit(None, pl.Datetime("us", "UTC"))
    inputs = []
    for item in model.inputs:
        columns = item.columns if isinstance(item, Derived) else (item,)
        for column in columns:
            if column not in rows.columns:
                raise DataError(f"Input {column!r} is missing.", where=f"model {model.name!r} ({model.place})", hint=f"It has: {rows.columns}.")
        if isinstance(item, Derived):
            inputs.append(derived.expression(item.rule).alias(item.name))
        else:
            inputs.append(_as_feature(item, rows.schema[item]))
    for view, values in views:
        for column in view.entity:
            if rows.schema.get(column) != values.schema[column]:
                there = rows.schema.get(column, "not there")
                raise DataError(
                    f"The entity {column!r} of view {view.name!r} is {values.schema[column]} in its source, but {there} in {model.rows.name!r}.",
                    where=f"view {view.name!r} ({view.place})", hint="Declare the column alike in both contracts.",
                )  # fmt: skip
    frame = rows.select(
        pl.concat_str([pl.col(k).cast(pl.String) for k in model.rows.key], separator="|").alias(KEY),
        (pl.col(moment) if moment else nothing).alias(MOMENT),
        (pl.col(known) if known else nothing).alias(KNOWN),
        pl.col(model.target).alias(TARGET),
        *[pl.col(s).cast(pl.String).alias(f"slice:{s}") for s in model.slices],
        *inputs,
        *[pl.col(c).alias(f"entity:{c}") for c in dict.fromkeys(c for v, _ in views for c in v.entity)],
    )
    for view, values in views:
        joined = join(frame.select(MOMENT, *[pl.col(f"entity:{c}").alias(c) for c in view.entity]), MOMENT, view, values)
        features = joined.select(_as_feature(f, joined.schema[f]) for f in view.feature_names())
        frame = frame.hstack(features.get_columns())
    return frame.select(pl.exclude("^entity:.*$"))


def signature(model: Model, rows: pl.DataFrame, views: Sequence[tuple[View, pl.DataFrame]]) -> tuple[list[Field], list[Field]]:
    """(what a request may carry, the features in the order of the model's matrix)."""
    contract = model.rows.contract.columns if model.rows.contract else {}

    def field(column: str) -> Field:
        declared = contract.get(column)
        if declared:
            return Field(column, declared.kind, declared.nullable, ge=declared.ge, le=declared.le)
        return Field(column, _kind(rows.schema[column]))

    request: dict[str, Field] = {}
    features: list[Field] = []
    for item in model.inputs:
        for column in item.columns if isinstance(item, Derived) else (item,):
            request[column] = field(column)
        if isinstance(item, Derived):
            features.append(Field(item.name, item.kind, source="derived", rule=item.rule))
        else:
            declared = field(item)
            features.append(Field(item, "category" if declared.kind in ("category", "text") else "number", declared.nullable))
    for view, values in views:
        for column in view.entity:
            request.setdefault(column, field(column))
        for name, kind in feature_kinds(view, values).items():
            features.append(Field(name, cast(Kind, kind), source="view", view=view.name))
    if model.rows.event_time:
        request[model.rows.event_time] = Field(model.rows.event_time, "timestamp", nullable=True)
    return list(request.values()), features


def _as_feature(name: str, dtype: pl.DataType) -> pl.Expr:
    """Numbers, integers and booleans as Float64; everything else as text with '' for missing."""
    if dtype.is_numeric() or dtype == pl.Boolean:
        return pl.col(name).cast(pl.Float64)
    return pl.col(name).cast(pl.String).fill_null("")


def _kind(dtype: pl.DataType) -> Kind:
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer():
        return "integer"
    if dtype.is_numeric():
        return "number"
    return "timestamp" if dtype in (pl.Datetime, pl.Date) else "category"
