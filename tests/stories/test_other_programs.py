"""Other programs read what Treadle packs, and Treadle serves what they made: MLflow and OpenSSF's model signing, each in an environment of its own.

They are installed by pip into a temporary folder, which takes minutes: run with `make test-slow`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.backends import environments
from treadle.client import Endpoint
from treadle.core.errors import Refused, TreadleError, Unavailable
from treadle.data.write_project import write_blank
from treadle.live.deploy import deploy, stop
from treadle.registry import keys, packages, versions
from treadle.testing.command import treadle
from treadle.wheel.turn import turn

pytestmark = [pytest.mark.story, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
LOAD = """
import json, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pd.DataFrame(json.loads(sys.argv[2]))
rows["ordered_at"] = pd.to_datetime(rows["ordered_at"], utc=True).dt.tz_localize(None)
print(model.predict(rows).to_json(orient="records"))
"""
SAVE = """
import json, os, sys, time
import mlflow, numpy as np, pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
out = sys.argv[1]
rng = np.random.default_rng(0)
rows = pd.DataFrame({"amount": rng.gamma(2, 30, 300), "age": rng.integers(18, 80, 300)})
truth = np.where(rows.amount + rng.normal(size=300) * 10 > 60, "back", "kept")
fitted = LogisticRegression(max_iter=1000).fit(rows, truth)
mlflow.sklearn.save_model(fitted, out + "/churn", signature=infer_signature(rows, fitted.predict(rows)), serialization_format="cloudpickle")
mlflow.sklearn.save_model(fitted, out + "/unsigned", serialization_format="cloudpickle")
json.dump([{"row": {"amount": float(r.amount), "age": int(r.age)}, "answer": str(said)} for r, said in zip(rows.head(20).itertuples(), fitted.predict(rows))],
          open(out + "/examples.json", "w"))

class Moody(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        first = float(model_input["amount"].iloc[0])
        if first == 1: time.sleep(3600)
        if first == 2: os._exit(3)
        if first == 3: raise ValueError("in a mood")
        return (model_input["amount"] * 2).tolist()

mlflow.pyfunc.save_model(out + "/moody", python_model=Moody(), signature=infer_signature(rows[["amount"]], pd.Series([1.0])))
"""


def environment(folder: Path, *packages_: str) -> Path:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages_], check=True, capture_output=True)
    return python


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with MLflow and what a server of Treadle needs; Treadle itself from this source."""
    serve = ("msgspec", "polars", "onnxruntime", "cryptography", "click", "jinja2", "beartype", "cronsim", "pandera[polars]")
    return environment(tmp_path_factory.mktemp("mlflow"), "mlflow==3.17.2", *serve)


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("project") / "late"
    write_blank(folder, "late")
    with (folder / "treadle.toml").open("a") as out:
        out.write('model_code = "yes"\n')
    ws = open_workspace(folder)
    turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "a test"})
    yield ws
    for name in (ws.model().name, "churn", "moody"):
        with suppress(TreadleError):
            stop(ws, name)


