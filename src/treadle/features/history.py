"""A view's history, and joining it to rows as it was KNOWN at each row's moment.

A history is a frame with the entity columns, `AT` (the moment from which a value is known), `UNTIL` (the moment from which it is no
longer valid, exclusive; null for never) and the features. What was not known by a row's moment is never joined to it, and no row is
ever lost: a row without a known, valid value gets nulls.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import polars as pl

from treadle.core.declare.data import View
from treadle.core.errors import DataError, ProjectError

AT, UNTIL = "__at__", "__until__"
_ROW = "__join_row__"
MOST_STEPS = 64


def history(view: View, source: pl.DataFrame) -> pl.DataFrame:
    """All values of a view over all of its source, sorted by AT.

    Raises: ProjectError when the view's function looks ahead or lacks a column; DataError when the source lacks one.
    """
    for column in view.entity:
        if column not in source.columns:
            raise DataError(
                f"The entity column {column!r} is missing.", where=f"view {view.name!r} ({view.place})", hint=f"It has: {source.columns}."
            )
    if view.aggregates:
        return _windows(view, source)
    if view.function is not None:
        result = compute(view, source)
        look_ahead(view, source, result)
        return _latest(view, result)
    missing = [c for c in (*view.features, *filter(None, (view.source.event_time, view.source.known_time))) if c not in source.columns]
    if missing:
        raise DataError(f"Column {missing[0]!r} is missing.", where=f"view {view.name!r} ({view.place})", hint=f"It has: {source.columns}.")
    return _latest(view, source)


def join(rows: pl.DataFrame, moment: str, view: View, values: pl.DataFrame) -> pl.DataFrame:
    """`rows` with the view's features as they were known at column `moment`; same rows, same order."""
    features = list(view.feature_names())
    left = rows.select(moment, *view.entity).with_row_index(_ROW).sort(moment)
    right = values.select(*view.entity, AT, UNTIL, *features).sort(AT, maintain_order=True)  # of values known at once the last one counts
    joined = left.join_asof(right, left_on=moment, right_on=AT, by=list(view.entity), strategy="backward", check_sortedness=False)
    valid = pl.col(UNTIL).is_null() | (pl.col(moment) < pl.col(UNTIL))
    found = joined.with_columns(pl.when(valid).then(pl.col(f)).alias(f) for f in features).sort(_ROW).select(features)
    return rows.hstack(found.get_columns())


