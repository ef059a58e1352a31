"""One turn of the wheel: data version -> feature histories -> rows -> training -> evaluation -> verdict -> package -> registered version.

Each is a step of a pipeline (`pipelines.run`), so what has not changed is not done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import polars as pl

from treadle.assemble import Workspace, formats
from treadle.core.canonical import digest, plain
from treadle.core.clock import iso
from treadle.core.declare.data import Dataset, View
from treadle.core.declare.model import Like, Model
from treadle.core.errors import Corrupt, DataError, NotFound, TreadleError
from treadle.core.records import Record
from treadle.data import filesets, promises, quarantine, suppressed, versions
from treadle.data.memory import free_memory
from treadle.features.history import AT
from treadle.features.large import size_of
from treadle.features.rows import Values
from treadle.pipelines import results
from treadle.pipelines.graph import Step
from treadle.pipelines.hand_out import HandOut
from treadle.pipelines.run import Outcome, mark_interrupted
from treadle.ports.executor import Resources
from treadle.provenance.origin import code_of
from treadle.registry import packages
from treadle.registry import versions as registry
from treadle.serving.loaded import Loaded
from treadle.wheel import steps as work


def turn(
    ws: Workspace,
    model: Model,
    *,
    cause: Mapping[str, Any],
    as_of: datetime | None = None,
    run_id: str | None = None,
    settings: Mapping[str, Any] | None = None,
    champion: Record | None = None,
    until: str = "",
    also: Sequence[str] = (),
    data: Mapping[str, versions.Version] | None = None,
) -> Outcome:
    """Run all steps for a model.

    Args:
        as_of: train and test only on rows whose truth was known by then.
        settings: {'family', 'params'} to train with instead of searching.
        champion: the version to compare with on the same rows.
        until, also: run only up to these steps.
        data: the version of each data set to train from, instead of what the sources hold now.
    """
    mark_interrupted(ws.ledger, ws.clock)
    code = code_of(ws)
    about = {"project": ws.project.name, "model": model.name, "as_of": iso(as_of) if as_of else "", "code": code}
    steps = build(ws, model, as_of=as_of, settings=settings, champion=champion, cause=cause, code=code, data=data)
    request = {"model": model.name, "settings": plain(settings) if settings else None, "champion": int(champion["number"]) if champion else None}
    scope = f"{ws.project.name}.{model.name}"
    return ws.runner().run(scope, steps, cause=cause, about=about, id=run_id, until=(until, *also) if until else (), request=request)


def already(ws: Workspace, model: Model, *, as_of: datetime | None = None) -> Record | None:
    """The version that a turn would make again, because nothing it depends on has changed since it was made; None when there is something to do."""
    steps = build(ws, model, as_of=as_of, settings=None, champion=None, cause={})
    planned = {s["step"]: s for s in ws.runner().plan(f"{ws.project.name}.{model.name}", steps)}
    if not planned["package"]["fresh"]:
        return None
    package = results.load("json", planned["package"]["address"], ws.blobs)
    data = {d.name: results.load("json", planned[f"data:{d.name}"]["address"], ws.blobs) for d in work.datasets_of(model)}
    wanted = {name: versions.of(v).id for name, v in data.items()}
    gates_now = digest(work.declaration(model)["gates"])
    for version in registry.all_versions(model.name, ws.ledger):
        if version["package"]["digest"] == package["digest"] and version["data"] == wanted and version["gates"] == gates_now:
            return version
    return None


def build(
    ws: Workspace, model: Model, *, as_of: datetime | None, settings: Mapping[str, Any] | None, champion: Record | None, cause: Mapping[str, Any],
    code: Mapping[str, Any] | None = None, data: Mapping[str, versions.Version] | None = None,
) -> list[Step]:  # fmt: skip
    """The steps of one turn. `code` is the project's code as `code_of` gives it, if it is known already; `data` as in `turn`."""
    steps: dict[str, Step] = {}
    for dataset in work.datasets_of(model):
        steps[f"data:{dataset.name}"] = data_step(ws, dataset) if data is None else given_step(ws, dataset, data)
    for view in model.views:
        steps[f"view:{view.name}"] = view_step(ws, view)
    view_inputs = {f"view_{i}": f"view:{v.name}" for i, v in enumerate(model.views)}
    declared = work.declaration(model)
    shape = {"inputs": declared["inputs"], "views": declared["views"], "target": model.target, "slices": model.beside}
    time_cut = iso(as_of) if as_of else ""
    learning = {k: declared[k] for k in (
        "task", "positive", "candidates", "split", "trials", "parallel_trials", "seed", "target", "kind", "metric", "budget", "trial_limit",
    )}  # fmt: skip
    live = {"model": model}
    sources_of_rows = {"version": f"data:{model.rows.name}", **view_inputs}
    steps["rows"] = Step("rows", work.model_rows, sources_of_rows, {"shape": plain(shape)}, {**live, "ws": ws})
    steps["signature"] = Step("signature", work.model_signature, sources_of_rows, {"shape": plain(shape)}, {**live, "tables": ws.tables})
    makers = [type(c.make.estimator) if isinstance(c.make, Like) else c.make for c in model.candidates if c.make is not None]
    each = _each(ws, model) if not settings else None
    steps["train"] = Step(
        "train", work.train, {"rows": "rows"}, {"learning": plain(learning), "as_of": time_cut, "settings": plain(settings) if settings else None},
        {**live, "threads": ws.threads, "ledger": ws.ledger, "scope": f"{ws.project.name}.{model.name}", "blobs": ws.blobs, "each": each},
        makers, here=each is not None,
    )  # fmt: skip
    steps["settings"] = Step("settings", work.trained_settings, {"trained": "train"})
    steps["evaluate"] = Step(
        "evaluate", work.evaluate_model, {"rows": "rows", "trained": "train", "signature": "signature"},
        {
            "learning": plain(learning), "as_of": time_cut, "champion": champion["package"]["digest"] if champion else "",
            "asked": work.asked_of(model),
        },
        {**live, "ledger": ws.ledger, "load_champion": partial(load_version, ws, champion) if champion else None},
        [i for i in model.invariances if callable(i)],
    )  # fmt: skip
    steps["package"] = Step(
        "package", work.make_package, {"rows": "rows", "trained": "train", "signature": "signature"},
        {"learning": plain(learning), "as_of": time_cut, "name": model.name, "watch": plain(work.watch_params(ws, model))},
        {**live, "ws": ws}, holds=lambda package: all(_whole(ws, a) for a in package["files"].values()),
    )  # fmt: skip
    steps["verdict"] = Step(
        "verdict",
        work.reach_verdict,
        {"evaluation": "evaluate", "package": "package"},
        {"gates": declared["gates"], "about": work.about(ws, model)},
        dict(live),
        [g.function for g in model.gates if g.function],
    )
    made = {"code": code, "settings": plain(settings) if settings else None, "champion": champion.id if champion else ""}
    steps["register"] = Step(
        "register", work.register,
        {"package": "package", "evaluation": "evaluate", "verdict": "verdict", "trained": "settings",
         **{f"version_{i}": f"data:{d.name}" for i, d in enumerate(work.datasets_of(model))}},
        {"as_of": time_cut}, {**live, "ws": ws, "cause": dict(cause), "made": made}, cached=False,
    )  # fmt: skip
    return list(steps.values())


