"""What each step of a turn does, as plain functions; `turn` says in which order, and with which ingredients.

A step returns plain values or frames, so that its result can be stored and found again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from treadle.assemble import Workspace
from treadle.core.canonical import digest, plain
from treadle.core.clock import iso, parse_time
from treadle.core.declare.data import Dataset, View
from treadle.core.declare.features import Derived
from treadle.core.declare.model import Candidate, Model
from treadle.core.errors import Conflict, DataError
from treadle.core.records import Ref
from treadle.data import large as files
from treadle.data import schema_changes, suppressed, versions
from treadle.data.memory import free_memory
from treadle.features import history as histories
from treadle.features import large
from treadle.features import rows as feature_rows
from treadle.monitoring import alarms, telling
from treadle.pipelines.results import Filed
from treadle.pipelines.run import Progress
from treadle.ports.blobs import Blobs
from treadle.ports.ledger import Ledger
from treadle.provenance.origin import code_of, environment, environment_state
from treadle.registry import versions as registry
from treadle.serving.loaded import Loaded
from treadle.wheel import in_parts
from treadle.wheel.packaging import answers, feature_columns, pack, sign_package

BASELINES = {
    "regression": "always the mean", "forecast": "the same time a season ago", "quantile": "the same time a season ago", "ranking": "every row alike",
}  # fmt: skip
_TRAINING = 3  # how many times a model's rows are in memory while it trains, about: as they are, as matrices, in parts
_ENOUGH = 64 << 20  # bytes that are not asked about


def declaration(model: Model) -> dict[str, Any]:
    """What a model declares, as JSON values."""
    return {
        "inputs": [plain(i) if isinstance(i, Derived) else i for i in model.inputs],
        "views": [v.name for v in model.views],
        "target": model.target, "task": model.task, "positive": model.positive,
        "candidates": [c.said() for c in model.candidates],
        "split": plain(model.split), "slices": list(model.slices), "trials": model.trials, "seed": model.seed,
        "parallel_trials": model.parallel_trials, "kind": plain(model.kind), "metric": model.metric, "budget": plain(model.budget),
        "trial_limit": plain(model.trial_limit),
        "gates": [[g.name, plain(dict(g.options))] for g in model.gates],
        "allow": dict(model.allow),
    }  # fmt: skip


def declared_dataset(dataset: Dataset) -> dict[str, Any]:
    """What a data set declares, as JSON values."""
    contract = dataset.contract
    return {
        "key": list(dataset.key), "event_time": dataset.event_time, "known_time": dataset.known_time,
        "source": [dataset.source.kind, dataset.source.path, plain(dict(dataset.source.options))],
        "exclude": {sentence: _expression(e) for sentence, e in dataset.exclude.items()},
        "columns": plain(dict(contract.columns)) if contract else {},
        "rules": {sentence: _expression(e) for sentence, e in contract.rules.items()} if contract else {},
        "at_most": contract.at_most if contract else None,
        "promises": {name: plain(getattr(contract, name)) for name in ("unique", "fresh", "volume", "volume_change", "like", "stop_on")}
        if contract else None,
    }  # fmt: skip


def declared_view(view: View) -> dict[str, Any]:
    """What a view declares, as JSON values."""
    return {
        "source": view.source.name, "entity": list(view.entity), "features": list(view.features),
        "aggregates": {name: _expression(e) for name, e in view.aggregates.items()},
        "window": plain(view.window), "every": plain(view.every), "ttl": plain(view.ttl),
        **({"windows": plain(dict(view.windows))} if view.windows else {}),
    }  # fmt: skip


def view_digest(view: View) -> str:
    """The version of a view: what it declares and what its function says, in twelve characters."""
    from treadle.pipelines.meaning import meaning

    if view.function is None:
        return digest(declared_view(view))[:12]
    folder = Path(view.function.__code__.co_filename).parent
    return digest([declared_view(view), meaning(view.function, [folder])])[:12]


def _expression(expression: pl.Expr | str) -> str:
    if isinstance(expression, str):  # a rule in SQL
        return expression
    return hashlib.sha256(expression.meta.serialize()).hexdigest()


def datasets_of(model: Model) -> list[Dataset]:
    return list({d.name: d for d in (model.rows, *(v.source for v in model.views))}.values())


def watch_params(ws: Workspace, model: Model) -> dict[str, Any] | None:
    watch = ws.watch_of(model)
    if watch is None:
        return None
    return {"every": watch.every, "false_alarms": watch.false_alarms, "kinds": list(watch.kinds), "groups": watch.groups and list(watch.groups)}


def take_version(
    source: str | None, declaration: dict[str, Any], dataset: Dataset, folder: Path, ws: Workspace, decided: str = "", erased: str = "", due: str = ""
) -> dict[str, Any]:
    """`decided`, `erased` and `due` say only that there is something to be done again: what people decided, whom, and that a moment has come."""
    try:
        budget = files.too_large(dataset, folder, ws.memory)
        if budget is not None and ws.project.datasets.get(dataset.name) is dataset:
            taken = in_parts.take(ws, dataset, budget, _teller(ws, f"data:{dataset.name}"))
        else:
            taken = versions.take(
                dataset, folder, ws.tables, ws.ledger, now=ws.clock.now(), reach=ws.reach, erased=suppressed.known(ws.ledger, ws.settings.home),
                uses=schema_changes.uses(ws.project, dataset), blobs=ws.blobs, memory=ws.memory,
            )  # fmt: skip
    finally:  # a broken promise is told also when it stops the run
        if alarms.about_data(ws.ledger, ws.clock):
            telling.deliver(ws.ledger, ws.notifiers)
    versions.record(taken, ws.ledger)
    return versions.result(taken)


def _teller(ws: Workspace, step: str) -> Callable[[str], None]:
    """Takes a line about how far a long step is to whoever watches the run, or else to its log."""

    def tell(line: str) -> None:
        if ws.watch is not None:
            ws.watch(Progress(step, "note", reason=line))
        else:
            print(line, flush=True)

    return tell


def given_version(version: dict[str, Any], ws: Workspace) -> dict[str, Any]:
    versions.record(versions.of(version), ws.ledger)
    return version


def view_history(version: dict[str, Any], declaration: dict[str, Any], view: View, ws: Workspace) -> pl.DataFrame | Filed:
    """In memory where it fits into this view's share of it, else on the disk. The values are the same; how they are kept is no ingredient."""
    limits = _limits(ws, len(ws.project.views) if ws.memory or find_spec("duckdb") else 1)
    scan = ws.tables.scan(version["address"])
    if large.fits(view, large.size_of(scan), limits.memory):
        return histories.history(view, scan.collect())

    with large.working_folder(limits) as folder:
        large.file_history(view, ws.tables.files(version["address"]), folder / "history.parquet", limits)
        return Filed(ws.blobs.put(folder / "history.parquet"))


