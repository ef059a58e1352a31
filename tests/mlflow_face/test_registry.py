"""MLflow's model registry shows Treadle's versions, and lets nobody past the gates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.exceptions import MlflowException

from treadle.assemble import Workspace

MODEL = "deliveries-late"
Turned = tuple[Workspace, list[str]]


@pytest.fixture
def deployed(turned: Turned) -> Iterator[None]:
    """Version 1 answers; a deployment record says so."""
    ledger = turned[0].ledger
    ledger.put("deployment", MODEL, {"champion": 1, "challenger": None, "stage": "none", "share": 0.0, "since": "", "previous": []})
    yield
    ledger.put("deployment", MODEL, {"champion": None, "challenger": None, "stage": "stopped", "share": 0.0, "since": "", "previous": []})


def test_treadles_models_are_the_registered_models(client: Any) -> None:
    (model,) = client.search_registered_models()
    assert model.name == MODEL
    assert model.tags == {"treadle.project": "demo", "treadle.owner": "me"}
    assert [v.version for v in model.latest_versions] == ["1"]
    assert client.get_registered_model(MODEL).name == MODEL
    assert client.search_registered_models("name = 'another'") == []


def test_a_version_says_how_it_was_judged_and_which_run_made_it(client: Any, turned: Turned) -> None:
    version = client.get_model_version(MODEL, "1")
    assert version.tags["treadle.verdict"] == "passed"
    assert version.tags["treadle.status"] == "approved"
    assert version.run_id == turned[1][0]
    assert client.get_run(version.run_id).data.tags["treadle.version"] == f"{MODEL}.v1"
    assert [v.version for v in client.search_model_versions(f"name = '{MODEL}' and tags.treadle.verdict = 'passed'")] == ["1"]
    assert client.search_model_versions("tags.treadle.verdict = 'refused'") == []


def test_what_answers_now_has_the_alias_champion(client: Any, deployed: None) -> None:
    assert client.get_model_version_by_alias(MODEL, "champion").version == "1"
    assert client.get_model_version(MODEL, "1").aliases == ["champion"]
    assert client.get_registered_model(MODEL).aliases == {"champion": "1"}


def test_before_a_deployment_nothing_is_champion(client: Any) -> None:
    with pytest.raises(MlflowException, match="treadle deploy") as refused:
        client.get_model_version_by_alias(MODEL, "champion")
    assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_the_package_of_a_version_can_be_downloaded(client: Any, deployed: None, tmp_path: Path) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{MODEL}@champion", dst_path=str(tmp_path)))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["model_name"] == MODEL
    assert (folder / "model.onnx").stat().st_size > 0


def test_every_write_is_refused_with_the_command_that_does_it(client: Any) -> None:
    writes = {
        "create_registered_model": lambda: client.create_registered_model("another"),
        "create_model_version": lambda: client.create_model_version(MODEL, "file:///somewhere"),
        "update_registered_model": lambda: client.update_registered_model(MODEL, "better"),
        "rename_registered_model": lambda: client.rename_registered_model(MODEL, "better"),
        "delete_registered_model": lambda: client.delete_registered_model(MODEL),
        "set_registered_model_tag": lambda: client.set_registered_model_tag(MODEL, "k", "v"),
        "set_registered_model_alias": lambda: client.set_registered_model_alias(MODEL, "champion", "1"),
        "delete_registered_model_alias": lambda: client.delete_registered_model_alias(MODEL, "champion"),
        "set_model_version_tag": lambda: client.set_model_version_tag(MODEL, "1", "treadle.verdict", "passed"),
        "delete_model_version": lambda: client.delete_model_version(MODEL, "1"),
    }
    for name, write in writes.items():
        with pytest.raises(MlflowException, match="treadle deploy") as refused:
            write()
        assert refused.value.error_code == "PERMISSION_DENIED", name
        assert name in str(refused.value)


def test_an_unknown_model_or_version_does_not_exist(client: Any) -> None:
    for ask in (lambda: client.get_registered_model("another"), lambda: client.get_model_version(MODEL, "7")):
        with pytest.raises(MlflowException) as refused:
            ask()
        assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_prompts_and_webhooks_are_refused_by_name(client: Any) -> None:
    with pytest.raises(MlflowException, match="is not implemented") as refused:
        client.create_webhook("hook", "https://example.org/hook", ["registered_model.created"])
    assert refused.value.error_code == "NOT_IMPLEMENTED"