def _each(ws: Workspace, model: Model) -> HandOut | None:
    """Who tries the settings of a search: other processes where several are tried at once, or where one that takes too long must be stopped."""
    limit = model.trial_limit
    if limit is None and model.budget is not None and any(c.make for c in model.candidates):
        limit = model.budget  # the project's own estimators may never end
    needs = Resources(**model.trial_resources)
    if limit is not None:
        return ws.hand_out(needs, limit.total_seconds(), given_up)
    return ws.hand_out(needs) if model.parallel_trials > 1 and ws.executor.apart else None


def given_up(rows: Any, asked: Any, error: TreadleError) -> Any:
    """What stands for a trial that was stopped, or whose process died."""
    from treadle.training.trials import Said, Trial

    return Trial(asked.number, asked.candidate.family, dict(asked.params), "failed", None, [], 0.0, error.what, asked.rows), Said()


def data_step(ws: Workspace, dataset: Dataset) -> Step:
    """The step that takes a version of a data set."""
    known = versions.fingerprint(dataset, ws.folder, ws.ledger, ws.reach)
    function = dataset.source.function
    now = {
        "decided": quarantine.digest_of(quarantine.standing(dataset.name, ws.ledger)),
        "erased": suppressed.known(ws.ledger, ws.settings.home).mark,
        "due": promises.due(dataset, ws.ledger, ws.clock.now()),
    }
    return Step(
        f"data:{dataset.name}", work.take_version, {}, {"source": known, "declaration": work.declared_dataset(dataset), **now},
        {"dataset": dataset, "folder": ws.folder, "ws": ws}, [function] if function else [],
        holds=lambda v: _rows_whole(ws, dataset, v) and _taken_last(ws, dataset, v),
        cached=known is not None, outside=("source", *now),
    )  # fmt: skip