def model_rows(version: dict[str, Any], shape: dict[str, Any], model: Model, ws: Workspace, **views: feature_rows.Values) -> pl.DataFrame:
    """Training holds these rows in memory, so they are made in memory too; what they are joined with need not fit."""
    named, scan = _named(model, views), ws.tables.scan(version["address"])
    _room_to_train(ws, model, scan)
    beside = replace(model, slices=model.beside)
    return feature_rows.model_rows(beside, scan.collect(), named, _limits(ws))


def _limits(ws: Workspace, shares: int = 1) -> large.Limits:
    """The memory a step's rows may take: what the settings say, or half of what is free, among so many; and where the rest goes to."""
    free = free_memory()
    memory = ws.memory or (free // 2 if free is not None else 4_000_000_000)
    return large.Limits(memory // max(1, shares), ws.threads, ws.settings.home / "spill")


def _room_to_train(ws: Workspace, model: Model, rows: pl.LazyFrame) -> None:
    """Raise DataError when a model's rows do not fit into memory: better a sentence before than a killed process after."""
    count = int(rows.select(pl.len()).collect().item())
    width = sum(len(view.feature_names()) for view in model.views) + len(model.inputs)
    needed = _TRAINING * (large.size_of(rows) + count * width * 8)
    free = ws.memory or free_memory()
    if free is not None and needed > free and needed > _ENOUGH:
        raise DataError(
            f"Training holds a model's rows in memory: {count:,} rows with {width} features take about {needed / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} GB may be taken.", where=f"model {model.name!r} ({model.place})",
            hint=f"Leave rows of {model.rows.name!r} out with `exclude`, or allow more with the setting 'memory' on a larger machine.",
        )  # fmt: skip


def model_signature(
    version: dict[str, Any], shape: dict[str, Any], model: Model, tables: Any, **views: feature_rows.Values
) -> dict[str, Any]:
    request, features = feature_rows.signature(model, tables.scan(version["address"]).head(1).collect(), _named(model, views))
    return {
        "request": [{k: v for k, v in plain(f).items() if k != "="} for f in request],
        "features": [{k: v for k, v in plain(f).items() if k != "="} for f in features],
        "views": {v.name: {"entity": list(v.entity), "features": list(v.feature_names())} for v in model.views},
        "moment": model.rows.event_time,
    }


def _named(model: Model, views: Mapping[str, feature_rows.Values]) -> list[tuple[View, feature_rows.Values]]:
    return [(view, views[f"view_{i}"]) for i, view in enumerate(model.views)]


def train(
    rows: pl.DataFrame, learning: dict[str, Any], as_of: str, settings: dict[str, Any] | None, model: Model, threads: int, ledger: Ledger, scope: str,
    blobs: Blobs, each: Callable[..., list[Any]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    from threadpoolctl import threadpool_limits

    from treadle.training import estimators
    from treadle.training.learn import learn
    from treadle.training.recorded import Recorded, name_of

    window = (settings or {}).get("window")  # seconds: only newer rows are learned from and tested on
    target, parts = _target_and_parts(model, rows, as_of, window)
    frame = rows[parts.search]
    state = environment_state()
    if settings:
        tried: Sequence[Candidate] = tuple(
            Candidate(c.family, {k: [v] for k, v in settings["params"].items()}, c.make)
            for c in (model.candidates or (Candidate(settings["family"]),))
            if c.family == settings["family"]
        )
        model, parts = replace(model, trials=1, budget=None, split=replace(model.split, nested=0)), replace(parts, folds=parts.folds[-1:])
    else:
        tried = estimators.candidates(model, target.task, len(frame), sum(map(len, feature_columns(rows))))
    group = name_of(scope, learning, as_of, plain(settings), frame, model, [state, threads])
    on_record = Recorded(group, scope, model.name, ledger, blobs)
    with threadpool_limits(threads):
        found = learn(model, rows, target, parts, tuple(tried), *feature_columns(rows), threads=threads, on_record=on_record, each=each)
    return {
        "family": found.family, "params": found.params, "pipeline": found.pipeline, "baseline": found.baseline, "trials": found.trials,
        "validation": found.validation, "losses": found.losses,
        "target": target, "rows": len(frame), "group": group, "split": parts.how,
        "trained_to": _last(frame), "threads": threads, "environment": state, **({"window": window} if window else {}),
    }  # fmt: skip


def trained_settings(trained: dict[str, Any]) -> dict[str, Any]:
    """What was trained, without the fitted model: so that a turn with nothing to do loads no training library."""
    target = trained["target"]
    kept = {k: trained[k] for k in ("family", "rows", "group", "split", "trained_to", "threads", "environment")}
    return {**kept, "params": plain(trained["params"]), "task": target.task, "labels": plain(list(target.labels))}


def evaluate_model(
    rows: pl.DataFrame, trained: dict[str, Any], signature: dict[str, Any], learning: dict[str, Any], as_of: str, champion: str,
    asked: dict[str, Any], model: Model, ledger: Ledger, load_champion: Callable[[], Loaded] | None,
) -> dict[str, Any]:  # fmt: skip
    from threadpoolctl import threadpool_limits

    from treadle.training.evaluate import evaluate
    from treadle.training.evidence import gather
    from treadle.training.judging import judge_of
    from treadle.training.search import outputs
    from treadle.training.split import groups_of, test_set_name

    target, parts = trained["target"], _target_and_parts(model, rows, as_of, trained.get("window"))[1]
    test = rows[parts.test]
    numbers, categories = feature_columns(rows)
    truth = target.codes(test[feature_rows.TARGET])
    frame = test.select(numbers + categories)
    shown = {
        "model": outputs(target.task, trained["pipeline"], frame, len(target.labels)),
        "baseline": outputs(target.task, trained["baseline"], frame, len(target.labels)),
    }
    if load_champion is not None:
        loaded = load_champion()
        if loaded.labels == [plain(label) for label in target.labels] and {f.name for f in loaded.features} <= set(test.columns):
            shown["champion"] = answers(loaded, test, [f.name for f in loaded.features])
    reads = _count_read(test_set_name(rows, parts), digest([trained["family"], plain(trained["params"]), learning, as_of, trained["rows"]]), ledger)
    searched = rows[parts.search]
    judge = replace(
        judge_of(target.task, model.kind, "", searched, target.codes(searched[feature_rows.TARGET]), None), groups=groups_of(model, test)
    )
    judged = {who: judge.full(output) for who, output in shown.items()}
    evaluation = evaluate(judge.task, truth, judged, parts.blocks, {s: test[f"slice:{s}"].to_list() for s in model.slices}, model.seed)
    with threadpool_limits(trained["threads"]):
        more = gather(_case(model, rows, trained, target, parts, truth, shown["model"], numbers, categories, judge))
    return {
        **evaluation,
        **more,
        "test_reads": reads,
        "split": parts.how,
        "labels": plain(list(target.labels)),
        "baseline_family": BASELINES.get(judge.task, "always the share of each class"),
    }


def _case(
    model: Model, rows: pl.DataFrame, trained: dict[str, Any], target: Any, parts: Any, truth: np.ndarray, output: np.ndarray,
    numbers: list[str], categories: list[str], judge: Any,
) -> Any:  # fmt: skip
    """The trained model and its rows, as the evidence looks at them. `judge`: of the test rows."""
    from treadle.training import estimators, narrow
    from treadle.training.evidence import Case
    from treadle.training.losses import row_loss
    from treadle.training.search import outputs
    from treadle.training.split import blocks_of, groups_of
    from treadle.training.trials import fit, weights_of

    classes, groups = len(target.labels), groups_of(model, rows[parts.search])
    frame = rows[parts.search].select(numbers + categories)
    searched = target.codes(rows[feature_rows.TARGET].gather(parts.search))

    def afresh(positions: np.ndarray) -> Any:
        return narrow.afresh(trained["pipeline"], frame[positions], searched[positions], target.task)

    def refit(positions: np.ndarray, weights: np.ndarray | None) -> Callable[[pl.DataFrame], np.ndarray]:
        if groups is not None:  # a ranking: an estimator that learns from groups takes no weights of single rows
            ranked = fit(afresh(positions), frame[positions], searched[positions], groups[positions])
            return lambda asked: outputs(target.task, ranked, asked, classes)
        made = afresh(positions)
        fitted = made.fit(frame[positions], searched[positions], **({} if weights is None else weights_of(made, weights[positions]) or {}))
        return lambda asked: outputs(target.task, fitted, asked, classes)

    own = replace(judge, groups=groups)

    def trivial(learned: np.ndarray, asked: np.ndarray) -> np.ndarray:
        simple = estimators.baseline(target.task, numbers, categories, model.kind).fit(frame[learned], searched[learned])
        return np.asarray(row_loss(judge.task, searched[asked], own.full(outputs(target.task, simple, frame[asked], classes), asked)))

    candidate = next((c for c in model.candidates if c.family == trained["family"] and c.make is not None), None)
    sent = {i for i in model.inputs if isinstance(i, str)} | {c for i in model.inputs if isinstance(i, Derived) for c in i.columns}
    known = model.rows.known_time or ""
    return Case(
        target.task, judge, rows, parts.search, parts.test, parts.blocks, blocks_of(model, rows, parts.search), searched, truth, output, numbers,
        categories, model.split.method, model.seed, lambda asked: outputs(target.task, trained["pipeline"], asked, classes), refit,
        trained["pipeline"],
        candidate.make(**trained["params"]) if candidate is not None and candidate.make is not None else None,
        looked_up=[f for v in model.views for f in v.feature_names()], expected=_expected(model, [*numbers, *categories]),
        known_column=known if known in sent and known != model.rows.event_time else "", subject=model.rows.subject, protected=model.protected,
        invariances=model.invariances, folds=parts.folds, validation=trained["validation"], losses=trained.get("losses") or {}, trivial=trivial,
        weighs=weights_of(trained["pipeline"], np.ones(1)) is not None, groups=groups, tried=len(trained["trials"]),
        thorough=len(trained["trials"]) > 1,
    )  # fmt: skip


def _expected(model: Model, features: list[str]) -> list[str]:
    """Features of which nobody wonders that they tell the target: a detector has not learnt from it, a forecast is measured against the naive one."""
    kind = model.kind.name if model.kind else ""
    return features if kind == "anomaly" else [model.kind.naive] if model.kind and kind == "forecast" else []


def asked_of(model: Model) -> dict[str, Any]:
    """What the evaluation asks beyond the metrics, as JSON values."""
    return {
        "protected": plain(list(model.protected)),
        "invariances": [i if isinstance(i, str) else getattr(i, "__name__", "invariance") for i in model.invariances],
    }


def about(ws: Workspace, model: Model) -> dict[str, Any]:
    """What the project says of a model that gates and the card look at, as JSON values."""
    columns = model.rows.contract.columns if model.rows.contract else {}
    sent = [c for i in model.inputs for c in (i.columns if isinstance(i, Derived) else (i,))] + [c for v in model.views for c in v.entity]
    sent += [model.rows.event_time] if model.rows.event_time else []
    fields = list(dict.fromkeys(sent))
    return {
        "owner": ws.project.owner, "goal": ws.project.goal, "description": model.description, "intended_use": model.intended_use,
        "excluded_use": model.excluded_use, "fields": len(fields), "undeclared": [f for f in fields if f not in columns],
        "protected": [p.column for p in model.protected],
    }  # fmt: skip


def reach_verdict(evaluation: dict[str, Any], package: dict[str, Any], gates: list[Any], about: dict[str, Any], model: Model) -> dict[str, Any]:
    from treadle.governance.gates import judge

    return judge(model.gates, {**evaluation, "about": about, "package": package}).body()


def make_package(
    rows: pl.DataFrame, trained: dict[str, Any], signature: dict[str, Any], learning: dict[str, Any], as_of: str, name: str,
    watch: dict[str, Any] | None,
    model: Model, ws: Workspace,
) -> dict[str, Any]:  # fmt: skip
    parts = _target_and_parts(model, rows, as_of, trained.get("window"))[1]
    return pack(rows, trained, signature, parts, model, name, watched=watch is not None, ws=ws)


def register(
    package: dict[str, Any], evaluation: dict[str, Any], verdict: dict[str, Any], trained: dict[str, Any], as_of: str,
    model: Model, ws: Workspace, cause: dict[str, Any], made: dict[str, Any], **data_versions: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    taken = [versions.of(v) for v in data_versions.values()]
    run = next((r for r in ws.ledger.find("run", {"status": "running", "model": model.name}, newest_first=True)), None)
    body = {
        "project": ws.project.name, "status": "approved" if verdict["passed"] else "refused",
        "key": digest([package["digest"], verdict, as_of, [v.id for v in taken]]),
        "package": {"files": package["files"], "digest": package["digest"]}, "format": package["format"], "parity": package["parity"],
        "family": trained["family"], "params": trained["params"], "task": trained["task"], "labels": trained["labels"],
        "trained_rows": trained["rows"], "trained_to": trained["trained_to"], "trials": trained["group"], "split": trained["split"],
        "evaluation": evaluation, "verdict": verdict, "as_of": as_of, "data": {v.dataset: v.id for v in taken},
        "features": {v.name: view_digest(v) for v in model.views}, "gates": digest(declaration(model)["gates"]),
        "run": run.id if run else "",
        "code": made["code"] or code_of(ws), "environment": environment(trained["environment"], ws.blobs), "threads": trained["threads"],
        "settings": made["settings"], "champion": made["champion"],
        "cause": cause, "owner": ws.project.owner, "goal": ws.project.goal, "allowed": dict(model.allow), "by": ws.actor, "about": about(ws, model),
        "explanation": package.get("explanation"), "measured": package.get("measured"), "bytes": package.get("bytes"),
        "licences": package.get("licences"),
    }  # fmt: skip
    links = [("trained_on", Ref(versions.KIND, v.id)) for v in taken]
    if run:
        links.append(("made_by", Ref("run", run.id)))
    body["package"] = sign_package(ws, body["package"], model.name)
    record = registry.register(model.name, body, links, ws.ledger)
    return {"id": record.id, "number": record["number"], "status": record["status"]}


def _target_and_parts(model: Model, rows: pl.DataFrame, as_of: str, window: float | None = None) -> tuple[Any, Any]:
    from treadle.training.split import split
    from treadle.training.target import target_of

    moment = parse_time(as_of) if as_of else None
    visible = rows if moment is None or rows[feature_rows.KNOWN].null_count() == rows.height else rows.filter(pl.col(feature_rows.KNOWN) <= moment)
    target = target_of(model, visible)
    return target, split(model, rows, target, moment, window=None if window is None else timedelta(seconds=window))


def _last(frame: pl.DataFrame) -> str:
    last = frame[feature_rows.MOMENT].max()
    return iso(last) if isinstance(last, datetime) else ""


def _count_read(test_set: str, reader: str, ledger: Ledger) -> int:
    """Note that `reader` looked at a test set; how many different models have by now."""
    while True:
        record = ledger.get("test_reads", test_set)
        readers = list(record["readers"]) if record else []
        if reader in readers:
            return readers.index(reader) + 1
        try:
            ledger.put("test_reads", test_set, {"readers": [*readers, reader]}, expect=record.version if record else 0)
            return len(readers) + 1
        except Conflict:
            continue
