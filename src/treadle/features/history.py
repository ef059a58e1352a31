"""A view's history, and joining it to rows as it was KNOWN at each row's moment.

A history is a frame with the entity columns, `AT` (the moment from which a value is known), `UNTIL` (the moment from which it is no
longer valid, exclusive; null for never) and the features. What was not known by a row's moment is never joined to it, and no row is
ever lost: a row without a known, valid value gets nulls.

A fact that is corrected is there several times: a data set that keeps its corrections has its known time in its key, and the rest of the
key names the fact. At any moment the version known last counts, and no other (docs/decisions/0011).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.data import Dataset, View
from treadle.core.errors import DataError, ProjectError

AT, UNTIL = "__at__", "__until__"
EVENT = "__event__"  # of views without windows: the latest event known of the entity at AT; by it an online store knows what comes late
_ROW, _FIRST, _NEXT, _SINCE, _LIMIT, _MOMENT = "__join_row__", "__first__", "__next__", "__since__", "__limit__", "__asked__"
_TIME = pl.Datetime("us", "UTC")
MOST_STEPS = 64
_NEVER = 2**63 - 1


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
    return _latest(view, source, fact_of(view.source))


def fact_of(dataset: Dataset) -> tuple[str, ...]:
    """The columns that name one fact through all its corrections: the key without the known time. Empty where each row is a fact of its own."""
    known = dataset.known_time
    if known is None or known == dataset.event_time or known not in dataset.key:
        return ()
    return tuple(c for c in dataset.key if c != known)


def join(rows: pl.DataFrame, moment: str, view: View, values: pl.DataFrame) -> pl.DataFrame:
    """`rows` with the view's features as they were known at column `moment`; same rows, same order."""
    return rows.hstack(join_all(rows, moment, [(view, values)]).get_columns())


def join_all(rows: pl.DataFrame, moment: str, views: Sequence[tuple[View, pl.DataFrame]], *, told: str = "") -> pl.DataFrame:
    """The features of several views as they were known at column `moment`, in the order of `rows`.

    Args:
        told: a column of moments, none after its `moment`: what became known later than it is not looked at (as in a store that was filled then).
    """
    entities = list(dict.fromkeys(c for view, _ in views for c in view.entity))
    given = rows.select(pl.col(told or moment).alias(_LIMIT), *entities)
    places: np.ndarray | None = None
    left = given
    if not given[_LIMIT].is_sorted():  # one sort for all views
        left = given.with_row_index(_ROW).sort(_LIMIT)
        places = left[_ROW].to_numpy()
    left = left.with_columns(pl.col(_LIMIT).set_sorted())
    asked = rows[moment].cast(pl.Int64).fill_null(0).to_numpy() if any(v[UNTIL].null_count() < v.height for _, v in views) else None
    columns: list[pl.Series] = []
    for view, values in views:
        features, entity = list(view.feature_names()), list(view.entity)
        right = values if values[AT].is_sorted() else values.sort(AT, maintain_order=True)  # of values known at once the last one counts
        numbered = right.select(*entity, pl.col(AT).set_sorted()).with_row_index(_ROW)
        joined = left.select(_LIMIT, *entity).join_asof(
            numbered, left_on=_LIMIT, right_on=AT, by=entity, strategy="backward", check_sortedness=False, coalesce=True
        )[_ROW]  # fmt: skip
        # Only the place of each row's value is carried back to the rows' own order; the values themselves are fetched once.
        row = joined.fill_null(right.height).to_numpy()
        if places is not None:
            found = np.empty(len(row), row.dtype)
            found[places] = row
            row = found
        if asked is not None and right[UNTIL].null_count() < right.height:
            # A moment at the end of a value's life, or after it, does not get it.
            ends = np.append(right[UNTIL].cast(pl.Int64).fill_null(_NEVER).to_numpy(), _NEVER)
            row = np.where(asked >= ends[row], row.dtype.type(right.height), row)
        at = pl.Series(row)
        at = at.set(at == right.height, None)
        columns += right.select(features)[at].get_columns()
    return pl.DataFrame(columns)


def known_at(view: View, values: pl.DataFrame, moment: datetime) -> pl.DataFrame:
    """The one value of each entity that is known and valid at `moment`: what an online store holds then."""
    known = values.filter(pl.col(AT) <= moment).sort(AT, maintain_order=True).unique(list(view.entity), keep="last", maintain_order=True)
    return known.filter(pl.col(UNTIL).is_null() | (pl.col(UNTIL) > moment))


