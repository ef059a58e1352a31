"""The rows of a model: one per prediction, with what the caller sends, what is derived, what was known, and the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import polars as pl

from treadle.core.declare.data import View
from treadle.core.declare.features import Derived
from treadle.core.declare.model import Model
from treadle.core.errors import DataError
from treadle.core.schema import Field, Kind
from treadle.features import derived
from treadle.features.history import feature_kinds, join_all
from treadle.features.large import Limits, join_values

MOMENT, KNOWN, TARGET, KEY = "__moment__", "__known__", "__target__", "__key__"
Values = pl.DataFrame | Path  # a view's history: in memory, or in a Parquet file because it need not fit
_LIMITS = Limits(500_000_000)


def model_rows(model: Model, rows: pl.DataFrame, views: Sequence[tuple[View, Values]], limits: Limits = _LIMITS) -> pl.DataFrame:
    """The feature frame of a model. `limits` are of the join with histories in files.

    Returns: KEY (text), MOMENT, KNOWN (null where the data set has no times), TARGET, the slices as `slice:NAME`, then each feature in the
    order of the signature. Rows without a truth are kept with a null TARGET: they can be predicted, not learned from.
    """
    for column in (model.target, *model.slices):
        if column not in rows.columns:
            raise DataError(f"Column {column!r} is missing.", where=f"model {model.name!r} ({model.place})", hint=f"It has: {rows.columns}.")
    moment, known = model.rows.event_time, model.rows.known_time or model.rows.event_time
    nothing = pl.lit(None, pl.Datetime("us", "UTC"))
    looked_up = features_of(model, rows, moment or "", views, limits=limits)
    return rows.select(
        pl.concat_str([pl.col(k).cast(pl.String) for k in model.rows.key], separator="|").alias(KEY),
        (pl.col(moment) if moment else nothing).alias(MOMENT),
        (pl.col(known) if known else nothing).alias(KNOWN),
        pl.col(model.target).alias(TARGET),
        *[pl.col(s).cast(pl.String).alias(f"slice:{s}") for s in model.slices],
    ).hstack(looked_up.get_columns())


def features_of(
    model: Model, rows: pl.DataFrame, moment: str, views: Sequence[tuple[View, Values]], *, told: Mapping[str, str] | None = None,
    limits: Limits = _LIMITS,
) -> pl.DataFrame:  # fmt: skip
    """The model's features for rows that have its inputs, in the order of its signature; views as they were known at column `moment`.

    Args:
        told: view to a column of `rows`, as in `history.join_all`: what a store had that was filled then. The histories must be frames.
        limits: of the join with histories in files.
    """
    where = f"model {model.name!r} ({model.place})"
    from_views = {f for v, _ in views for f in v.feature_names()}
    for item in model.inputs:
        for column in item.columns if isinstance(item, Derived) else (item,):
            if column not in rows.columns and not (isinstance(item, Derived) and column in from_views):
                raise DataError(f"Input {column!r} is missing.", where=where, hint=f"It has: {rows.columns}.")
    for view, values in views:
        types = schema_of(values)
        for column in view.entity:
            if rows.schema.get(column) != types[column]:
                there = rows.schema.get(column, "not there")
                raise DataError(
                    f"The entity {column!r} of view {view.name!r} is {types[column]} in its source, but {there} in {model.rows.name!r}.",
                    where=f"view {view.name!r} ({view.place})", hint="Declare the column alike in both contracts.",
                )  # fmt: skip
    if told:
        framed = [(view, values) for view, values in views if isinstance(values, pl.DataFrame)]
        joined = pl.DataFrame([c for view, values in framed for c in join_all(rows, moment, [(view, values)], told=told[view.name]).get_columns()])
    else:
        joined = join_values(rows, moment, views, limits) if views else pl.DataFrame()
    seen = rows.drop(from_views, strict=False).hstack(joined.get_columns()) if views else rows  # a view's feature, where a column has its name too
    columns: list[pl.Series] = []
    own = rows.select(_as_feature(i, rows[i].dtype) for i in dict.fromkeys(model.inputs) if isinstance(i, str))  # at once: there may be thousands
    for item in model.inputs:
        if isinstance(item, Derived):
            made = derived.column(item, seen, where)
            columns.append(made.fill_null("") if made.dtype == pl.String else made)
        else:
            columns.append(own[item])
    return pl.DataFrame(columns).hstack(joined.select(_as_feature(f, dtype) for f, dtype in joined.schema.items()).get_columns())


def schema_of(values: Values) -> pl.Schema:
    """The columns of a history and their types."""
    return values.schema if isinstance(values, pl.DataFrame) else pl.scan_parquet(values, glob=False).collect_schema()


def signature(model: Model, rows: pl.DataFrame, views: Sequence[tuple[View, Values]]) -> tuple[list[Field], list[Field]]:
    """(what a request may carry, the features in the order of the model's matrix)."""
    contract = model.rows.contract.columns if model.rows.contract else {}

    def field(column: str) -> Field:
        declared = contract.get(column)
        if declared:
            return Field(column, declared.kind, declared.nullable, ge=declared.ge, le=declared.le)
        return Field(column, _kind(rows[column].dtype))

    request: dict[str, Field] = {}
    features: list[Field] = []
    from_views = {f for v, _ in views for f in v.feature_names()}
    for item in model.inputs:
        for column in [c for c in item.columns if c not in from_views] if isinstance(item, Derived) else (item,):
            request[column] = field(column)
        if isinstance(item, Derived):
            features.append(Field(item.name, item.kind, source="derived", rule=item.rule))
        else:
            declared = field(item)
            features.append(Field(item, "category" if declared.kind in ("category", "text") else "number", declared.nullable))
    for view, values in views:
        for column in view.entity:
            request.setdefault(column, field(column))
        for name, kind in feature_kinds(view, schema_of(values)).items():
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
