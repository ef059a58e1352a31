"""MLflow's own client sees what Treadle ran, and what it logs itself stands in the same ledger."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
import pytest
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from treadle.assemble import Workspace

SCOPE = "demo.deliveries-late"
Turned = tuple[Workspace, list[str]]


def search(filter_string: str = "", name: str = SCOPE, **more: Any) -> list[Any]:
    return mlflow.search_runs(experiment_names=[name], filter_string=filter_string, output_format="list", **more)


class TestWhatTreadleRan:
    def test_the_models_of_the_project_are_experiments(self, client: Any) -> None:
        assert SCOPE in [e.name for e in mlflow.search_experiments()]
        assert [e.name for e in mlflow.search_experiments(filter_string="name LIKE 'demo.%'")] == [SCOPE]
        assert mlflow.get_experiment_by_name(SCOPE).tags == {"treadle.scope": SCOPE}

    def test_a_turn_is_a_run_with_the_evaluation_of_its_version(self, client: Any, turned: Turned) -> None:
        ws, (first, _) = turned
        version = ws.ledger.find("model_version")[0]
        run = mlflow.get_run(first)
        assert run.info.status == "FINISHED"
        assert run.info.start_time <= run.info.end_time
        measured = version["evaluation"]["metrics"]
        assert run.data.metrics["log_loss"] == measured["model"]["log_loss"]["value"]
        assert run.data.metrics["log_loss.low"] == measured["model"]["log_loss"]["low"]
        assert run.data.metrics["baseline.log_loss"] == measured["baseline"]["log_loss"]["value"]
        assert run.data.params["family"] == version["family"]
        assert run.data.tags["treadle.version"] == version.id

    def test_a_turn_that_found_everything_made_carries_the_same_version(self, client: Any, turned: Turned) -> None:
        first, second = (mlflow.get_run(id) for id in turned[1])
        assert first.data.metrics == second.data.metrics
        assert first.data.tags["treadle.version"] == second.data.tags["treadle.version"]

    def test_each_trial_is_a_run_below_the_turn_that_searched(self, client: Any, turned: Turned) -> None:
        ws, (first, _) = turned
        below = search(f"tags.mlflow.parentRunId = '{first}'")
        trials = ws.ledger.find("trial")
        assert {r.info.run_id for r in below} == {t.id for t in trials}
        run, trial = mlflow.get_run(trials[0].id), trials[0]
        assert run.data.params == {"family": trial["family"], **{k: str(v) for k, v in trial["params"].items()}}
        assert run.data.metrics["loss"] == trial["loss"]
        assert run.data.tags["treadle.group"] == trial["group"]
        assert run.data.tags["treadle.status"] == "done"

    def test_the_losses_of_a_trials_folds_are_a_history_with_the_fold_as_step(self, client: Any, turned: Turned) -> None:
        trial = turned[0].ledger.find("trial")[0]
        history = client.get_metric_history(trial.id, "fold_loss")
        assert [(m.step, m.value) for m in history] == list(enumerate(trial["fold_losses"]))
        assert client.get_metric_history(trial.id, "no such metric") == []

    def test_mlflows_own_filters_and_orders_work_on_them(self, client: Any, turned: Turned) -> None:
        best = search("metrics.loss > 0 and tags.treadle.kind = 'trial'", order_by=["metrics.loss ASC"])
        losses = [r.data.metrics["loss"] for r in best]
        assert losses == sorted(losses)
        family = best[0].data.params["family"]
        assert best[0].info.run_id in [r.info.run_id for r in search(f"params.family = '{family}' and metrics.loss < 0.7")]
        assert [r.info.run_id for r in search("metrics.baseline.log_loss > 0", order_by=["start_time ASC"])] == turned[1]
        assert search("attributes.status = 'FAILED'") == []
        pages = client.search_runs([best[0].info.experiment_id], max_results=4)
        assert len(pages) == 4
        rest = client.search_runs([best[0].info.experiment_id], page_token=pages.token)
        assert len({r.info.run_id for r in [*pages, *rest]}) == len(search())

    def test_what_treadle_recorded_cannot_be_changed(self, client: Any, turned: Turned) -> None:
        run = turned[1][0]
        for change in (
            lambda: client.log_metric(run, "log_loss", 0.0),
            lambda: client.set_tag(run, "k", "v"),
            lambda: client.delete_run(run),
            lambda: client.delete_experiment(mlflow.get_experiment_by_name(SCOPE).experiment_id),
        ):
            with pytest.raises(MlflowException, match="stands as it is") as refused:
                change()
            assert refused.value.error_code == "PERMISSION_DENIED"


class TestLogging:
    def test_a_logged_run_is_found_with_a_filter(self, client: Any) -> None:
        mlflow.set_experiment("filters")
        for family, loss in (("boosting", 0.4), ("boosting", 0.6), ("linear", 0.3)):
            with mlflow.start_run(run_name=f"{family} {loss}"):
                mlflow.log_params({"family": family, "depth": 3})
                mlflow.log_metric("loss", loss)
        found = search("metrics.loss < 0.5 and params.family = 'boosting'", "filters")
        assert [r.info.run_name for r in found] == ["boosting 0.4"]
        assert found[0].data.params == {"family": "boosting", "depth": "3"}
        assert found[0].info.status == "FINISHED"
        assert {r.info.run_name for r in search("attributes.run_name LIKE 'boosting%'", "filters")} == {"boosting 0.4", "boosting 0.6"}

    def test_a_second_process_sees_it_and_the_first_sees_what_the_second_logs(self, client: Any, address: str) -> None:
        mlflow.set_experiment("two processes")
        with mlflow.start_run() as run:
            mlflow.log_metric("loss", 0.25)
        script = (
            "import mlflow, sys; mlflow.set_tracking_uri(sys.argv[1]); print(mlflow.get_run(sys.argv[2]).data.metrics['loss'])\n"
            "mlflow.set_experiment('two processes')\nwith mlflow.start_run(run_name='other'): mlflow.log_metric('loss', 0.5)"
        )
        done = subprocess.run([sys.executable, "-c", script, address, run.info.run_id], capture_output=True, text=True, check=True)
        assert "0.25" in done.stdout
        assert [r.data.metrics["loss"] for r in search("attributes.run_name = 'other'", "two processes")] == [0.5]

    def test_a_metric_keeps_its_history_and_shows_its_last_step(self, client: Any) -> None:
        mlflow.set_experiment("histories")
        with mlflow.start_run() as run:
            for step in (2, 0, 1):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_metric("odd", math.nan)
        assert mlflow.get_run(run.info.run_id).data.metrics["loss"] == 1 / 3
        assert math.isnan(mlflow.get_run(run.info.run_id).data.metrics["odd"])
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [(m.step, m.value) for m in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]

    def test_a_batch_is_logged_whole_or_not_at_all(self, client: Any) -> None:
        mlflow.set_experiment("batches")
        with mlflow.start_run() as run:
            id = run.info.run_id
            client.log_batch(id, [Metric("loss", 0.5, 1_700_000_000_000, 3)], [Param("depth", "3")], [RunTag("team", "ops")])
            with pytest.raises(MlflowException, match="Changing param values is not allowed") as refused:
                client.log_batch(id, [Metric("other", 1.0, 1_700_000_000_000, 0)], [Param("depth", "4")], [RunTag("team", "it")])
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
        data = mlflow.get_run(id).data
        assert (data.metrics, data.params, data.tags["team"]) == ({"loss": 0.5}, {"depth": "3"}, "ops")
        assert client.get_metric_history(id, "loss")[0].timestamp == 1_700_000_000_000

    def test_threads_that_log_to_one_run_lose_nothing(self, client: Any) -> None:
        mlflow.set_experiment("threads")
        with mlflow.start_run() as run, ThreadPoolExecutor(8) as pool:
            barrier = threading.Barrier(8)

            def log(number: int) -> None:
                barrier.wait()
                client.log_param(run.info.run_id, f"p{number}", number)
                client.log_metric(run.info.run_id, f"m{number}", number)

            list(pool.map(log, range(8)))
        data = mlflow.get_run(run.info.run_id).data
        assert len(data.params) == len(data.metrics) == 8

    def test_a_run_that_raised_is_failed(self, client: Any) -> None:
        mlflow.set_experiment("failures")
        with pytest.raises(ZeroDivisionError), mlflow.start_run():
            raise ZeroDivisionError
        assert [r.info.status for r in search("attributes.status = 'FAILED'", "failures")] == ["FAILED"]

    def test_a_deleted_run_is_not_found_until_it_is_restored(self, client: Any) -> None:
        mlflow.set_experiment("deletions")
        with mlflow.start_run() as run:
            pass
        client.delete_run(run.info.run_id)
        assert search("", "deletions") == []
        assert len(search("", "deletions", run_view_type=ViewType.DELETED_ONLY)) == 1
        with pytest.raises(MlflowException, match="restore it first"):
            client.set_tag(run.info.run_id, "k", "v")
        client.restore_run(run.info.run_id)
        client.set_tag(run.info.run_id, "k", "v")
        client.delete_tag(run.info.run_id, "k")
        assert "k" not in search("", "deletions")[0].data.tags

    def test_artifacts_lie_in_the_projects_home(self, client: Any, turned: Turned) -> None:
        mlflow.set_experiment("artifacts")
        with mlflow.start_run() as run:
            mlflow.log_text("hello", "notes/first.txt")
        assert [f.path for f in client.list_artifacts(run.info.run_id, "notes")] == ["notes/first.txt"]
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes/first.txt") == "hello"
        assert list((turned[0].settings.home / "mlflow").rglob("first.txt"))

    def test_the_data_a_run_was_given_are_kept(self, client: Any) -> None:
        mlflow.set_experiment("inputs")
        with mlflow.start_run() as run:
            mlflow.log_input(MetaDataset(HTTPDatasetSource("https://example.org/rows.csv"), name="rows"), context="training")
        (given,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
        assert given.dataset.name == "rows"
        assert [(t.key, t.value) for t in given.tags] == [("mlflow.data.context", "training")]
        assert len(search("dataset.name = 'rows'", "inputs")) == 1

    def test_one_may_log_beside_treadles_runs_and_without_any_experiment(self, client: Any) -> None:
        mlflow.set_experiment(SCOPE)
        with mlflow.start_run(run_name="by hand"):
            mlflow.log_metric("loss", 0.9)
        assert len(search("attributes.run_name = 'by hand'")) == 1
        mlflow.set_experiment(experiment_id="0")
        with mlflow.start_run(run_name="default"):
            pass
        assert len(search("", "Default")) == 1


class TestExperiments:
    def test_they_are_made_tagged_renamed_deleted_and_restored(self, client: Any) -> None:
        id = client.create_experiment("first", tags={"team": "ops"})
        client.set_experiment_tag(id, "level", "2")
        client.rename_experiment(id, "second")
        assert client.get_experiment(id).tags == {"team": "ops", "level": "2"}
        assert [e.experiment_id for e in client.search_experiments(filter_string="tags.team = 'ops'")] == [id]
        again = client.create_experiment("first")  # the name is free again
        assert again != id
        run = client.create_run(id)
        client.delete_experiment(id)
        assert client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
        with pytest.raises(MlflowException, match="deleted; restore it"):
            client.create_experiment("second")
        client.restore_experiment(id)
        assert client.get_run(run.info.run_id).info.lifecycle_stage == "active"

    def test_a_name_is_given_once(self, client: Any) -> None:
        client.create_experiment("once")
        for name in ("once", SCOPE, "Default"):
            with pytest.raises(MlflowException, match="already exists") as refused:
                client.create_experiment(name)
            assert refused.value.error_code == "RESOURCE_ALREADY_EXISTS"

    def test_a_project_without_runs_has_the_default_one(self, folder_address: str) -> None:
        client = mlflow.MlflowClient(tracking_uri=folder_address)
        assert [e.name for e in client.search_experiments()] == ["Default"]
        assert client.search_runs(["0"]) == []


class TestWhatIsRefused:
    def test_an_unknown_run_or_experiment_does_not_exist(self, client: Any) -> None:
        for ask in (
            lambda: client.get_run("no-such-run"),
            lambda: client.get_metric_history("no-such-run", "loss"),
            lambda: client.log_metric("no-such-run", "loss", 1.0),
            lambda: client.get_experiment("no-such-experiment"),
        ):
            with pytest.raises(MlflowException) as refused:
                ask()
            assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"

    def test_what_treadle_does_not_keep_is_refused_by_name(self, client: Any) -> None:
        with pytest.raises(MlflowException, match=r"search_traces\(\) is not implemented") as refused:
            client.search_traces(locations=["0"])
        assert refused.value.error_code == "NOT_IMPLEMENTED"

    def test_a_wrong_filter_is_said_to_be_wrong(self, client: Any) -> None:
        with pytest.raises(MlflowException, match="Invalid") as refused:
            search("metric is small")
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"

    @pytest.mark.parametrize("address", ["treadle://host/folder", "treadle:relative", "treadle:///no/such/folder"])
    def test_an_address_that_names_no_project_is_refused(self, address: str) -> None:
        with pytest.raises(MlflowException, match=r"treadle:///absolute/path|no project\.py"):
            mlflow.MlflowClient(tracking_uri=address).search_experiments()
