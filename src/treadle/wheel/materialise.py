"""The online store brought to what is known now: from the newest version of a view's source, or from rows as they arrive.

Nothing that is there is taken away first, and no value is replaced by an older one, so requests are answered meanwhile. Whatever is cut short is done
again: what was written is not written twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import polars as pl

from treadle.assemble import Workspace
from treadle.core.canonical import digest
from treadle.core.clock import iso, parse_time
from treadle.core.declare.data import Dataset, View
from treadle.core.declare.source import Source
from treadle.core.errors import Conflict, NotFound, Refused, UsageError
from treadle.core.records import Point, Record, Ref
from treadle.data import json_rows, sources, suppressed, versions
from treadle.data.contracts import short
from treadle.features import latest as latest_values
from treadle.features.online import packed
from treadle.features.rows import Values
from treadle.monitoring import alarms, telling
from treadle.pipelines.meaning import meaning
from treadle.ports.ledger import Ledger
from treadle.ports.online import Key, Value
from treadle.registry import packages, promote
from treadle.registry import versions as registry
from treadle.wheel import steps as work
from treadle.wheel.turn import data_step, in_memory, view_step

KIND = "online_view"
STREAM = "online_stream"
FRESHNESS = "online_freshness"  # of each view that was once too old: whether it is, and since when
CHUNK = 10_000  # values a write: what a reader may wait for
_EPOCH = parse_time("1970-01-01")


@dataclass(frozen=True)
class Filled:
    """What was done for a view: how many entities had a value, how many of those were newer than the store's, from how many rows, and from which."""

    view: str
    moment: datetime
    entities: int
    written: int
    removed: int
    rows: int
    how: str


def materialise(
    ws: Workspace, view: View, *, since: datetime | None = None, until: datetime | None = None, version: versions.Version | None = None,
    exact: bool = False, instead_of: str = "", progress: Callable[[int], None] = lambda rows: None,
) -> Filled:  # fmt: skip
    """Write the values of a view that are known at `until` (now) and newer than what the store has.

    A view of latest values reads only what is new since the last time: rows that became known, files a new version of the data set brought.

    Args:
        since: only rows that became known after this (to fill in a range).
        version: the version of the source; the one its source gives now, if not given.
        exact: afterwards remove what a fresh store would not have: values of rows that were taken out or changed. Found out by itself when a version
            has changed or removed rows, or the view was declared otherwise.
        instead_of: a model whose deployed versions are about to be replaced, so that they do not count.
    Raises: Refused when a deployed version reads other features under this name.
    """
    moment = until or ws.clock.now()
    taken = version or newest_version(ws, view)
    before = ws.ledger.get(KIND, view.name)
    layout, definition = [list(view.entity), list(view.feature_names())], definition_of(ws, view)
    if before is None or before["layout"] != layout:
        _check_layout(ws, view, instead_of)
    if before is not None and before["layout"] != layout:
        ws.online.clear(view.name)
        before = None
    changed = before is not None and before["definition"] != definition
    rows, how, altered = _rows(ws, view, taken, None if changed or exact or since else before, moment)
    if before is None:
        exact = exact or (since is None and ws.online.count(view.name) > 0)
    exact = since is None and (exact or changed or altered)
    if exact:
        rows, how = [(ws.tables.scan(taken.address), None)], "all rows, and what a fresh store would not have is removed"
    read = 0
    entities = written = removed = 0
    for scan, newer_than in rows:
        counted = [0]

        def count(so_far: int, counted: list[int] = counted, done: int = read) -> None:
            counted[0] = so_far
            progress(done + so_far)

        limits = [m for m in (newer_than, since) if m is not None]
        values = latest_values.latest(view, scan, moment, since=max(limits) if limits else None, progress=count)
        read += counted[0]
        entities += values.height
        # A store may drop a value when the wall clock says so: right for the present, not for a moment that is asked about.
        written += _write(ws, packed(view, values, expire=until is None))
        if before is None and written > CHUNK:
            ws.online.compact()
        if exact:
            removed += _remove_others(ws, view, scan, values, moment)
    if since is None and (before is None or parse_time(before["moment"]) <= moment):
        body = {"view": view.name, "layout": layout, "definition": definition, "version": taken.id, "address": taken.address, "moment": iso(moment)}
        ws.ledger.put(KIND, view.name, body)
    note_filled(ws.ledger, [view.name], [moment])
    return Filled(view.name, moment, entities, written, removed, read, how)


