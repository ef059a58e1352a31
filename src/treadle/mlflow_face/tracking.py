"""MLflow's tracking store over the ledger: Treadle's runs and trials to look at, and runs of one's own to log.

    >>> import mlflow                                                            # doctest: +SKIP
    >>> mlflow.set_tracking_uri("treadle:///srv/projects/flights")               # doctest: +SKIP
    >>> mlflow.search_runs(experiment_names=["flights.late-arrival"], filter_string="metrics.loss < 0.5")  # doctest: +SKIP

What Treadle recorded is evidence and cannot be changed through MLflow; what MLflow logged can, as in any MLflow store.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from mlflow.entities import Experiment, LifecycleStage, Metric, Run, RunInfo, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, PERMISSION_DENIED, RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_MAX_RESULTS_DEFAULT, SEARCH_MAX_RESULTS_THRESHOLD
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.name_utils import _generate_random_name
from mlflow.utils.search_utils import SearchExperimentsUtils, SearchUtils
from mlflow.utils.uri import append_to_uri_path, resolve_uri_if_local
from mlflow.utils.validation import (
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_experiment_name,
    _validate_experiment_tag,
    _validate_param_keys_unique,
)

from treadle.core.errors import Conflict
from treadle.core.records import Point, Record
from treadle.mlflow_face import convert, turns
from treadle.mlflow_face.place import refuse_the_rest, workspace_at
from treadle.pipelines.run import RUN

LOGGED = "mlflow_run"
EXPERIMENT = "mlflow_experiment"
DEFAULT = "0"  # MLflow's id of the experiment that is always there
TRIES = 100  # of a change that another process keeps changing first

KEEP = {  # what MLflow's own class makes of the methods below
    "search_runs", "log_metric", "log_param", "set_tag", "log_metric_async", "log_param_async", "set_tag_async", "log_batch_async",
    "end_async_logging", "flush_async_logging", "shut_down_async_logging", "filter_active_experiment_ids",
    "get_metric_history_bulk_interval", "get_metric_history_bulk_interval_from_steps",
}  # fmt: skip


def open_store(store_uri: str, artifact_uri: str | None = None) -> LedgerTracking:
    """The store behind a `treadle:` address; MLflow calls this."""
    return LedgerTracking(store_uri)


@refuse_the_rest(keep=KEEP)
class LedgerTracking(AbstractStore):
    """Experiments and runs of one project's ledger."""

    def __init__(self, store_uri: str) -> None:
        super().__init__()
        ws = workspace_at(store_uri)
        self._ledger = ws.ledger
        self._artifacts = (ws.settings.home.absolute() / "mlflow").as_uri()

    # Experiments.

    def search_experiments(
        self, view_type: Any = ViewType.ACTIVE_ONLY, max_results: int = SEARCH_MAX_RESULTS_DEFAULT, filter_string: str | None = None,
        order_by: list[str] | None = None, page_token: str | None = None,
    ) -> PagedList:  # fmt: skip
        _check_max_results(max_results)
        shown = [e for e in self._experiments() if e.lifecycle_stage in LifecycleStage.view_type_to_stages(view_type)]
        found = SearchExperimentsUtils.filter(shown, filter_string)
        ranked = SearchExperimentsUtils.sort(found, order_by or ["creation_time DESC", "experiment_id ASC"])
        return PagedList(*SearchUtils.paginate(ranked, page_token, max_results))

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Iterable[Any] | None = None) -> str:
        _validate_experiment_name(name)
        self._check_name_free(name)
        for tag in tags or ():
            _validate_experiment_tag(tag.key, tag.value)
        id = convert.experiment_id(name)
        while (known := self._ledger.get(EXPERIMENT, id)) is not None and known["name"] != name:  # first created under this name, renamed since
            id = convert.experiment_id(id)
        place = resolve_uri_if_local(artifact_location) if artifact_location else self._artifacts_of(id)
        try:
            self._ledger.put(EXPERIMENT, id, {**_experiment(name, place), "tags": {t.key: t.value for t in tags or ()}}, expect=0)
        except Conflict:
            raise MlflowException(f"Experiment {name!r} already exists.", RESOURCE_ALREADY_EXISTS) from None
        return id

    def get_experiment(self, experiment_id: str) -> Experiment:
        found = next((e for e in self._experiments() if e.experiment_id == str(experiment_id)), None)
        if found is None:
            raise MlflowException(f"There is no experiment with the id {experiment_id!r}.", RESOURCE_DOES_NOT_EXIST)
        return found

    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        return next((e for e in self._experiments() if e.name == experiment_name), None)

    def delete_experiment(self, experiment_id: str) -> None:
        if str(experiment_id) == DEFAULT:
            raise MlflowException("The default experiment cannot be deleted.", INVALID_PARAMETER_VALUE)
        self._move(experiment_id, LifecycleStage.ACTIVE, LifecycleStage.DELETED)

    def restore_experiment(self, experiment_id: str) -> None:
        self._move(experiment_id, LifecycleStage.DELETED, LifecycleStage.ACTIVE)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        _validate_experiment_name(new_name)
        self._check_name_free(new_name)
        self._change_experiment(experiment_id, lambda body: {**body, "name": new_name})

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        _validate_experiment_tag(tag.key, tag.value)
        self._change_experiment(experiment_id, lambda body: {**body, "tags": {**body["tags"], tag.key: tag.value}})

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        self._change_experiment(experiment_id, lambda body: {**body, "tags": _without(body["tags"], key)})

    # Runs: looking.

    def get_run(self, run_id: str) -> Run:
        record = self._record(run_id)
        if record.kind == LOGGED:
            return convert.logged_run(record, self._ledger.points(run_id))
        return turns.as_runs(record["scope"], [record], self._ledger, self._artifacts_of(convert.experiment_id(record["scope"])))[0]

    def get_metric_history(self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None) -> PagedList:
        record = self._record(run_id)
        if record.kind == LOGGED:
            history = convert.logged_metrics(self._ledger.points(run_id, metric_key))
        elif record.kind == turns.TRIAL:
            history = convert.trial_metrics(record)
        else:
            history = convert.turn_metrics(record, turns.versions_of(record["scope"], self._ledger).get(run_id))
        history = [m for m in history if m.key == metric_key]
        return PagedList(history, None) if max_results is None else PagedList(*SearchUtils.paginate(history, page_token, max_results))

    def _search_runs(
        self, experiment_ids: list[str], filter_string: str | None, run_view_type: Any, max_results: int, order_by: list[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:  # fmt: skip
        _check_max_results(max_results)
        stages = LifecycleStage.view_type_to_stages(run_view_type)
        scopes = {convert.experiment_id(scope): scope for scope in turns.scopes(self._ledger)}
        found: list[Run] = []
        for id in experiment_ids:
            logged = self._ledger.find(LOGGED, {"experiment": str(id)})
            found += [convert.logged_run(r, self._ledger.points(r.id)) for r in logged if r["lifecycle"] in stages]
            if str(id) in scopes and LifecycleStage.ACTIVE in stages:
                found += turns.runs_of(scopes[str(id)], self._ledger, self._artifacts_of(str(id)))
        ranked = SearchUtils.sort(SearchUtils.filter(found, filter_string), order_by)
        runs, token = SearchUtils.paginate(ranked, page_token, max_results)
        return runs, token

    def search_logged_models(self, *arguments: Any, **named: Any) -> PagedList:
        """None: models are logged by `treadle run` alone. MLflow asks whenever artifacts are listed."""
        return PagedList([], None)

    # Runs: logging.

    def create_run(self, experiment_id: str, user_id: str, start_time: int, tags: Iterable[RunTag], run_name: str | None) -> Run:
        experiment = self.get_experiment(experiment_id)
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            raise MlflowException(f"Experiment {experiment.name!r} is deleted; restore it first.", INVALID_PARAMETER_VALUE)
        said = {tag.key: tag.value for tag in tags or ()}
        if run_name and said.get(MLFLOW_RUN_NAME, run_name) != run_name:
            raise MlflowException(f"The run is named {run_name!r} and, by its tag, {said[MLFLOW_RUN_NAME]!r}.", INVALID_PARAMETER_VALUE)
        name, id = run_name or said.get(MLFLOW_RUN_NAME) or _generate_random_name(), uuid.uuid4().hex
        body = {
            "experiment": experiment.experiment_id, "name": name, "user": user_id or "", "status": RunStatus.to_string(RunStatus.RUNNING),
            "start": int(start_time or _now()), "end": None, "lifecycle": LifecycleStage.ACTIVE,
            "params": {}, "tags": {**said, MLFLOW_RUN_NAME: name},
            "artifacts": append_to_uri_path(experiment.artifact_location, id, "artifacts"),
        }  # fmt: skip
        return convert.logged_run(self._ledger.put(LOGGED, id, body, expect=0), [])

    def update_run_info(self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None) -> RunInfo:
        def change(body: dict[str, Any]) -> dict[str, Any]:
            status = body["status"] if run_status is None else RunStatus.to_string(run_status)
            named = {"name": run_name, "tags": {**body["tags"], MLFLOW_RUN_NAME: run_name}} if run_name else {}
            return {**body, "status": status, "end": end_time or body["end"], **named}

        return convert.logged_info(self._change_run(run_id, change))

    def delete_run(self, run_id: str) -> None:
        self._change_run(run_id, lambda body: {**body, "lifecycle": LifecycleStage.DELETED}, even_deleted=True)

    def restore_run(self, run_id: str) -> None:
        self._change_run(run_id, lambda body: {**body, "lifecycle": LifecycleStage.ACTIVE}, even_deleted=True)

    def log_batch(self, run_id: str, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
        _validate_batch_log_limits(metrics, params, tags)
        _validate_param_keys_unique(params)
        given = {p.key: str(p.value) for p in params}
        said = {t.key: str(t.value) for t in tags}

        def change(body: dict[str, Any]) -> dict[str, Any]:
            for key, value in given.items():
                before = body["params"].get(key, value)
                if before != value:
                    raise MlflowException(f"Changing param values is not allowed: {key!r} is {before!r}, not {value!r}.", INVALID_PARAMETER_VALUE)
            if not given and not said:
                return body
            name = said.get(MLFLOW_RUN_NAME, body["name"])
            return {**body, "name": name, "params": {**body["params"], **given}, "tags": {**body["tags"], **said}}

        self._change_run(run_id, change, [_point(run_id, m) for m in metrics])

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag of a run."""
        self._change_run(run_id, lambda body: {**body, "tags": _without(body["tags"], key)})

    def log_inputs(self, run_id: str, datasets: list[Any] | None = None, models: list[Any] | None = None) -> None:
        fresh = [{"dataset": d.dataset.to_dictionary(), "tags": {t.key: t.value for t in d.tags}} for d in datasets or ()]

        def change(body: dict[str, Any]) -> dict[str, Any]:
            known = body.get("inputs", [])
            return {**body, "inputs": [*known, *(i for i in fresh if i not in known)]}

        self._change_run(run_id, change)

    # The records behind.

    def _experiments(self) -> list[Experiment]:
        own = {r.id: convert.own_experiment(r) for r in self._ledger.find(EXPERIMENT)}
        treadle = [convert.scope_experiment(s, runs, self._artifacts_of(convert.experiment_id(s))) for s, runs in turns.scopes(self._ledger).items()]
        # An experiment that MLflow made under the name before Treadle's first run of that model: the two are one, and Treadle's.
        merged = {**own, **{e.experiment_id: e for e in treadle}}
        if DEFAULT not in merged:
            merged[DEFAULT] = convert.own_experiment(Record(EXPERIMENT, DEFAULT, self._default()))
        return list(merged.values())

    def _default(self) -> dict[str, Any]:
        return {**_experiment("Default", self._artifacts_of(DEFAULT)), "created": 0, "updated": 0}

    def _artifacts_of(self, experiment: str) -> str:
        return f"{self._artifacts}/{experiment}"

    def _check_name_free(self, name: str) -> None:
        known = self.get_experiment_by_name(name)
        if known is not None:
            deleted = " and is deleted; restore it" if known.lifecycle_stage == LifecycleStage.DELETED else ""
            raise MlflowException(f"Experiment {name!r} already exists{deleted}.", RESOURCE_ALREADY_EXISTS)

    def _change_experiment(self, id: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        experiment = self.get_experiment(id)
        if any(tag == "treadle.scope" for tag in experiment.tags):
            raise MlflowException(f"Experiment {experiment.name!r} is Treadle's record of a model and stands as it is.", PERMISSION_DENIED)
        for _ in range(TRIES):
            record = self._ledger.get(EXPERIMENT, str(id)) or Record(EXPERIMENT, str(id), self._default())
            try:
                self._ledger.put(EXPERIMENT, str(id), {**change(dict(record.body)), "updated": _now()}, expect=record.version)
                return
            except Conflict:
                continue
        raise Conflict(f"Experiment {id} was changed by others {TRIES} times in a row.", hint="Try again.")

    def _move(self, id: str, source: str, target: str) -> None:
        """An experiment and its runs, to deleted or back."""
        if self.get_experiment(id).lifecycle_stage != source:
            raise MlflowException(f"Experiment {id} is {target} already.", INVALID_PARAMETER_VALUE)
        with self._ledger.transaction():
            self._change_experiment(id, lambda body: {**body, "lifecycle": target})
            for run in self._ledger.find(LOGGED, {"experiment": str(id), "lifecycle": source}):
                self._ledger.put(LOGGED, run.id, {**run.body, "lifecycle": target}, expect=run.version)

    def _record(self, run_id: str) -> Record:
        for kind in (LOGGED, RUN, turns.TRIAL):
            record = self._ledger.get(kind, run_id)
            if record is not None:
                return record
        raise MlflowException(f"There is no run with the id {run_id!r}.", RESOURCE_DOES_NOT_EXIST)

    def _change_run(
        self, run_id: str, change: Callable[[dict[str, Any]], dict[str, Any]], points: list[Point] | None = None, *, even_deleted: bool = False
    ) -> Record:
        for _ in range(TRIES):
            try:
                with self._ledger.transaction():
                    record = self._record(run_id)
                    if record.kind != LOGGED:
                        raise MlflowException(f"Run {run_id} was made by `treadle run`; it is evidence and stands as it is.", PERMISSION_DENIED)
                    if record["lifecycle"] != LifecycleStage.ACTIVE and not even_deleted:
                        raise MlflowException(f"Run {run_id} is deleted; restore it first.", INVALID_PARAMETER_VALUE)
                    body = change(dict(record.body))
                    if body != record.body:
                        record = self._ledger.put(LOGGED, run_id, body, expect=record.version)
                    if points:
                        self._ledger.log_points(points)
                return record
            except Conflict:
                continue
        raise Conflict(f"Run {run_id} was changed by others {TRIES} times in a row.", hint="Try again.")


def _experiment(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "artifacts": place, "lifecycle": LifecycleStage.ACTIVE, "tags": {}, "created": _now(), "updated": _now()}


def _point(run_id: str, metric: Metric) -> Point:
    at = _now() if metric.timestamp is None else metric.timestamp
    return Point(run_id, metric.key, float(metric.value), int(metric.step or 0), convert.moment_of(at))


def _without(tags: dict[str, str], key: str) -> dict[str, str]:
    if key not in tags:
        raise MlflowException(f"There is no tag {key!r}.", RESOURCE_DOES_NOT_EXIST)
    return {k: v for k, v in tags.items() if k != key}


def _check_max_results(wanted: Any) -> None:
    if not isinstance(wanted, int) or not 1 <= wanted <= SEARCH_MAX_RESULTS_THRESHOLD:
        raise MlflowException(f"max_results is from 1 to {SEARCH_MAX_RESULTS_THRESHOLD}, not {wanted!r}.", INVALID_PARAMETER_VALUE)


def _now() -> int:
    return int(time.time() * 1000)