def known_at(view: View, values: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """The one value of each entity that is known and valid at `moment`: what an online store holds then."""
    known = values.filter(pl.col(AT) <= moment).sort(AT, maintain_order=True).unique(list(view.entity), keep="last", maintain_order=True)
    return known.filter(pl.col(UNTIL).is_null() | (pl.col(UNTIL) > moment))


def _windows(view: View, source: pl.DataFrame) -> pl.DataFrame:
    """Aggregates on a grid: the value at g is over rows whose truth became known in (g - window, g]; it holds until the next grid point.

    Each row is repeated for the window/every grid points it counts for. (Polars' group_by_dynamic is not used: it leaves out the windows that
    begin before an entity's first row, and so says nothing of it for a whole window.)
    """
    assert view.window is not None
    assert view.every is not None
    known = view.source.known_time or view.source.event_time
    assert known is not None
    where = f"view {view.name!r} ({view.place})"
    steps, rest = divmod(view.window, view.every)
    if rest != timedelta(0) or steps > MOST_STEPS:
        raise ProjectError(
            f"window={view.window} is not a multiple of every={view.every}, at most {MOST_STEPS} times it.",
            where=where,
            hint="For example window='7d', every='6h'.",
        )
    needed = sorted({*view.entity, known, *(c for e in view.aggregates.values() for c in e.meta.root_names())})
    missing = [c for c in needed if c not in source.columns]
    if missing:
        raise DataError(f"Column {missing[0]!r} is missing.", where=where, hint=f"It has: {source.columns}.")
    every = int(view.every.total_seconds() * 1_000_000)
    micros = pl.col(known).cast(pl.Int64)
    first = ((micros + (every - 1)) // every) * every  # the first grid point at or after the moment it became known
    spread = (
        source.lazy()
        .select(needed)
        .filter(pl.col(known).is_not_null())
        .with_columns(pl.concat_list([first + i * every for i in range(steps)]).alias(AT))
    )
    grid = spread.explode(AT).group_by(*view.entity, AT).agg(**dict(view.aggregates)).collect()
    at = pl.col(AT).cast(pl.Datetime("us", "UTC"))
    return grid.with_columns(at.alias(AT), (at + view.every).alias(UNTIL)).sort(AT, *view.entity)


def _latest(view: View, frame: pl.DataFrame) -> pl.DataFrame:
    """The latest value by event time among those known: a row that was already overtaken when it became known is never the latest."""
    event = view.source.event_time or view.source.known_time
    known = view.source.known_time or event
    features, entity = list(view.feature_names()), list(view.entity)
    if event is None or known is None:  # facts without a time hold always
        epoch = pl.lit(0).cast(pl.Datetime("us", "UTC"))
        return frame.unique(entity, keep="last", maintain_order=True).select(
            *entity, epoch.alias(AT), pl.lit(None, pl.Datetime("us", "UTC")).alias(UNTIL), *features
        )
    ordered = frame.filter(pl.col(known).is_not_null() & pl.col(event).is_not_null()).sort(known, event, maintain_order=True)
    current = ordered.filter(pl.col(event) >= pl.col(event).cum_max().over(entity))
    until = pl.col(event) + view.ttl + timedelta(microseconds=1) if view.ttl else pl.lit(None, pl.Datetime("us", "UTC"))
    return current.select(*entity, pl.col(known).alias(AT), until.alias(UNTIL), *features)


def compute(view: View, source: pl.DataFrame) -> pl.DataFrame:
    """What a view's function makes of the source. Raises ProjectError when it fails or lacks a column."""
    assert view.function is not None
    where = f"view {view.name!r} ({view.place})"
    try:
        result: pl.DataFrame = view.function(source.lazy()).lazy().collect()
    except Exception as error:
        raise ProjectError(f"{view.function.__name__} raised {type(error).__name__}: {error}", where=where) from error
    times = [t for t in (view.source.event_time, view.source.known_time) if t]
    missing = [c for c in (*view.entity, *times, *view.feature_names()) if c not in result.columns]
    if missing:
        raise ProjectError(f"{view.function.__name__} returned no column {missing[0]!r}.", where=where, hint=f"It returned: {result.columns}.")
    return result


def look_ahead(view: View, source: pl.DataFrame, whole: pl.DataFrame, cuts: int = 3) -> None:
    """Raise ProjectError if a view's function used rows from after the moment they are for.

    The function is run again on history cut off at a few moments; what it says of the time before a cut must be what it said of it
    with everything in sight. (Necessary, and in practice telling; not a proof for moments that were not tried.)
    """
    known = view.source.known_time or view.source.event_time
    if known is None or source.height < 10:
        return
    moments = source[known].drop_nulls().sort()
    features = [*view.entity, known, *view.feature_names()]
    for i in range(1, cuts + 1):
        cut = moments[len(moments) * i // (cuts + 1)]
        then = compute(view, source.filter(pl.col(known) <= cut)).filter(pl.col(known) <= cut).select(features).sort(features)
        now = whole.filter(pl.col(known) <= cut).select(features).sort(features)
        if not then.equals(now):
            raise ProjectError(
                f"{view.function.__name__ if view.function else view.name} looks ahead: "
                f"its values for the time before {cut} change when later rows are taken away.",
                where=f"view {view.name!r} ({view.place})",
                hint="Use only earlier rows for each row, for example rolling or cumulative expressions over the known time.",
            )


def feature_kinds(view: View, values: pl.DataFrame) -> Mapping[str, str]:
    """Feature name to 'number' or 'category'."""
    return {name: "number" if values.schema[name].is_numeric() or values.schema[name] == pl.Boolean else "category" for name in view.feature_names()}
