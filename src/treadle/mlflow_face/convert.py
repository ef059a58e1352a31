"""Records of the ledger as MLflow's entities: how a turn of the wheel, a trial and a run logged through MLflow look in MLflow.

    record 'run'           a run; metrics and family from the version it registered
    record 'trial'         a run below it; `loss`, and `fold_loss` with the fold as its step
    record 'mlflow_run'    what mlflow.start_run() began; its metrics are the ledger's points
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    Experiment,
    ExperimentTag,
    InputTag,
    LifecycleStage,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunTag,
)
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag, RegisteredModel, RegisteredModelAlias, RegisteredModelTag

from treadle.core.canonical import digest
from treadle.core.clock import iso, parse_time
from treadle.core.records import Point, Record

STATUS = {
    "running": "RUNNING", "done": "FINISHED", "failed": "FAILED", "cancelled": "KILLED", "interrupted": "KILLED", "pruned": "KILLED",
}  # fmt: skip


def millis(moment: str) -> int:
    """ISO text as MLflow's milliseconds since 1970."""
    return int(parse_time(moment).timestamp() * 1000)


def moment_of(milliseconds: int) -> str:
    """MLflow's milliseconds since 1970 as ISO text."""
    return iso(datetime.fromtimestamp(milliseconds / 1000, UTC))


def experiment_id(name: str) -> str:
    """The id of the experiment first created under a name."""
    return digest(["mlflow_experiment", name])[:20]


def scope_experiment(scope: str, runs: list[Record], artifacts: str) -> Experiment:
    """The experiment of all turns and trials of one 'project.model'."""
    return Experiment(
        experiment_id(scope), scope, artifacts, LifecycleStage.ACTIVE, [ExperimentTag("treadle.scope", scope)],
        creation_time=millis(min(r.created_at for r in runs)), last_update_time=millis(max(r.updated_at for r in runs)),
    )  # fmt: skip


def own_experiment(record: Record) -> Experiment:
    """An experiment made through MLflow."""
    tags = [ExperimentTag(k, v) for k, v in record["tags"].items()]
    return Experiment(
        record.id, record["name"], record["artifacts"], record["lifecycle"], tags,
        creation_time=int(record["created"]), last_update_time=int(record["updated"]),
    )  # fmt: skip


def turn_run(record: Record, version: Record | None, artifacts: str) -> Run:
    """A turn of the wheel. `version`: what it registered, or found registered already."""
    said = {"family": version["family"], **version["params"]} if version else {}
    tags = {
        "mlflow.source.name": "treadle run", "mlflow.source.git.commit": (record.get("code") or {}).get("commit"), "treadle.kind": "run",
        "treadle.status": record["status"], "treadle.cause": record["cause"].get("text"), "treadle.as_of": record.get("as_of"),
        "treadle.error": record.get("error"), "treadle.version": version.id if version else None,
        "treadle.verdict": _verdict(version) if version else None,
    }  # fmt: skip
    start, end = millis(record["started"]), millis(record["ended"]) if record.get("ended") else None
    return _run(record, record.id, start, end, artifacts, turn_metrics(record, version), said, tags)


def turn_metrics(record: Record, version: Record | None) -> list[Metric]:
    """The version's evaluation: `roc_auc`, `roc_auc.low`, `roc_auc.high`, and the same of 'baseline.' and 'champion.'."""
    if version is None:
        return []
    at = millis(record.get("ended") or record.updated_at)
    found = []
    for who, metrics in version["evaluation"]["metrics"].items():
        for name, value in metrics.items():
            key = name if who == "model" else f"{who}.{name}"
            parts = {key: value["value"], f"{key}.low": value["low"], f"{key}.high": value["high"]}
            found += [Metric(k, float(v), at, 0) for k, v in parts.items() if v is not None]
    return found


def trial_run(record: Record, parent: str, artifacts: str) -> Run:
    """One setting that was tried. `parent`: the run whose search it was part of, if known."""
    tags = {
        "mlflow.parentRunId": parent, "mlflow.source.name": "treadle run", "treadle.kind": "trial", "treadle.status": record["status"],
        "treadle.group": record["group"], "treadle.error": record.get("error"),
    }  # fmt: skip
    end = millis(record.updated_at)
    name, start = f"trial {record['number']} {record['family']}", end - int(record["seconds"] * 1000)
    return _run(record, name, start, end, artifacts, trial_metrics(record), {"family": record["family"], **record["params"]}, tags)


