"""Score rows with a version of a model: in parts, resumed where a killed scoring was, its output on record with all that it was made of.

A scoring is a record of kind `scoring`. What decides its output (version, rows, view histories, options) is its key: the same command goes on with
what was begun and not finished under the same key. Parts lie in `{home}/scores/KEY` until they are delivered.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from treadle.assemble import Workspace
from treadle.core.canonical import digest
from treadle.core.clock import iso, parse_time
from treadle.core.declare.data import Dataset, View
from treadle.core.declare.model import Model
from treadle.core.errors import Conflict, DataError, NotFound, Refused, UsageError
from treadle.core.ids import new_id
from treadle.core.records import Link, Record, Ref
from treadle.data import versions as data_versions
from treadle.ports.executor import Task, WorkerLost
from treadle.registry import conditions, packages, promote, versions
from treadle.scoring.inputs import Input, find_input
from treadle.scoring.outputs import check_output, deliver
from treadle.scoring.parts import PART_ROWS, ROW, Job, Part, finished, parts_of, place_of, score_part, writing
from treadle.serving import recalibration
from treadle.wheel import steps as work
from treadle.wheel.materialise import newest_of, view_values

KIND = "scoring"
_LOST = 3  # times a part is done again whose worker died

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """What is to be scored, and how. See `treadle score --help`."""

    data: str
    to: str = ""
    number: int | None = None
    keep: tuple[str, ...] = ()
    as_sent: bool = False
    parallel: int = 1
    part_rows: int = PART_ROWS
    again: bool = False


def table_of(model: str) -> str:
    """The table that a model's answers are versions of."""
    return f"scores.{model}"


def score(ws: Workspace, model: Model, asked: Asked, tell: Tell = lambda line: None) -> Record:
    """Answer every row, and return the record of it. A row that the endpoint would refuse has no answer, and the reason.

    Raises: NotFound, Refused (a version that may not answer), DataError, Conflict (something else is at the output; the same scoring runs), and what
        a part raises; then what is finished is kept, and the same call goes on.
    """
    version = _version(ws, model, asked.number)
    given = find_input(ws, asked.data, lambda dataset: _taken(ws, dataset))
    folder, manifest = packages.open_package(version["package"], ws.blobs, ws.shelf)
    sent = _sent(given, manifest, asked, ws) if asked.as_sent else ()
    views = _views(model, version, manifest, sent)
    tell(f"{version.id} scores {given.said}")
    histories, taken = view_values(ws, views, f"score {given.said}")
    state = recalibration.applied(ws.ledger, model.name, int(version["number"]))
    if state is not None:
        tell(f"answers are recalibrated by {state.learned:,} outcomes, as the endpoint's are")
    body = {
        "project": ws.project.name, "model": model.name, "version": version["number"], "package": version["package"]["digest"],
        "data": given.said, "dataset": given.dataset, "files": given.tags, "view_data": {name: v.id for name, v in sorted(taken.items())},
        "options": {"keep": list(asked.keep), "as_sent": list(sent), "part_rows": asked.part_rows},
        "to": asked.to or f"table {table_of(model.name)}", **({"recalibration": state.to_json()} if state is not None else {}),
    }  # fmt: skip
    key = digest([body, _definitions(ws, views)])
    known = ws.ledger.find(KIND, {"key": key}, newest_first=True)
    if known and known[0]["status"] == "done" and not asked.again:
        tell("it is done already (--again does it once more)")
        return known[0]
    unfinished = known[0] if known and known[0]["status"] == "under way" else None
    check_output(asked.to, resumed=unfinished is not None)
    home = ws.settings.home / "scores" / key[:24]
    with _alone(home):
        record = unfinished or _begin(ws, version, given, taken, {**body, "key": key})
        if unfinished is not None:
            tell(f"goes on with {record.id}, begun {record['begun'][:19]}")
        with writing(home, "What the parts share"):
            job, parts = _prepared(ws, record, version, (folder, manifest), given, histories, asked, sent, home)
        return _finish(ws, record, job, parts, _all_parts(ws, job, parts, asked.parallel, tell), asked, tell)


def _version(ws: Workspace, model: Model, number: int | None) -> Record:
    """The version asked for; else the champion, else the newest that may answer. Raises Refused, NotFound."""
    deployed = promote.deployment(model.name, ws.ledger)
    if number is None and deployed is not None:
        number = int(deployed["champion"])
    if number is None:
        known = versions.all_versions(model.name, ws.ledger)
        usable = [v for v in known if not conditions.missing(v, ws.ledger, ws.clock.now())]
        if not known:
            raise NotFound(f"Model {model.name!r} has no version yet.", hint=f"Run: treadle run {model.name}")
        number = int((usable or known)[-1]["number"])
    version = versions.get(model.name, number, ws.ledger)
    lacking = conditions.missing(version, ws.ledger, ws.clock.now())
    if lacking and version["status"] not in ("champion", "challenger", "retired"):
        raise Refused(f"{version.id} may not answer: {'; '.join(lacking)}.", hint=f"See: treadle models {model.name}")
    return version


