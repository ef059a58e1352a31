"""What is loaded when: the face and the command line stay light, and a serving process knows nothing of training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

STDLIB = set(sys.stdlib_module_names)


def loaded_by(code: str) -> set[str]:
    """Top-level modules a fresh interpreter has loaded after running `code`, without those it starts with."""
    script = f"import sys; before = set(sys.modules)\n{code}\nimport json; print(json.dumps(sorted({{m.split('.')[0] for m in set(sys.modules) - before}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1])) - STDLIB


def test_import_treadle_loads_no_third_party_module() -> None:
    assert loaded_by("import treadle") == {"treadle"}


def test_a_project_file_can_be_declared_without_loading_a_third_party_module() -> None:
    code = "import treadle as tr; p = tr.Project('a'); d = p.dataset('d', source=tr.csv('x.csv'), key='id'); p.model('m', rows=d, target='y', inputs=['x'])"
    assert loaded_by(code) == {"treadle"}


def test_the_help_of_the_command_line_loads_nothing_but_click() -> None:
    assert loaded_by("from treadle.cli.main import main; main(['--help'])") <= {"treadle", "click"}


@pytest.mark.story
def test_a_serving_process_loads_nothing_of_training(tmp_path: Path) -> None:
    code = f"""
import os
from pathlib import Path
from treadle.web.server import Server
from treadle.assemble import Workspace
from treadle.settings import read_settings
server = Server(Workspace(Path({str(tmp_path)!r}), read_settings(Path({str(tmp_path)!r}))), "m", "127.0.0.1", 1, True)
server._journal.close()
from treadle.backends.onnx_format import OnnxFormat
import onnxruntime
import httptools
import uvloop
"""
    training = {"sklearn", "lightgbm", "optuna", "scipy", "pandas", "polars", "pandera", "mlflow", "onnx", "skops", "joblib", "xgboost"}
    assert loaded_by(code) & training == set()


def test_every_name_of_the_face_exists_and_nothing_else_does() -> None:
    import treadle

    for name in treadle.__all__:
        assert getattr(treadle, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = treadle.nothing
