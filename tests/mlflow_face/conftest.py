"""One project whose wheel was turned twice (the second time everything was there), and MLflow's client pointed at it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when mlflow is imported
mlflow = pytest.importorskip("mlflow")

from treadle.assemble import Workspace, open_workspace  # noqa: E402
from treadle.data.write_project import write_blank  # noqa: E402
from treadle.wheel.turn import turn  # noqa: E402

CAUSE = {"kind": "person", "id": "", "text": "a test"}


@pytest.fixture(scope="session")
def turned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, list[str]]:
    """The workspace, and the ids of its two runs."""
    folder = tmp_path_factory.mktemp("a project with a space")
    write_blank(folder, "demo")
    file = folder / "project.py"
    file.write_text(file.read_text().replace("    split=", "    trials=4,\n    split="))
    ws = open_workspace(folder)
    return ws, [turn(ws, ws.model(), cause=CAUSE).run.id for _ in range(2)]


@pytest.fixture
def address(turned: tuple[Workspace, list[str]]) -> str:
    return turned[0].folder.as_uri().replace("file:", "treadle:")


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    """MLflow's own client, and its fluent functions, on the project."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(address)
    yield mlflow.MlflowClient()
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


@pytest.fixture
def folder_address(tmp_path: Path) -> str:
    """A project in which nothing has run yet."""
    write_blank(tmp_path / "empty", "empty")
    return (tmp_path / "empty").as_uri().replace("file:", "treadle:")