def _taken(ws: Workspace, dataset: Dataset) -> data_versions.Version:
    return newest_of(ws, dataset, f"score {dataset.name}", f"scores.{dataset.name}")


def _sent(given: Input, manifest: Mapping[str, Any], asked: Asked, ws: Workspace) -> tuple[str, ...]:
    """View features that are columns of the rows."""
    with _scratch(ws) as scratch:
        there = set(pl.read_parquet_schema(given.files(scratch)[0]))
    return tuple(f["name"] for f in manifest["signature"]["features"] if f.get("source") == "view" and f["name"] in there)


@contextmanager
def _scratch(ws: Workspace) -> Iterator[Path]:
    folder = ws.settings.home / "scores" / f"look-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _views(model: Model, version: Record, manifest: Mapping[str, Any], sent: Sequence[str]) -> list[View]:
    """The version's views that must be looked up, as the project declares them now."""
    needed = {f["view"] for f in manifest["signature"]["features"] if f.get("source") == "view" and f["name"] not in sent}
    declared = {view.name: view for view in model.views}
    for name in sorted(needed):
        if name not in declared:
            raise DataError(f"The version needs view {name!r}, which the project does not declare any more.", hint="Score with a newer version.")
        lost = set(manifest["views"][name]["features"]) - set(declared[name].feature_names())
        if lost:
            raise DataError(f"View {name!r} has no feature {sorted(lost)[0]!r} any more.", hint="Score with a newer version.")
        known = (version.get("features") or {}).get(name)
        if known is not None and known != work.view_digest(declared[name]):
            raise DataError(f"View {name!r} is declared otherwise than {version.id} knows it.", hint="Train a version with it: treadle run")
    return [view for view in model.views if view.name in needed]


def _definitions(ws: Workspace, views: Sequence[View]) -> list[str]:
    from treadle.wheel.materialise import definition_of

    return [definition_of(ws, view) for view in views]


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One process at a time works on a scoring. Raises Conflict."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict("The same scoring is under way in another process.", where=str(home), hint="Wait for it, or stop it.") from None
        yield


def _begin(ws: Workspace, version: Record, given: Input, taken: Mapping[str, data_versions.Version], body: Mapping[str, Any]) -> Record:
    now = iso(ws.clock.now())
    said = {**body, "status": "under way", "begun": now, "ended": "", "now": now, "by": ws.actor, "output": {}, "rows": 0, "refused": 0}
    id = new_id("score")
    with ws.ledger.transaction():
        record = ws.ledger.put(KIND, id, said, expect=0)
        ws.ledger.link(Link(Ref(KIND, id), "made_by", Ref(versions.KIND, version.id)))
        for used in dict.fromkeys([*([given.dataset] if given.dataset else []), *(v.id for v in taken.values())]):
            ws.ledger.link(Link(Ref(KIND, id), "read", Ref(data_versions.KIND, used)))
        ws.ledger.append("scoring.begun", Ref(KIND, id), {"version": version.id, "data": given.said}, actor=ws.actor)
    return record


def _prepared(
    ws: Workspace, record: Record, version: Record, package: tuple[Path, dict[str, Any]], given: Input, histories: Sequence[tuple[View, Any]],
    asked: Asked, sent: tuple[str, ...], home: Path,
) -> tuple[Job, list[Part]]:  # fmt: skip
    for left in home.glob(".*.parquet.*"):
        left.unlink(missing_ok=True)
    files = given.files(home)
    there = pl.read_parquet_schema(files[0])
    keep = asked.keep or tuple(c for c in given.key if c in there) or (ROW,)
    unknown = [c for c in keep if c not in there and c not in (ROW, "*")]
    if unknown:
        raise UsageError(f"There is no column {unknown[0]!r} to keep.", hint=f"There are: {', '.join(list(there)[:40])}.")
    views = []
    for view, values in histories:
        path = Path(values) if not isinstance(values, pl.DataFrame) else home / f"view-{view.name}.parquet"
        if isinstance(values, pl.DataFrame):
            values.write_parquet(path, compression="lz4")
        views.append((_bare(view), str(path)))
    about = {"scoring": record.id, "model": record["model"], "version": str(record["version"]), "data": record["data"], "begun": record["begun"]}
    job = Job(
        str(package[0]), package[1], int(version["number"]), tuple(views), parse_time(record["now"]), keep, sent, given.text, str(home),
        {f"treadle.{name}": value for name, value in about.items()}, record.get("recalibration"),
    )  # fmt: skip
    parts = parts_of(files, asked.part_rows)
    if not parts:
        raise DataError("There are no rows.", where=given.said, hint="Check that the file is the one you mean.")
    return job, parts