def _windows(view: View, source: pl.DataFrame) -> pl.DataFrame:
    """Aggregates on a grid: the value at g is over the facts that became known in (g - window, g]; it holds until the next grid point.

    Each row is repeated for the window/every grid points it counts for. (Polars' group_by_dynamic is not used: it leaves out the windows that
    begin before an entity's first row, and so says nothing of it for a whole window.) A fact that was corrected belongs to the windows in
    which it first became known, with the values known at g.
    """
    assert view.every is not None
    known = view.source.known_time or view.source.event_time
    assert known is not None
    where = f"view {view.name!r} ({view.place})"
    spans = {name: view.windows.get(name, view.window) for name in view.aggregates}
    for window in dict.fromkeys(spans.values()):
        assert window is not None
        steps, rest = divmod(window, view.every)
        if rest != timedelta(0) or steps > MOST_STEPS:
            raise ProjectError(
                f"window={window} is not a multiple of every={view.every}, at most {MOST_STEPS} times it.",
                where=where,
                hint="For example window='7d', every='6h'.",
            )
    needed = sorted({*view.entity, known, *(c for e in view.aggregates.values() for c in e.meta.root_names())})
    missing = [c for c in needed if c not in source.columns]
    if missing:
        raise DataError(f"Column {missing[0]!r} is missing.", where=where, hint=f"It has: {source.columns}.")
    fact = [c for c in fact_of(view.source) if c in source.columns] if set(fact_of(view.source)) <= set(source.columns) else []
    facts = source.select(sorted({*needed, *fact})).filter(pl.col(known).is_not_null())
    corrected = bool(fact) and bool(facts.select(pl.struct(fact).is_duplicated().any()).item())
    micros = pl.col(known).cast(pl.Int64)
    facts = facts.with_columns(micros.alias(_FIRST))
    if corrected:
        told = facts.with_row_index(_ROW).sort(known, maintain_order=True)
        facts = told.with_columns(
            pl.col(_FIRST).first().over(fact), pl.col(_FIRST).shift(-1).over(fact).alias(_NEXT), pl.col(_FIRST).alias(_SINCE)
        ).sort(_ROW).drop(_ROW)  # fmt: skip
    every = int(view.every.total_seconds() * 1_000_000)
    grids: list[pl.DataFrame] = []
    for window in dict.fromkeys(spans.values()):
        assert window is not None
        grids.append(_grid(view, facts, {n: e for n, e in view.aggregates.items() if spans[n] == window}, window // view.every, every, corrected))
    grid = grids[0] if len(grids) == 1 else _side_by_side(grids, [*view.entity, AT])
    at = pl.col(AT).cast(_TIME)
    return grid.with_columns(at.alias(AT), (at + view.every).alias(UNTIL)).select(*view.entity, AT, UNTIL, *view.aggregates).sort(AT, *view.entity)


def _grid(view: View, facts: pl.DataFrame, aggregates: Mapping[str, pl.Expr], steps: int, every: int, corrected: bool) -> pl.DataFrame:
    """The aggregates of one window at every grid point where it holds a fact."""
    first = ((pl.col(_FIRST) + (every - 1)) // every) * every  # the first grid point at or after the moment it became known
    spread = facts.lazy().with_columns(pl.concat_list([first + i * every for i in range(steps)]).alias(AT)).explode(AT)
    if corrected:  # each version counts from when it was known until the next one was
        spread = spread.filter((pl.col(AT) >= pl.col(_SINCE)) & ((pl.col(AT) < pl.col(_NEXT)) | pl.col(_NEXT).is_null()))
    return spread.group_by(*view.entity, AT).agg(**dict(aggregates)).collect()


def _side_by_side(grids: Sequence[pl.DataFrame], on: list[str]) -> pl.DataFrame:
    """Grids of several windows as one: a row wherever one of them has one."""
    whole = pl.concat([g.select(on) for g in grids]).unique()
    for grid in grids:
        whole = whole.join(grid, on=on, how="left", nulls_equal=True)
    return whole


def _latest(view: View, frame: pl.DataFrame, fact: Sequence[str] = ()) -> pl.DataFrame:
    """The latest value by event time among those known: a row that was already overtaken when it became known is never the latest."""
    event = view.source.event_time or view.source.known_time
    known = view.source.known_time or event
    features, entity = list(view.feature_names()), list(view.entity)
    if event is None or known is None:  # facts without a time hold always
        epoch = pl.lit(0).cast(_TIME)
        return frame.unique(entity, keep="last", maintain_order=True).select(
            *entity, epoch.alias(AT), pl.lit(None, _TIME).alias(UNTIL), *features
        )
    until = pl.col(event) + view.ttl + timedelta(microseconds=1) if view.ttl else pl.lit(None, _TIME)
    told = _told(frame, known)
    moved = _moved(told, known, [event, *entity], fact)
    if moved is None:
        told = _told(told, event)
        current = told if told[known].is_sorted() and told[event].is_sorted() else told[_in_turn(told, known, event, entity)]
        return current.select(*entity, pl.col(known).alias(AT), until.alias(UNTIL), *features, pl.col(event).alias(EVENT))
    # The entities of facts whose correction moved them, in time or to another entity, are walked through one change after the other.
    calm = _latest(view, told.join(moved, on=entity, how="anti", nulls_equal=True))
    ordered = told.join(moved, on=entity, how="semi", nulls_equal=True).sort(known, event, maintain_order=True, nulls_last=False)
    positions, at, empty = _walk(ordered, known, event, entity, fact)
    walked = ordered[positions].with_columns(pl.Series(AT, at, dtype=ordered.schema[known]), pl.Series(_NEXT, empty))
    gone = pl.col(_NEXT)  # nothing is known of the entity any more
    changed = walked.select(
        *entity, AT, pl.when(gone).then(pl.col(AT)).otherwise(until).alias(UNTIL), *[pl.when(~gone).then(pl.col(f)).alias(f) for f in features],
        pl.col(event).cum_max().forward_fill().over(entity).fill_null(pl.lit(0).cast(_TIME)).alias(EVENT),
    )
    return pl.concat([calm, changed], how="vertical_relaxed").sort(AT, maintain_order=True)


def _told(frame: pl.DataFrame, time: str) -> pl.DataFrame:
    return frame.filter(pl.col(time).is_not_null()) if frame[time].null_count() else frame


def _in_turn(told: pl.DataFrame, known: str, event: str, entity: list[str]) -> pl.Series:
    """The places of the rows that were the latest of their entity when they became known, in the order in which they did."""
    if told[known].equals(told[event]):  # each became known when it happened: none was overtaken before
        return told.select(pl.arg_sort_by(known, maintain_order=True)).to_series()
    # Only the columns that decide are put in order; the features are fetched once, by the caller.
    order = told.select(*entity, pl.col(known).alias(_SINCE), pl.col(event).alias(_FIRST)).with_row_index(_ROW)
    order = order.sort(_SINCE, _FIRST, maintain_order=True)
    if not order[_FIRST].is_sorted():  # some became known out of order
        order = order.filter(pl.col(_FIRST) >= pl.col(_FIRST).cum_max().over(entity))
    return order[_ROW]


def _moved(told: pl.DataFrame, known: str, place: list[str], fact: Sequence[str]) -> pl.DataFrame | None:
    """The entities that a fact left or came to, or in which it changed its event time, by a correction; None when there are none."""
    entity = place[1:]
    if not fact or not set(fact) <= set(told.columns) or not told.select(pl.struct(fact).is_duplicated().any()).item():
        return None
    twice = told.filter(pl.struct(fact).is_duplicated())
    moving = twice.filter(pl.struct(place).n_unique().over(fact) > 1)
    return moving.select(entity).unique() if moving.height else None


def _walk(ordered: pl.DataFrame, known: str, event: str, entity: list[str], fact: Sequence[str]) -> tuple[list[int], list[Any], list[bool]]:
    """Which row is the latest of its entity from which moment on: (row of `ordered`, moment, whether there is none any more)."""
    facts, places = list(ordered.select(fact).iter_rows()), list(ordered.select(entity).iter_rows())
    knowns, events = ordered[known].to_list(), ordered[event].cast(pl.Int64).to_list()
    current: dict[tuple[Any, ...], int] = {}
    heaps: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    positions: list[int] = []
    at: list[Any] = []
    empty: list[bool] = []
    for moment, group in groupby(range(ordered.height), key=knowns.__getitem__):
        touched: dict[tuple[Any, ...], int] = {}
        for i in group:
            before = current.get(facts[i])
            if before is not None:
                touched[places[before]] = before
            current[facts[i]] = i
            touched[places[i]] = i
            if events[i] is not None:
                heapq.heappush(heaps.setdefault(places[i], []), (-events[i], -i))
        for place, example in touched.items():
            heap = heaps.setdefault(place, [])
            while heap and current[facts[-heap[0][1]]] != -heap[0][1]:
                heapq.heappop(heap)
            positions.append(-heap[0][1] if heap else example)
            at.append(moment)
            empty.append(not heap)
    return positions, at, empty


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


def feature_kinds(view: View, types: Mapping[str, pl.DataType]) -> Mapping[str, str]:
    """Feature name to 'number' or 'category', by the columns of the view's history."""
    return {name: "number" if types[name].is_numeric() or types[name] == pl.Boolean else "category" for name in view.feature_names()}