def given_step(ws: Workspace, dataset: Dataset, data: Mapping[str, versions.Version]) -> Step:
    """The step that takes the version of a data set that is given, wherever its source has gone. Raises NotFound."""
    if dataset.name not in data:
        raise NotFound(f"No version of data set {dataset.name!r} is given.", where=f"model's data: {', '.join(data)}")
    return Step(f"data:{dataset.name}", work.given_version, {}, {"version": plain(versions.result(data[dataset.name]))}, {"ws": ws})


def _taken_last(ws: Workspace, dataset: Dataset, version: Mapping[str, Any]) -> bool:
    """Whether what the last look at the source gave is this version. A source that went back to what it held before a bad day is taken again, so that
    the version counts as the newest and what was broken meanwhile is seen to be whole."""
    newest, state = versions.newest(dataset.name, ws.ledger), ws.ledger.get(promises.STATE, dataset.name)
    return newest is not None and newest.id == versions.of(version).id and not (state is not None and state.get("stopped"))


def _rows_whole(ws: Workspace, dataset: Dataset, version: Mapping[str, Any]) -> bool:
    """Whether the rows of a version are there and are still what was written; damaged files are removed, so that they are written anew."""
    for address in filter(None, (version["address"], version["quarantine"])):
        try:
            ws.tables.verify(address)
        except NotFound:
            return False
        except Corrupt:
            ws.tables.discard(address)
            return False
    return dataset.source.kind != filesets.KIND or filesets.whole(ws.tables, ws.blobs, version["address"])


def _whole(ws: Workspace, address: str) -> bool:
    """Whether the bytes behind an address are there and are still what was written; damaged ones are removed, so that they are written anew."""
    try:
        ws.blobs.verify(address)
    except NotFound:
        return False
    except Corrupt:
        ws.blobs.delete(address)
        return False
    return True


def view_step(ws: Workspace, view: View) -> Step:
    """The step that computes a view's history."""
    return Step(
        f"view:{view.name}", work.view_history, {"version": f"data:{view.source.name}"}, {"declaration": work.declared_view(view)},
        {"view": view, "ws": ws}, [view.function] if view.function else [],
    )  # fmt: skip


def view_histories(ws: Workspace, model: Model, outcome: Outcome) -> list[tuple[View, Values]]:
    """The histories of a model's views from a finished turn; of those that did not fit into memory the files."""
    return [(view, outcome[f"view:{view.name}"]) for view in model.views]


def in_memory(view: View, values: Values) -> pl.DataFrame:
    """A whole history as a frame, by time. Raises DataError when it does not fit."""
    if isinstance(values, pl.DataFrame):
        return values
    scan = pl.scan_parquet(values, glob=False)
    needed, free = 3 * size_of(scan), free_memory()
    if free is not None and needed > free:
        raise DataError(
            f"The whole history of view {view.name!r} takes about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free.",
            where=view.place, hint="Do this on a larger machine, or with a source of fewer rows.",
        )  # fmt: skip
    return scan.collect().sort(AT, maintain_order=True)


def load_version(ws: Workspace, record: Record) -> Loaded:
    """A registered version, opened and verified, ready to answer."""
    folder, manifest = packages.open_package(record["package"], ws.blobs, ws.shelf)
    return Loaded(folder, manifest, formats(), int(record["number"]))
