"""The one value of each entity that is known at a moment, from any number of rows, in the memory that the entities take.

What `history` says of a moment, without the history: rows are read in batches, and of each entity only the row that is its latest is kept. A view
over a data set that keeps its corrections, and one that a function computes, need their whole source in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import polars as pl

from treadle.core.declare.data import View
from treadle.core.errors import DataError
from treadle.features.history import AT, EVENT, UNTIL, compute, fact_of, history, known_at

BATCH = 200_000
_WAITING = 500_000  # rows of batches that are kept before they are put together again
_TIME = pl.Datetime("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def incremental(view: View) -> bool:
    """Whether rows that became known later are enough to bring values forward: not where values are of windows, a function, or corrected facts."""
    return not view.aggregates and view.function is None and not fact_of(view.source)


def latest(
    view: View, rows: pl.LazyFrame, moment: datetime, *, since: datetime | None = None, progress: Callable[[int], None] = lambda rows: None
) -> pl.DataFrame:
    """Values in the columns of a history, at most one an entity: those known and valid at `moment`.

    Args:
        rows: the view's source, or for an incremental view those of its rows that are new.
        since: leave out rows that were known then already; only for a view that is `incremental`.
        progress: told how many rows were read so far.
    Raises: DataError when the source lacks a column, and what `history` raises.
    """
    event, known = view.source.event_time or view.source.known_time, view.source.known_time or view.source.event_time
    schema = rows.collect_schema()
    if since is not None:
        if not incremental(view):
            raise ValueError(f"view {view.name!r} is not incremental")
        rows = rows.filter(pl.col(known) > since) if known else rows
    if view.aggregates:
        assert known is not None
        return _windows(view, rows, known, moment)
    if known is not None:
        rows = rows.filter(pl.col(known) <= moment)
    if view.function is not None:
        result = compute(view, rows.collect())
        progress(result.height)
        return _valid(_shaped(view, _reduced(view, iter([result]), event, known), event, known), moment)
    needed = list(dict.fromkeys([*view.entity, *view.features, *filter(None, (event, known)), *fact_of(view.source)]))
    missing = next((c for c in needed if c not in schema), None)
    if missing is not None:
        raise DataError(f"Column {missing!r} is missing.", where=f"view {view.name!r} ({view.place})", hint=f"It has: {schema.names()}.")
    rows = rows.select(needed)
    if fact_of(view.source):
        whole = rows.collect(engine="streaming")
        progress(whole.height)
        return known_at(view, history(view, whole), moment)

    def batches() -> Iterator[pl.DataFrame]:
        read = 0
        for batch in rows.collect_batches(chunk_size=BATCH, maintain_order=True):
            yield batch
            read += batch.height
            progress(read)

    return _valid(_shaped(view, _reduced(view, batches(), event, known), event, known), moment)


def _reduced(view: View, batches: Iterator[pl.DataFrame], event: str | None, known: str | None) -> pl.DataFrame:
    """Of each entity the row of the latest event, of several of one event the one known last, of several of those the last."""
    entity = list(view.entity)

    def reduce(frame: pl.DataFrame) -> pl.DataFrame:
        if event is not None and known is not None:
            frame = frame.filter(pl.col(event).is_not_null(), pl.col(known).is_not_null())
            for time in dict.fromkeys((event, known)):  # finding the largest costs less than putting all in order
                frame = frame.filter(pl.col(time) == pl.col(time).max().over(entity))
                if frame.select(entity).n_unique() == frame.height:
                    return frame
        return frame.unique(entity, keep="last", maintain_order=True)

    kept: pl.DataFrame | None = None
    waiting: list[pl.DataFrame] = []
    for batch in batches:
        waiting.append(reduce(batch))
        if kept is None or sum(frame.height for frame in waiting) > _WAITING:
            kept = reduce(pl.concat([*([] if kept is None else [kept]), *waiting]))
            waiting = []
    parts = [*([] if kept is None else [kept]), *waiting]
    return reduce(pl.concat(parts)) if parts else pl.DataFrame()


def _shaped(view: View, frame: pl.DataFrame, event: str | None, known: str | None) -> pl.DataFrame:
    """Rows of the source in the columns of a history."""
    features, entity = list(view.feature_names()), list(view.entity)
    never = pl.lit(None, _TIME)
    if not frame.width:
        times = {AT: _TIME, UNTIL: _TIME, EVENT: _TIME}
        return pl.DataFrame(schema={**dict.fromkeys([*entity, *features], pl.Null), **times})
    if event is None or known is None:
        return frame.select(*entity, pl.lit(0).cast(_TIME).alias(AT), never.alias(UNTIL), *features)
    until = pl.col(event) + view.ttl + timedelta(microseconds=1) if view.ttl else never
    return frame.select(*entity, pl.col(known).alias(AT), until.alias(UNTIL), *features, pl.col(event).alias(EVENT))


def _valid(values: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    return values.filter(pl.col(UNTIL).is_null() | (pl.col(UNTIL) > moment))


def _windows(view: View, rows: pl.LazyFrame, known: str, moment: datetime) -> pl.DataFrame:
    """The aggregates of the last point of the grid that is not after `moment`."""
    assert view.every is not None
    every = view.every // timedelta(microseconds=1)
    point = (moment - _EPOCH) // timedelta(microseconds=1) // every * every
    at = _EPOCH + timedelta(microseconds=point)
    if fact_of(view.source):
        return history(view, rows.filter(pl.col(known) <= at).collect()).filter(pl.col(AT) == at)
    entity, parts = list(view.entity), []
    spans = {name: view.windows.get(name, view.window) for name in view.aggregates}
    for window in dict.fromkeys(spans.values()):
        assert window is not None
        inside = rows.filter((pl.col(known) > at - window) & (pl.col(known) <= at))
        wanted = {name: e for name, e in view.aggregates.items() if spans[name] == window}
        parts.append(inside.group_by(entity).agg(**wanted).collect(engine="streaming"))
    grid = parts[0]
    if len(parts) > 1:
        grid = pl.concat([part.select(entity) for part in parts]).unique()
        for part in parts:
            grid = grid.join(part, on=entity, how="left", nulls_equal=True)
    moments = (pl.lit(at, _TIME).alias(AT), pl.lit(at + view.every, _TIME).alias(UNTIL))
    return grid.select(*entity, *moments, *view.aggregates)