def _bare(view: View) -> View:
    """A view as it can be sent to another process: the join needs its name, entity and features."""
    from dataclasses import replace

    source = replace(view.source, source=None, contract=None, exclude={}, datasheet=None)  # type: ignore[arg-type]
    return replace(view, source=source, function=None, features=view.feature_names(), aggregates={})


def _all_parts(ws: Workspace, job: Job, parts: Sequence[Part], parallel: int, tell: Tell) -> list[dict[str, Any]]:
    done: dict[int, dict[str, Any]] = {}
    for part in parts:
        said = finished(job, part)
        if said is not None:
            done[part.number] = said
    if done:
        tell(f"{len(done)} of {len(parts)} parts are there already")
    waiting = [part for part in parts if part.number not in done]
    began, total = time.monotonic(), sum(p.count for p in parts)
    shown = [began]

    def note(part: Part, said: dict[str, Any]) -> None:
        done[part.number] = said
        if time.monotonic() - shown[0] > 2:
            shown[0] = time.monotonic()
            rows = sum(d["rows"] for d in done.values())
            tell(f"{rows:,} of {total:,} rows, {len(done)} of {len(parts)} parts, {time.monotonic() - began:.0f} s")

    if waiting and min(p.number for p in waiting) == 0:  # the first one alone: what is wrong with the rows is wrong here
        note(waiting[0], score_part(job, waiting.pop(0)))
    if parallel <= 1 or len(waiting) <= 1:
        for part in waiting:
            note(part, score_part(job, part))
    else:
        _hand_out(ws, job, waiting, parallel, note)
    return [done[part.number] for part in parts]


def _hand_out(ws: Workspace, job: Job, parts: Sequence[Part], parallel: int, note: Callable[[Part, dict[str, Any]], None]) -> None:
    """On the executor of the settings, or on worker processes where that has none; never more than `parallel` at once."""
    executor = ws.executor if ws.executor.apart else ws.workers
    left = list(reversed(parts))
    flying: dict[Future[Any], Part] = {}
    lost: dict[int, int] = {}
    try:
        while left or flying:
            while left and len(flying) < parallel:
                part = left.pop()
                flying[executor.submit(Task(score_part, {"job": job, "part": part}, f"part {part.number}"))] = part
            for future in wait(flying, return_when=FIRST_COMPLETED).done:
                part = flying.pop(future)
                try:
                    note(part, future.result())
                except WorkerLost:
                    lost[part.number] = lost.get(part.number, 0) + 1
                    if lost[part.number] > _LOST:
                        raise
                    left.append(part)
    except BaseException:
        for future in flying:
            future.cancel()
        raise


def _finish(
    ws: Workspace, record: Record, job: Job, parts: Sequence[Part], done: Sequence[Mapping[str, Any]], asked: Asked, tell: Tell
) -> Record:
    rows, refused = sum(d["rows"] for d in done), sum(d["refused"] for d in done)
    if refused == rows:
        shutil.rmtree(job.folder, ignore_errors=True)
        _note(ws, record, status="failed", rows=rows, refused=refused, ended=iso(ws.clock.now()))
        example = next((d["example"] for d in done if d["example"]), "")
        raise DataError(f"None of the {rows:,} rows fits the model: {example}.", where=record["data"], hint="See: treadle models, and its signature.")
    about = {"scoring": record.id, "model": record["model"], "version": record["version"], "data": record["data"], "rows": rows, "refused": refused}
    places = [place_of(job, part) for part in parts]
    with writing(Path(asked.to).parent if asked.to else Path(job.folder), "The output"):
        output = deliver(ws, asked.to, table_of(record["model"]), places, about)
    record = _note(ws, record, status="done", rows=rows, refused=refused, output=output, ended=iso(ws.clock.now()))
    shutil.rmtree(job.folder, ignore_errors=True)
    tell(f"{rows:,} rows answered" if not refused else f"{rows:,} rows, of which {refused:,} are refused: column 'refused' says why")
    return record


def _note(ws: Workspace, record: Record, **says: Any) -> Record:
    with ws.ledger.transaction():
        changed = ws.ledger.put(KIND, record.id, {**record.body, **says}, expect=record.version)
        told = {"rows": says["rows"], "refused": says["refused"]}
        ws.ledger.append(f"scoring.{says['status']}", Ref(KIND, record.id), told, actor=ws.actor)
    return changed
