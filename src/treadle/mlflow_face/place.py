"""What both stores share: the project a `treadle:` address names, and the refusal of what Treadle does not keep."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, NOT_IMPLEMENTED

from treadle.assemble import Workspace
from treadle.core.errors import TreadleError
from treadle.project_file import PROJECT_FILE
from treadle.settings import read_settings

S = TypeVar("S", bound=type)


def workspace_at(address: str) -> Workspace:
    """The workspace of `treadle:///absolute/folder`. The project file is not run: everything shown stands in the ledger.

    Raises: MlflowException when the address names no project folder.
    """
    parts = urlsplit(address)
    folder = Path(unquote(parts.path))
    if parts.scheme != "treadle" or parts.netloc or not folder.is_absolute() or parts.query or parts.fragment:
        raise MlflowException(f"{address!r} is no address of a Treadle project. Write treadle:///absolute/path.", INVALID_PARAMETER_VALUE)
    if not (folder / PROJECT_FILE).is_file():
        raise MlflowException(f"There is no {PROJECT_FILE} in {str(folder)!r}. Name a project's folder.", INVALID_PARAMETER_VALUE)
    try:
        return Workspace(folder.resolve(), read_settings(folder.resolve()))
    except TreadleError as error:
        raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error


def refuse_the_rest(*, keep: Collection[str]) -> Callable[[S], S]:
    """Class decorator: every public method that the store does not define itself and that is not in `keep` raises NOT_IMPLEMENTED, by its name."""

    def close(store: S) -> S:
        for name in dir(store):
            if not name.startswith("_") and name not in keep and name not in vars(store) and callable(getattr(store, name)):
                setattr(store, name, _refusal(name))
        return store

    return close


def _refusal(name: str) -> Callable[..., Any]:
    def refused(self: Any, *arguments: Any, **named: Any) -> Any:
        raise MlflowException(f"{name}() is not implemented: Treadle keeps experiments, runs and registered models for MLflow.", NOT_IMPLEMENTED)

    refused.__name__ = name
    return refused
