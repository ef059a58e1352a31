"""That training and serving are one, checked: before a version answers by replaying rows, and in production by recomputing a sample."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from treadle.assemble import Workspace
from treadle.core.canonical import digest
from treadle.core.clock import iso, parse_time
from treadle.core.declare.data import Dataset, View
from treadle.core.declare.model import Model
from treadle.core.errors import DataError, NotFound, ProjectError
from treadle.core.records import Record
from treadle.data import versions as data_versions
from treadle.features.history import history
from treadle.features.parity import Mismatch
from treadle.live.deploy import _features, serve_again
from treadle.monitoring import alarms, skew
from treadle.ports.predictions import Prediction
from treadle.registry import packages, promote, versions
from treadle.serving.requests import fields_of, micros
from treadle.wheel import steps as work

_MOST_VERSIONS = 5  # of a data set, for one sample
_MOST_STEPS = 10  # from the newest version of a data set back
_LONGEST = timedelta(hours=1)  # between two looks, where there are predictions
_EPOCH = parse_time("1970-01-01")


# ---------------------------------------------------------------------------------------------------------------- before production


def check(ws: Workspace, model: Model, *, number: int | None = None, rows: int = 300) -> tuple[Record, list[Mismatch], list[str]]:
    """Serve known rows again, through the real path, for a version (the newest if not given).

    Returns: the evidence as recorded, what differs from training, and what was restated in the sources of the model's views.
    Raises: NotFound where there is no version.
    """
    if number is None:
        known = versions.all_versions(model.name, ws.ledger)
        if not known:
            raise NotFound(f"Model {model.name!r} has no version yet.", hint=f"Run: treadle run {model.name}")
        version = known[-1]
    else:
        version = versions.get(model.name, number, ws.ledger)
    evidence, mismatches = serve_again(ws, model, version, _features(ws, model, version), rows)
    said = [restated(ws, dataset) for dataset in dict.fromkeys(v.source.name for v in model.views)]
    return evidence, mismatches, [s for s in said if s]


def restated(ws: Workspace, dataset: str) -> str:
    """A sentence if recent versions of a data set say something else of rows than those before them, as if it had always been known; else ''.

    What views say of the past is then not what was known. A correction is honest when it brings a later known time.
    """
    new, declared = data_versions.newest(dataset, ws.ledger), ws.project.datasets.get(dataset)
    told: list[str] = []
    for _ in range(_MOST_STEPS):
        record = ws.ledger.get(data_versions.KIND, new.parent) if new is not None and new.parent else None
        if new is None or record is None or declared is None:
            break
        old = data_versions.read(record)
        if new.changed and ws.tables.exists(old.address) and ws.tables.exists(new.address):
            count = rows_restated(ws.tables.scan(old.address), ws.tables.scan(new.address), declared)
            if count:
                told.append(f"{count:,} row{'s' if count > 1 else ''} of version {new.number} say something else than in version {old.number}")
        new = old
    if not told or declared is None:
        return ""
    return (
        f"data set {dataset!r}: {', '.join(told)}, without a later {declared.known_time or declared.event_time or 'time'}: "
        f"what views say of the time before is not what was known then"
    )


def rows_restated(old: pl.LazyFrame, new: pl.LazyFrame, dataset: Dataset) -> int:
    """How many rows have the same key in both, differ otherwise, and are not known later in the new one than in the old."""
    known = dataset.known_time or dataset.event_time
    was, now = old.collect_schema(), new.collect_schema()
    others = [c for c in was.names() if c in now.names() and c not in dataset.key]
    if not others:
        return 0
    # A column whose type has changed says something else where its text does.
    texts = [pl.col(c).cast(pl.Float64 if was[c].is_numeric() and now[c].is_numeric() else pl.String) for c in others if was[c] != now[c]]
    pairs = [frame.select(*dataset.key, *others).with_columns(texts) for frame in (old, new)]
    both = pairs[0].join(pairs[1], on=list(dataset.key), how="inner", nulls_equal=True, suffix="__new__")
    differs = pl.any_horizontal(pl.col(c).ne_missing(pl.col(f"{c}__new__")) for c in others)
    if known in others:
        differs &= ~(pl.col(f"{known}__new__") > pl.col(known)).fill_null(False)
    return int(both.filter(differs).select(pl.len()).collect(engine="streaming").item())


# ---------------------------------------------------------------------------------------------------------------- in production


def look(ws: Workspace, model: Model, tell: Callable[[str], None] = lambda line: None) -> Record | None:
    """Recompute a sample of what was served since the last look; more that differs than the project allows is an alarm, which ends when a later
    sample agrees. Returns what is recorded of it, or None when there was nothing to do."""
    declared, deployed = ws.watch_of(model), promote.deployment(model.name, ws.ledger)
    if declared is None or deployed is None or not declared.skew_sample:
        return None
    number, now = int(deployed["champion"]), micros(ws.clock.now())
    state = ws.ledger.get(skew.STATE, model.name)
    start = int(state["next"]) if state is not None and state["version"] == number else 0
    due = min(declared.every, _LONGEST) // timedelta(microseconds=1)
    if state is not None and state["version"] == number and now - int(state["looked"]) < due:
        return None
    predictions, end = skew.sample(ws.predictions, model.name, number, start, now, declared.skew_sample)
    if not predictions:
        return None
    version = versions.get(model.name, number, ws.ledger)
    log = ws.project.logs.get(model.name)
    if log is not None and log.inputs != "full":  # of a request that is not kept whole nothing can be computed again
        reason = f"the log of model {model.name!r} does not keep requests as they came (inputs={log.inputs!r})"
        return _note(ws, model, number, (start, end, now), {"rows": 0, "skewed": 0, "examples": [], "not_compared": reason}, state)
    if version["features"] != {v.name: work.view_digest(v) for v in model.views}:
        reason = f"the views of model {model.name!r} are declared otherwise than version {number} knows them"
        return _note(ws, model, number, (start, end, now), {"rows": 0, "skewed": 0, "examples": [], "not_compared": reason}, state)
    _, manifest = packages.open_package(version["package"], ws.blobs, ws.shelf)
    request, features = fields_of(manifest["signature"])
    fills = _Fills(ws)
    found: list[skew.Skewed] = []
    compared = 0
    try:
        for chosen, addresses in _by_data(ws, model, predictions):
            views = [(view, _history(ws, view, addresses[view.source.name])) for view in model.views]
            found += skew.compare(model, request, features, chosen, views, fills.last)
            compared += len(chosen)
    except (DataError, ProjectError) as error:
        return _note(ws, model, number, (start, end, now), {"rows": 0, "skewed": 0, "examples": [], "not_compared": str(error)}, state)
    examples = [asdict(s) for s in found[:20]]
    wrong = len({s.prediction for s in found})
    record = _note(ws, model, number, (start, end, now), {"rows": compared, "skewed": wrong, "examples": examples, "not_compared": ""}, state)
    told = skew.finding(compared, found, declared.skew_limit, predictions[0].moment, predictions[-1].moment + 1)
    if told is not None:
        raised = alarms.raise_alarm(model.name, number, told, ws.ledger, ws.clock)
        if raised is not None:
            tell(f"alarm {raised.id}: skew: {told.sentence}")
    elif compared:
        for alarm in alarms.open_alarms(model.name, ws.ledger):
            if alarm["kind"] == "skew":
                agrees = f"{compared:,} predictions sampled up to {iso(ws.clock.now())[:16]} agree with the recorded data"
                alarms.resolve(alarm, agrees, ws.ledger, ws.clock)
                tell(f"alarm {alarm.id} is resolved: {agrees}")
    return record


def last_look(ws: Workspace, model: str) -> Record:
    """The newest comparison of what was served with the recorded data. Raises NotFound."""
    found = ws.ledger.find(skew.CHECK, {"model": model}, newest_first=True, limit=1)
    if not found:
        raise NotFound(f"Nothing served by {model!r} was recomputed yet.", hint=f"Run: treadle watch {model}")
    return found[0]


def _note(ws: Workspace, model: Model, number: int, span: tuple[int, int, int], said: dict[str, Any], state: Record | None) -> Record:
    start, end, looked = span
    body = {"model": model.name, "version": number, "start": start, "end": end, "at": iso(ws.clock.now()), **said}
    with ws.ledger.transaction():
        record = ws.ledger.put(skew.CHECK, f"{model.name}-{end}", body)
        ws.ledger.put(
            skew.STATE, model.name, {"version": number, "next": end, "looked": looked, "not_compared": said["not_compared"]},
            expect=state.version if state is not None else 0,
        )  # fmt: skip
    return record


def _by_data(ws: Workspace, model: Model, predictions: Sequence[Prediction]) -> list[tuple[list[Prediction], dict[str, str]]]:
    """The predictions by the versions of the views' sources that were recorded last when they were answered; those of the commonest versions."""
    taken = {name: _versions_of(ws, name) for name in dict.fromkeys(v.source.name for v in model.views)}
    groups: dict[tuple[tuple[str, str], ...], list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        key = []
        for name, known in taken.items():
            at = bisect_right([t for t, _ in known], prediction.answered)
            key.append((name, known[max(0, at - 1)][1]))
        groups[tuple(key)].append(prediction)
    largest = sorted(groups.items(), key=lambda pair: -len(pair[1]))[:_MOST_VERSIONS]
    return [(chosen, dict(key)) for key, chosen in largest]


def _versions_of(ws: Workspace, dataset: str) -> list[tuple[int, str]]:
    """(when it was taken, address) of every version of a data set that is still there, oldest first."""
    found = [data_versions.read(r) for r in ws.ledger.find(data_versions.KIND, {"dataset": dataset})]
    there = sorted((micros(parse_time(v.taken)) if v.taken else 0, v.address) for v in found if ws.tables.exists(v.address))
    if not there:
        raise DataError(f"No version of data set {dataset!r} is there any more.", hint="Run: treadle run")
    return there


_histories: dict[tuple[str, str, str], pl.DataFrame] = {}


def _history(ws: Workspace, view: View, address: str) -> pl.DataFrame:
    """A view's history from one version of its source; the last few are kept, because a watch looks again and again."""
    key = (view.name, digest(work.declared_view(view)), address)
    if key not in _histories:
        while len(_histories) >= 8:
            _histories.pop(next(iter(_histories)))
        _histories[key] = history(view, ws.tables.scan(address).collect())
    return _histories[key]


class _Fills:
    """When online values were brought up to date, as `materialise` and a replay record it."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._known: dict[tuple[str, str], list[int]] = {}

    def last(self, view: str, moment: int) -> int | None:
        at = _EPOCH + timedelta(microseconds=moment)
        for day in (at, at - timedelta(days=1)):
            moments = self._of(view, day)
            position = bisect_right(moments, moment)
            if position:
                return moments[position - 1]
        return None

    def _of(self, view: str, day: datetime) -> list[int]:
        key = (view, f"filled {day:%Y-%m-%d}")
        if key not in self._known:
            self._known[key] = sorted(int(p.value) for p in self._ws.ledger.points(f"online/{view}", key[1]))
        return self._known[key]