def note_filled(ledger: Ledger, views: Iterable[str], moments: Iterable[datetime]) -> None:
    """Record that the online values of views are what is known at each moment: what is served until the next is judged by it (feature_checks.py)."""
    points = []
    for moment in moments:
        micros = (moment - _EPOCH) // timedelta(microseconds=1)
        points += [Point(f"online/{view}", f"filled {moment:%Y-%m-%d}", float(micros), micros // 1_000_000) for view in views]
    ledger.log_points(points)


def newest_version(ws: Workspace, view: View) -> versions.Version:
    """The version of a view's source that there is now: taken, if its source changed."""
    return newest_of(ws, view.source, f"materialise {view.name}", f"online.{view.name}")


def newest_of(ws: Workspace, dataset: Dataset, why: str, scope: str) -> versions.Version:
    """The version of a data set that there is now: taken, if its source changed. `scope`: under which name the run is found again."""
    about = {"project": ws.project.name, "model": "", "as_of": "", "code": {}}
    cause = {"kind": "person", "id": "", "text": why}
    step = f"data:{dataset.name}"
    outcome = ws.runner().run(f"{ws.project.name}.{scope}", [data_step(ws, dataset)], cause=cause, about=about, until=(step,))
    return versions.of(outcome[step])


def histories(ws: Workspace, views: Sequence[View]) -> list[tuple[View, pl.DataFrame]]:
    """The whole history of each view, computed where it is not stored already."""
    return [(view, in_memory(view, values)) for view, values in view_values(ws, views, "histories of the views")[0]]


def view_values(ws: Workspace, views: Sequence[View], why: str) -> tuple[list[tuple[View, Values]], dict[str, versions.Version]]:
    """The history of each view, in a file where it does not fit into memory; and the versions of the data sets they are of, by name."""
    if not views:
        return [], {}
    steps = {f"data:{d.name}": data_step(ws, d) for d in {v.source.name: v.source for v in views}.values()}
    sources = list(steps)
    steps.update({f"view:{view.name}": view_step(ws, view) for view in views})
    about = {"project": ws.project.name, "model": "", "as_of": "", "code": {}}
    cause = {"kind": "person", "id": "", "text": why}
    wanted = tuple(f"view:{view.name}" for view in views)
    outcome = ws.runner().run(f"{ws.project.name}.online", list(steps.values()), cause=cause, about=about, until=(*wanted, *sources))
    taken = {name.partition(":")[2]: versions.of(outcome[name]) for name in sources}
    return [(view, outcome[f"view:{view.name}"]) for view in views], taken


def definition_of(ws: Workspace, view: View) -> str:
    """A digest of all that a view's values depend on, besides its source."""
    return digest([work.declared_view(view), meaning(view.function, [ws.folder]) if view.function else None])


def _rows(
    ws: Workspace, view: View, taken: versions.Version, before: Record | None, moment: datetime
) -> tuple[list[tuple[pl.LazyFrame, datetime | None]], str, bool]:
    """What has to be read: scans with the moment after which their rows are new; how that is called; whether rows were changed or taken out."""
    whole = ws.tables.scan(taken.address)
    if before is None or not latest_values.incremental(view):
        return [(whole, None)], "all rows", False
    known = view.source.known_time or view.source.event_time
    last = parse_time(before["moment"])
    if before["version"] == taken.id and before["address"] == taken.address:
        return ([(whole, last)], "rows known since the last time", False) if known else ([], "nothing new", False)
    altered = _altered(ws, view.source.name, before["version"], taken)
    if altered or not ws.tables.exists(before["address"]):
        return [(whole, None)], "all rows", altered
    old = {str(path) for path in ws.tables.files(before["address"])}
    now = [str(path) for path in ws.tables.files(taken.address)]
    new, shared = [path for path in now if path not in old], [path for path in now if path in old]
    parts: list[tuple[pl.LazyFrame, datetime | None]] = []
    if new:
        parts.append((pl.scan_parquet(new, glob=False), None))
    if shared and known:
        parts.append((pl.scan_parquet(shared, glob=False), last))
    return parts, f"{len(new)} new files of {len(now)}, and rows known since the last time", False


def _altered(ws: Workspace, dataset: str, before: str, taken: versions.Version) -> bool:
    """Whether rows were changed or removed between two versions; yes if the way from one to the other is not on record."""
    at: versions.Version | None = taken
    for _ in range(1000):
        if at is None or at.changed or at.removed:
            return True
        if at.parent == before:
            return False
        record = ws.ledger.get(versions.KIND, at.parent) if at.parent else None
        at = versions.read(record) if record is not None else None
    return True


def _write(ws: Workspace, values: Iterator[tuple[Key, Value]]) -> int:
    written = 0
    while chunk := list(islice(values, CHUNK)):
        written += ws.online.put_many(chunk)
    return written


def _remove_others(ws: Workspace, view: View, scan: pl.LazyFrame, values: pl.DataFrame, moment: datetime) -> int:
    """Remove values that a fresh store would not have. Those of rows that were pushed since, which no version has yet, stay."""
    known = view.source.known_time or view.source.event_time
    newest = scan.filter(pl.col(known) <= moment).select(pl.col(known).max()).collect().item() if known else _EPOCH
    if newest is None:
        return 0
    last = moment if view.aggregates else newest
    bound = (last - _EPOCH) // timedelta(microseconds=1)
    fresh = {key.entity: value for key, value in packed(view, values)}
    wrong = [e for e, held in ws.online.scan(view.name) if held.time <= bound and (e not in fresh or fresh[e][:2] != held[:2])]
    if wrong:
        ws.online.forget(view.name, wrong)
        _write(ws, ((Key(view.name, e), fresh[e]) for e in wrong if e in fresh))
    return sum(e not in fresh for e in wrong)


def _check_layout(ws: Workspace, view: View, instead_of: str) -> None:
    """Refuse to store features under a name under which a version that answers looks for others: it would read one for the other."""
    mine = [list(view.entity), list(view.feature_names())]
    for name in ws.project.models:
        deployed = promote.deployment(name, ws.ledger)
        if deployed is None or name == instead_of:
            continue
        for number in {deployed["champion"], deployed["challenger"]} - {None}:
            version = registry.get(name, int(number), ws.ledger)
            manifest = packages.open_package(version["package"], ws.blobs, ws.shelf)[1]
            theirs = manifest["views"].get(view.name)
            if theirs is not None and [list(theirs["entity"]), list(theirs["features"])] != mine:
                raise Refused(
                    f"View {view.name!r} has other features now than those version {number} of {name!r}, which answers, looks up under its name.",
                    where=view.place, hint=f"Give it another name, for example '{view.name}_2'; or stop the endpoint and deploy with --now.",
                )  # fmt: skip


# --- rows as they arrive


@dataclass(frozen=True)
class Pushed:
    """What became of pushed rows: how many came, were set aside by the contract, and brought a newer value; `refused`: which were, and why."""

    rows: int
    set_aside: int
    written: int
    refused: tuple[tuple[int, str], ...] = ()


def push(ws: Workspace, view: View, rows: pl.DataFrame | Sequence[Mapping[str, Any]]) -> Pushed:
    """Bring the values of a view forward by rows of its source, before any version of the data set has them.

    They go through the same contract and the same definition as those of a version. Pushed twice they change nothing, and a late row does not replace
    a newer one. Values of windows and functions need more than the new rows: `materialise` computes them from the data set. What a dictionary
    does not name is missing.
    Raises: UsageError for such a view, DataError when a frame lacks a column.
    """
    _only_latest(view)
    dataset = view.source
    if not len(rows):
        return Pushed(0, 0, 0)
    frame = rows if isinstance(rows, pl.DataFrame) else _frame(view, rows)
    said = {name: value for name, value in dataset.source.options.items() if name in ("tz", "decimal_comma")}  # times read as in the data set itself
    found = sources.extract(replace(dataset, source=Source("rows", options=said, function=lambda: frame)), ws.folder)
    return _push(ws, view, found, name_rows=True)


def _frame(view: View, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Dictionaries as rows, with every column that the view and its source need."""
    dataset = view.source
    frame = json_rows.frame([dict(row) for row in rows])
    columns = dataset.contract.columns if dataset.contract else {}
    needed = dict.fromkeys([*dataset.key, *columns, *filter(None, (dataset.event_time, dataset.known_time)), *view.entity, *view.features])
    frame = frame.with_columns(pl.col(pl.Null).cast(pl.String)) if frame.width else pl.DataFrame({"": [None] * len(rows)})
    return frame.with_columns(pl.lit(None, pl.String).alias(name) for name in needed if name not in frame.columns)


def follow(ws: Workspace, view: View, tell: Callable[[Pushed], None] = lambda pushed: None) -> Pushed:
    """Push what a view's source has since the last time: a stream, a table with a watermark, a file that grew.

    How far it was read is recorded once the values are stored: a process that is killed between the two reads those rows again, and none is lost.
    """
    _only_latest(view)
    total = Pushed(0, 0, 0)
    while True:
        record = ws.ledger.get(STREAM, view.name)
        found = sources.extract(view.source, ws.folder, record["position"] if record else None, ws.reach)
        pushed = _push(ws, view, found)
        if record is None or record["position"] != found.position:
            ws.ledger.put(STREAM, view.name, {"view": view.name, "position": found.position}, expect=record.version if record else 0)
        total = Pushed(total.rows + pushed.rows, total.set_aside + pushed.set_aside, total.written + pushed.written)
        tell(total)
        if not found.more:
            return total


def _push(ws: Workspace, view: View, found: sources.Extract, *, name_rows: bool = False) -> Pushed:
    if not found.frame.height:
        return Pushed(0, 0, 0)
    now = ws.clock.now()
    erased = suppressed.known(ws.ledger, ws.settings.home)
    passed = versions.sift(found.frame, found.unparsed, view.source, ws.ledger, now, erased)
    values = latest_values.latest(view, passed.good.lazy(), now)
    written = _write(ws, packed(view, values, expire=True))
    note_filled(ws.ledger, [view.name], [now])
    return Pushed(found.frame.height, passed.sorted_out.bad.height, written, _refused(view, found.frame, passed, now) if name_rows else ())


def _refused(view: View, frame: pl.DataFrame, passed: versions.Taken, now: datetime) -> tuple[tuple[int, str], ...]:
    """Rows that could bring no value, by their number: those that break the contract, that name no entity, or that nobody can know yet."""
    reasons = dict(zip(passed.bad, passed.sorted_out.bad[:, -1].to_list(), strict=True))
    known = view.source.known_time or view.source.event_time
    wrong = [(pl.col(name).is_null(), f"{name} is missing") for name in dict.fromkeys([*view.entity, *([known] if known else [])])]
    if known:
        wrong.append((pl.col(known) > now, f"{known} is in the future: it is not known yet"))
    for condition, reason in wrong:
        for row in frame.select(condition.fill_null(False).arg_true()).to_series().to_list():
            reasons.setdefault(row, reason)
    return tuple(sorted(reasons.items()))


def _only_latest(view: View) -> None:
    if not latest_values.incremental(view):
        what = "windows" if view.aggregates else "a function" if view.function else "facts that are corrected"
        raise UsageError(
            f"View {view.name!r} is of {what}: its values cannot be told from new rows alone.", where=view.place,
            hint=f"Run: treadle materialise {view.name}",
        )


# --- how fresh it is


@dataclass(frozen=True)
class Standing:
    """A view in the online store. `age`: seconds since its newest value became known; `limit`: seconds it may be, if the view says."""

    view: str
    entities: int
    newest: datetime | None
    age: float | None
    limit: float | None

    @property
    def stale(self) -> bool:
        return self.age is not None and self.limit is not None and self.age > self.limit


def limit_of(view: View) -> timedelta | None:
    """How old the newest value of a view may be: what it declares; else its ttl, after which nobody is told it; two steps of the grid for windows."""
    return view.fresh or view.ttl or (2 * view.every if view.every is not None else None)


def standing(ws: Workspace, view: View) -> Standing:
    """How a view stands in the online store."""
    newest, limit = ws.online.newest(view.name), limit_of(view)
    at = None if newest is None else _EPOCH + timedelta(microseconds=newest)
    timeless = not (view.source.known_time or view.source.event_time)
    age = None if at is None or timeless else (ws.clock.now() - at).total_seconds()
    return Standing(view.name, ws.online.count(view.name), at, age, limit.total_seconds() if limit else None)


def note_stale(ws: Workspace, views: Iterable[View]) -> list[Standing]:
    """Record which views' newest values are too old, and which are no longer: an event each time that changes, and one alarm to the view's owner,
    which ends when the values are fresh again. Returns those that are too old."""
    looked = [(view, standing(ws, view)) for view in views]
    for view, s in looked:
        with suppress(Conflict):  # somebody else is doing just this
            _note_freshness(ws, view, s)
    for state in ws.ledger.find(FRESHNESS, {"stale": True}):
        if state["view"] not in ws.project.views:
            with suppress(Conflict):
                _fresh_again(ws, state, "the project declares no such view any more")
    if alarms.about_data(ws.ledger, ws.clock):
        telling.deliver(ws.ledger, ws.notifiers)
    return [s for _, s in looked if s.stale]


def _note_freshness(ws: Workspace, view: View, s: Standing) -> None:
    state = ws.ledger.get(FRESHNESS, view.name)
    was = state is not None and bool(state["stale"])
    if was and state is not None and not s.stale and s.newest is not None:
        _fresh_again(ws, state, f"the newest value is of {s.newest:%Y-%m-%d %H:%M} UTC" if s.limit else "the view says no longer how old it may be")
    elif s.stale and s.newest is not None and s.limit is not None:
        told = {"newest": iso(s.newest), "age": s.age, "limit": s.limit}
        if was and state is not None and {"newest": state["newest"], "limit": state["limit"]} == {"newest": told["newest"], "limit": s.limit}:
            return
        now, limit = iso(ws.clock.now()), short(timedelta(seconds=s.limit))
        sentence = f"The newest online value of view {view.name!r} is of {s.newest:%Y-%m-%d %H:%M} UTC; it may be {limit} old."
        body = {"view": view.name, "dataset": view.source.name, "owner": view.owner, "stale": True, "at": now, "sentence": sentence, **told}
        with ws.ledger.transaction():
            since = state["since"] if was and state is not None else now
            ws.ledger.put(FRESHNESS, view.name, {**body, "since": since}, expect=state.version if state else 0)
            if not was:
                ws.ledger.append("features.stale", Ref(KIND, view.name), told, actor=ws.actor)


def _fresh_again(ws: Workspace, state: Record, why: str) -> None:
    with ws.ledger.transaction():
        ws.ledger.put(FRESHNESS, state.id, {**state.body, "stale": False, "at": iso(ws.clock.now()), "sentence": why}, expect=state.version)
        ws.ledger.append("features.fresh", Ref(KIND, state.id), {"why": why}, actor=ws.actor)


def view_of(ws: Workspace, name: str) -> View:
    """A declared view. Raises NotFound."""
    views = ws.project.views
    if not views:
        raise NotFound("The project declares no view.", hint="Add one with project.view(...).")
    if name not in views:
        raise NotFound(f"There is no view {name!r}.", hint=f"The project declares: {', '.join(views)}.")
    return views[name]
