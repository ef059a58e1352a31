"""MLflow's model registry over Treadle's versions, to look at: `models:/late-arrival@champion` is what answers now.

Versions come from `treadle run` and go to production through `treadle deploy`, on evidence; so every write is refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.prompt.registry_utils import add_prompt_filter_string
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.utils.search_utils import SearchModelUtils, SearchModelVersionUtils, SearchUtils

from treadle.core.errors import TreadleError
from treadle.core.records import Record
from treadle.mlflow_face import convert
from treadle.mlflow_face.place import refuse_the_rest, workspace_at
from treadle.registry import packages, promote, versions

MOST = 200_000  # results a page


def open_store(store_uri: str, tracking_uri: str | None = None) -> LedgerRegistry:
    """The store behind a `treadle:` address; MLflow calls this."""
    return LedgerRegistry(store_uri, tracking_uri)


def _read_only(name: str) -> Callable[..., Any]:
    def refused(self: Any, *arguments: Any, **named: Any) -> Any:
        raise MlflowException(
            f"{name}() is refused: Treadle's registry is read-only through MLflow. Versions are made by `treadle run`, which judges them, "
            "and go to production by `treadle deploy`.",
            PERMISSION_DENIED,
        )

    refused.__name__ = name
    return refused


@refuse_the_rest(keep=())
class LedgerRegistry(AbstractStore):
    """Models and versions of one project's ledger."""

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        super().__init__(store_uri, tracking_uri)
        self._ws = workspace_at(store_uri)

    def get_registered_model(self, name: str) -> RegisteredModel:
        return convert.registered_model(self._versions(name), self._aliases(name))

    def search_registered_models(
        self, filter_string: str | None = None, max_results: int = 100, order_by: list[str] | None = None, page_token: str | None = None
    ) -> PagedList:
        _check_max_results(max_results)
        shown = [convert.registered_model(records, self._aliases(name)) for name, records in self._by_model().items()]
        found = SearchModelUtils.filter(shown, add_prompt_filter_string(filter_string, is_prompt=False))
        return PagedList(*SearchUtils.paginate(SearchModelUtils.sort(found, order_by), page_token, max_results))

    def get_latest_versions(self, name: str, stages: list[str] | None = None) -> list[ModelVersion]:
        newest = convert.model_version(self._versions(name)[-1], self._aliases(name))
        return [newest] if not stages or "None" in stages else []

    def get_model_version(self, name: str, version: str | int) -> ModelVersion:
        return convert.model_version(self._version(name, version), self._aliases(name))

    def get_model_version_by_alias(self, name: str, alias: str) -> ModelVersion:
        aliases = self._aliases(name)
        if alias not in aliases:
            raise MlflowException(f"Model {name!r} has no alias {alias!r}; `treadle deploy` makes 'champion'.", RESOURCE_DOES_NOT_EXIST)
        return self.get_model_version(name, aliases[alias])

    def get_model_version_download_uri(self, name: str, version: str | int) -> str:
        """A folder with the version's package, each file verified."""
        try:
            folder, _ = packages.open_package(self._version(name, version)["package"], self._ws.blobs, self._ws.shelf)
        except TreadleError as error:
            raise MlflowException(str(error), RESOURCE_DOES_NOT_EXIST) from error
        return folder.absolute().as_uri()

    def search_model_versions(
        self, filter_string: str | None = None, max_results: int = 10_000, order_by: list[str] | None = None, page_token: str | None = None
    ) -> PagedList:
        _check_max_results(max_results)
        shown = [convert.model_version(r, self._aliases(name)) for name, records in self._by_model().items() for r in records]
        found = SearchModelVersionUtils.filter(shown, add_prompt_filter_string(filter_string, is_prompt=False))
        ranked = SearchModelVersionUtils.sort(found, order_by or ["last_updated_timestamp DESC", "name ASC", "version_number DESC"])
        return PagedList(*SearchUtils.paginate(ranked, page_token, max_results))

    create_registered_model = _read_only("create_registered_model")
    update_registered_model = _read_only("update_registered_model")
    rename_registered_model = _read_only("rename_registered_model")
    delete_registered_model = _read_only("delete_registered_model")
    set_registered_model_tag = _read_only("set_registered_model_tag")
    delete_registered_model_tag = _read_only("delete_registered_model_tag")
    set_registered_model_alias = _read_only("set_registered_model_alias")
    delete_registered_model_alias = _read_only("delete_registered_model_alias")
    create_model_version = _read_only("create_model_version")
    copy_model_version = _read_only("copy_model_version")
    update_model_version = _read_only("update_model_version")
    transition_model_version_stage = _read_only("transition_model_version_stage")
    delete_model_version = _read_only("delete_model_version")
    set_model_version_tag = _read_only("set_model_version_tag")
    delete_model_version_tag = _read_only("delete_model_version_tag")

    def _by_model(self) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for record in sorted(self._ws.ledger.find(versions.KIND), key=lambda r: int(r["number"])):
            found.setdefault(record["model"], []).append(record)
        return found

    def _versions(self, name: str) -> list[Record]:
        found = versions.all_versions(name, self._ws.ledger)
        if not found:
            raise MlflowException(f"There is no registered model {name!r}. `treadle run` registers one.", RESOURCE_DOES_NOT_EXIST)
        return found

    def _version(self, name: str, version: str | int) -> Record:
        found = next((r for r in self._versions(name) if str(r["number"]) == str(version)), None)
        if found is None:
            raise MlflowException(f"Model {name!r} has no version {version}.", RESOURCE_DOES_NOT_EXIST)
        return found

    def _aliases(self, name: str) -> dict[str, int]:
        """Champion and challenger, as deployed."""
        record = promote.deployment(name, self._ws.ledger)
        given = {} if record is None else {"champion": record["champion"], "challenger": record["challenger"]}
        return {alias: int(number) for alias, number in given.items() if number is not None}


def _check_max_results(wanted: Any) -> None:
    if not isinstance(wanted, int) or not 1 <= wanted <= MOST:
        raise MlflowException(f"max_results is from 1 to {MOST}, not {wanted!r}.", INVALID_PARAMETER_VALUE)