def call(python: Path, code: str, *arguments: str) -> str:
    done = subprocess.run([str(python), "-c", code, *arguments], capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def test_mlflow_opens_a_package_and_answers_as_the_endpoint_does(ws: Workspace, mlflow: Path) -> None:
    model = ws.model()
    folder, _ = packages.open_package(versions.get(model.name, 1, ws.ledger)["package"], ws.blobs, ws.shelf)
    rows: list[dict[str, Any]] = [
        {"city": "Ghent", "distance_km": 3.2, "items": 1, "rain": True, "courier_months": 4.0, "ordered_at": "2024-01-01T12:00:00"},
        {"city": "nowhere", "distance_km": 12.5, "items": 7, "rain": False, "courier_months": None, "ordered_at": "2024-02-01T19:30:00"},
    ]
    said = json.loads(call(mlflow, LOAD, str(folder), json.dumps(rows)))
    for answer, row in zip(said, Endpoint(deploy(ws, model)["url"]).predict_many(rows)):
        assert answer["prediction"] == row["prediction"]
        assert answer["probability_true"] == pytest.approx(row["probability"], abs=1e-6)


def test_an_mlmodel_folder_is_served_from_an_environment_made_for_it(ws: Workspace, mlflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    call(mlflow, SAVE, str(tmp_path))
    wanted = (tmp_path / "churn" / "requirements.txt").read_text().splitlines()
    assert environments.python_of(environments.pinned(wanted, "requirements.txt")).is_file()  # takes minutes; the command finds it ready
    given = ["--labels", "back,kept", "--examples", str(tmp_path / "examples.json"), "--reason", "team B's"]
    assert "20 examples answered" in treadle(ws.folder, "register", "churn", str(tmp_path / "churn"), *given).stdout
    endpoint = Endpoint(deploy(ws, ws.model("churn"))["url"])
    assert endpoint.predict({"amount": 500.0, "age": 30})["prediction"] == "back"
    assert endpoint.predict({"amount": 1.0, "age": 30})["probabilities"] == {"back": 0.0, "kept": 1.0}
    rows = pl.DataFrame({"amount": [500.0, 1.0, 60.0, 61.0], "age": [30, 30, 1, 99]})
    rows.write_parquet(tmp_path / "rows.parquet")
    treadle(ws.folder, "score", "churn", "--data", str(tmp_path / "rows.parquet"), "--to", str(tmp_path / "answers.parquet"))
    answers = pl.read_parquet(tmp_path / "answers.parquet")
    for row, answer in zip(rows.iter_rows(named=True), answers.iter_rows(named=True)):
        told = endpoint.predict(row)
        assert (told["prediction"], told["probability"]) == (answer["prediction"], answer["probability"])
    unsigned = treadle(ws.folder, "register", "other", str(tmp_path / "unsigned"), "--labels", "a,b", "--reason", "x", expect=4)
    assert "was logged without a signature" in unsigned.stderr
    (tmp_path / "churn" / "requirements.txt").write_text("scikit-learn @ https://example.org/evil.whl\n")
    direct = treadle(ws.folder, "register", "other", str(tmp_path / "churn"), "--labels", "a,b", "--reason", "x", expect=4)
    assert "is not a package pinned to one version" in direct.stderr
    forbidden = treadle(ws.folder, "register", "other", str(tmp_path / "churn"), "--reason", "x", expect=4, env={"TREADLE_MODEL_CODE": "no"})
    assert "this project does not allow that" in forbidden.stderr

    given = ["--python", str(mlflow), "--number", "--seconds", "3", "--reason", "moods"]
    treadle(ws.folder, "register", "moody", str(tmp_path / "moody"), *given)
    endpoint = Endpoint(deploy(ws, ws.model("moody"))["url"])
    assert endpoint.predict({"amount": 21.0})["prediction"] == 42.0
    with pytest.raises(TreadleError, match="ValueError: in a mood"):
        endpoint.predict({"amount": 3.0})
    for first in (1.0, 2.0):
        with pytest.raises(Unavailable, match="starts again"):
            endpoint.predict({"amount": first})
        while True:
            with suppress(Unavailable):
                assert endpoint.predict({"amount": 21.0})["prediction"] == 42.0
                break
            time.sleep(0.2)


def test_openssfs_program_checks_our_signatures_and_we_check_its(ws: Workspace, tmp_path: Path) -> None:
    from treadle.registry import signing

    python = environment(tmp_path / "model-signing", "model-signing==1.1.1", "pyOpenSSL")
    program = str(python.with_name("model_signing"))
    folder, _ = packages.open_package(versions.get(ws.model().name, 1, ws.ledger)["package"], ws.blobs, ws.shelf)
    (tmp_path / "key.pub").write_text(treadle(ws.folder, "signing", "show").stdout)
    check = [program, "verify", "key", str(folder), "--signature", str(folder / "model.sig"), "--public_key", str(tmp_path / "key.pub")]
    assert "Verification succeeded" in subprocess.run(check, capture_output=True, text=True, check=True).stdout
    whole = (folder / "MLmodel").read_bytes()
    (folder / "MLmodel").write_bytes(whole + b" ")
    assert subprocess.run(check, capture_output=True, text=True, check=False).returncode != 0
    (folder / "MLmodel").write_bytes(whole)

    theirs = tmp_path / "theirs.sig"
    private = str(ws.keys / keys.PRIVATE)
    subprocess.run([program, "sign", "key", str(folder), "--private_key", private, "--signature", str(theirs), "--ignore-paths", str(folder / "model.sig")], check=True, capture_output=True)
    files = dict(versions.get(ws.model().name, 1, ws.ledger)["package"]["files"])
    assert signing.verify(theirs.read_bytes(), files, ws.shelf.trust).name == "late"
    with pytest.raises(Refused):
        signing.verify(theirs.read_bytes(), files, signing.Trust({"x": signing.Key("x", "", "")}))