def trial_metrics(record: Record) -> list[Metric]:
    """A trial's mean loss, and the loss of each fold."""
    at = millis(record.updated_at)
    mean = [] if record["loss"] is None else [Metric("loss", float(record["loss"]), at, 0)]
    return mean + [Metric("fold_loss", float(loss), at, fold) for fold, loss in enumerate(record["fold_losses"])]


def logged_run(record: Record, points: Iterable[Point]) -> Run:
    """A run logged through MLflow."""
    inputs = [DatasetInput(Dataset(**i["dataset"]), [InputTag(k, v) for k, v in i["tags"].items()]) for i in record.get("inputs", [])]
    return Run(logged_info(record), _data(logged_metrics(points), record["params"], record["tags"]), RunInputs(inputs))


def logged_info(record: Record) -> RunInfo:
    """The head of a run logged through MLflow."""
    return RunInfo(
        record.id, record["experiment"], record["user"], record["status"], record["start"], record["end"], record["lifecycle"],
        record["artifacts"], record["name"],
    )  # fmt: skip


def logged_metrics(points: Iterable[Point]) -> list[Metric]:
    """Points as they were logged."""
    return [Metric(p.name, p.value, millis(p.time), p.step) for p in points]


def latest(metrics: Iterable[Metric]) -> list[Metric]:
    """Of each metric the value of its last step (then time, then the larger), as MLflow's own stores choose it."""
    last: dict[str, Metric] = {}
    for metric in metrics:
        held = last.get(metric.key)
        if held is None or (metric.step, metric.timestamp, metric.value) >= (held.step, held.timestamp, held.value):
            last[metric.key] = metric
    return list(last.values())


def model_version(record: Record, aliases: Mapping[str, int]) -> ModelVersion:
    """A registered version. Its status and verdict are tags: MLflow's own 'status' only says that the files are there."""
    tags = {
        "treadle.status": record["status"], "treadle.verdict": _verdict(record), "treadle.reasons": "; ".join(record["verdict"]["reasons"]),
        "treadle.digest": record["package"]["digest"], "treadle.format": record.get("format"), "treadle.family": record["family"],
    }  # fmt: skip
    return ModelVersion(
        record["model"], str(record["number"]), millis(record.created_at), millis(record.updated_at), _about(record), current_stage="None",
        source=f"treadle:{record.id}", run_id=record["run"] or None, tags=[ModelVersionTag(k, v) for k, v in _texts(tags).items()],
        aliases=[name for name, number in aliases.items() if number == record["number"]],
    )  # fmt: skip


def registered_model(versions: list[Record], aliases: Mapping[str, int]) -> RegisteredModel:
    """A model with its newest version. `versions`: all of them, oldest first."""
    last = versions[-1]
    return RegisteredModel(
        last["model"], millis(versions[0].created_at), millis(max(v.updated_at for v in versions)), _about(last), [model_version(last, aliases)],
        [RegisteredModelTag(k, v) for k, v in _texts({"treadle.project": last["project"], "treadle.owner": last["owner"]}).items()],
        [RegisteredModelAlias(name, str(number)) for name, number in aliases.items()],
    )  # fmt: skip


def _about(version: Record) -> str:
    return f"{version['goal'] or version['model']} ({version['family']}, {version['task']})"


def _verdict(version: Record) -> str:
    return "passed" if version["verdict"]["passed"] else "refused"


def _run(
    record: Record, name: str, start: int, end: int | None, artifacts: str, metrics: list[Metric], params: Mapping[str, Any], tags: Mapping[str, Any]
) -> Run:
    status = STATUS.get(record["status"], "FAILED")
    info = RunInfo(record.id, experiment_id(record["scope"]), "treadle", status, start, end, LifecycleStage.ACTIVE, artifacts, name)
    return Run(info, _data(metrics, params, {"mlflow.runName": name, **_texts(tags)}), RunInputs([]))


def _data(metrics: Iterable[Metric], params: Mapping[str, Any], tags: Mapping[str, str]) -> RunData:
    return RunData(latest(metrics), [Param(k, str(v)) for k, v in params.items()], [RunTag(k, v) for k, v in tags.items()])


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    """What is said at all."""
    return {k: str(v) for k, v in values.items() if v not in (None, "")}
