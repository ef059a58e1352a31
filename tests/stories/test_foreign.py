"""Models made elsewhere, and models that need their own library, are served like others: packed, signed, checked on rows, deployed, answered over HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.backends.onnx_file import Wish
from treadle.client import Endpoint
from treadle.core.errors import Conflict, Corrupt, InvalidRequest, NotFound, Refused, TreadleError, UsageError
from treadle.live.deploy import deploy, stop
from treadle.registry import packages, versions
from treadle.testing.command import treadle
from treadle.wheel.take_over import onnx_file
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story

PROJECT = """import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

import treadle as tr


class Nearer(ClassifierMixin, BaseEstimator):
    \"\"\"An estimator of the project's own: which class's mean is nearer.\"\"\"

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.array([X[y == c].mean(axis=0) for c in self.classes_])
        return self

    def predict_proba(self, X):
        near = np.exp(-np.abs(X[:, None, :] - self.means_[None]).sum(axis=2))
        return near / near.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def linear_trees(n_estimators=20):
    from lightgbm import LGBMRegressor

    return LGBMRegressor(n_estimators=n_estimators, linear_tree=True, n_jobs=1, verbose=-1, min_child_samples=10)


def dropping_trees(n_estimators=10):
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=n_estimators, booster="dart", rate_drop=0.1, n_jobs=1, max_depth=3)


project = tr.Project("orders")
orders = project.dataset("orders", source=tr.parquet("orders.parquet"), key="order")
project.model("worth", rows=orders, target="paid", inputs=["amount", "shop"], trials=1, gates=[tr.enough_rows(10)],
    candidates=[tr.candidate("linear trees", linear_trees, n_estimators=[20])])
project.model("risk", rows=orders, target="returned", inputs=["amount", "shop"], trials=1, gates=[tr.enough_rows(10)],
    candidates=[tr.candidate("dropping trees", dropping_trees, n_estimators=[10])])
project.model("returns", rows=orders, target="returned", inputs=["amount", "shop"], trials=1, gates=[tr.enough_rows(10)],
    candidates=[tr.candidate("nearer", Nearer)])
"""


ASKED = pl.DataFrame({"amount": [float(i) * 7 for i in range(39)] + [float("inf")], "shop": ["north", "south", "elsewhere", None] * 10})


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("foreign")
    rng = np.random.default_rng(0)
    amount = rng.gamma(2.0, 30.0, 400)
    returned = rng.random(400) < 1 / (1 + np.exp(-0.1 * (amount - 60)))
    frame = {"order": range(400), "amount": amount, "shop": rng.choice(["north", "south"], 400), "returned": returned, "paid": amount * 1.5 + 3}
    pl.DataFrame(frame).write_parquet(folder / "orders.parquet")
    (folder / "project.py").write_text(PROJECT)
    ws = open_workspace(folder)
    yield ws
    for name in ("worth", "risk", "returns", "file-type"):
        with suppress(TreadleError):
            stop(ws, name)


def scored(ws: Workspace, model: str, rows: pl.DataFrame, endpoint: Endpoint, folder: Path, **env: str) -> pl.DataFrame:
    """What `treadle score` answers to the rows; those that are not refused as the endpoint answers them one by one."""
    rows.write_parquet(folder / f"{model}.parquet")
    out = folder / f"{model}-answers.parquet"
    treadle(ws.folder, "score", model, "--data", str(folder / f"{model}.parquet"), "--to", str(out), "--keep", "row", env=env)
    answers = pl.read_parquet(out)
    for row, answer in zip(rows.iter_rows(named=True), answers.iter_rows(named=True)):
        if answer["refused"] is None:
            said = endpoint.predict({name: value for name, value in row.items() if value is not None})
            assert said["prediction"] == answer["prediction"]
            for label, p in (said.get("probabilities") or {}).items() if "probability" not in answer else [("", said["probability"])]:
                assert p == answer[f"probability_{label}" if label else "probability"]
        else:
            with pytest.raises((InvalidRequest, UsageError)):  # an infinite number is no JSON
                endpoint.predict(row)
    return answers


def bytes_of(content: bytes) -> list[int]:
    """A file as magika's model takes it: 1,024 bytes from both ends without the white space around, 256 where there is none."""
    head, tail = content[:4096].lstrip()[:1024], content[-4096:].rstrip()[-1024:]
    return [*head, *[256] * (1024 - len(head)), *[256] * (1024 - len(tail)), *tail]


@pytest.fixture(scope="module")
def magika() -> Any:
    import magika

    return magika


def test_a_vendors_onnx_file_answers_over_http_as_the_vendors_program_does(ws: Workspace, magika: Any, tmp_path: Path) -> None:
    folder = Path(magika.__file__).parent / "models" / "standard_v3_3"
    labels = json.loads((folder / "config.min.json").read_text())["target_labels_space"]
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    root = Path(__file__).resolve().parents[2]
    contents = [(root / name).read_bytes() for name in ("README.md", "pyproject.toml", "docs/loop.svg", "src/treadle/live/deploy.py", "docs/report.png", "Makefile")]
    program = magika.Magika()
    said = [program.identify_bytes(content) for content in contents]
    examples = [{"row": {"bytes": bytes_of(c)}, "answer": str(s.dl.label)} for c, s in zip(contents, said)]
    (tmp_path / "examples.json").write_text(json.dumps(examples))

    given = ["--labels", str(tmp_path / "labels.json"), "--examples", str(tmp_path / "examples.json"), "--reason", "the vendor's model"]
    told = treadle(ws.folder, "register", "file-type", str(folder / "model.onnx"), *given).stdout
    assert "file-type.v1: multiclass" in told
    assert "6 examples answered as they must be" in told
    assert "file-type.v1" in treadle(ws.folder, "models").stdout
    assert "No rows were judged here" in treadle(ws.folder, "models", "file-type", "--version", "1").stdout

    endpoint = Endpoint(deploy(ws, ws.model("file-type"))["url"])
    for content, expected in zip(contents, said):
        answer = endpoint.predict({"bytes": bytes_of(content)})
        assert answer["prediction"] == str(expected.dl.label)
        assert answer["probabilities"][answer["prediction"]] == pytest.approx(expected.score, abs=1e-5)
    with pytest.raises(InvalidRequest, match="must be a list of 2048 numbers, not of 3"):
        endpoint.predict({"bytes": [1, 2, 3]})
    with pytest.raises(InvalidRequest, match=r"at place 1 must be at most 2\.14748e"):
        endpoint.predict({"bytes": [1, 2**40, *[0] * 2046]})

    rows = pl.DataFrame({"bytes": [*map(bytes_of, contents), [1] * 2048, [1, 2, 3], [2**40, *[0] * 2047]]})
    answers = scored(ws, "file-type", rows, endpoint, tmp_path)
    assert answers["refused"].is_null().to_list() == [True] * 7 + [False] * 2

    for command in ("card", "readiness", "reproduce"):
        assert "was made elsewhere, so there is no evidence" in treadle(ws.folder, command, "file-type", expect=4).stderr
    path = ws.blobs.path(versions.get("file-type", 1, ws.ledger)["package"]["files"]["model.onnx"])
    whole = path.read_bytes()
    again = onnx_file(ws, "file-type", folder / "model.onnx", Wish(labels=tuple(labels)), reason="a second version", examples=examples[:1])
    assert again["number"] == 2
    path.chmod(0o644)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Corrupt):
        deploy(ws, ws.model("file-type"), number=2, now=True)
    path.write_bytes(whole)
    assert endpoint.predict({"bytes": bytes_of(contents[0])})["version"] == 1
    wrong = [{**examples[0], "answer": "python"}]
    with pytest.raises(Refused, match="The model answers 'markdown', not 'python'"):
        onnx_file(ws, "file-type", folder / "model.onnx", Wish(labels=tuple(labels)), reason="again", examples=wrong)
    with pytest.raises(Conflict, match="The project declares 'worth' itself"):
        onnx_file(ws, "worth", folder / "model.onnx", Wish(), reason="x")
    for name, reason in (("../up", "x"), ("ok", " ")):
        with pytest.raises(UsageError):
            onnx_file(ws, name, folder / "model.onnx", Wish(), reason=reason)
    with pytest.raises(NotFound):
        ws.model("nothing")


def test_a_model_without_an_exact_conversion_is_served_by_its_own_library(ws: Workspace, tmp_path: Path) -> None:
    turn(ws, ws.model("worth"), cause={"kind": "person", "id": "", "text": "a test"})
    version = versions.get("worth", 1, ws.ledger)
    assert version["format"] == "lightgbm"
    assert version["parity"]["rows"] == 400
    assert version["parity"]["largest_difference"] < 1e-9
    endpoint = Endpoint(deploy(ws, ws.model("worth"))["url"])
    assert endpoint.predict({"amount": 100.0, "shop": "north"})["prediction"] == pytest.approx(153.0, rel=0.05)
    assert scored(ws, "worth", ASKED, endpoint, tmp_path)["prediction"].is_not_null().sum() == 39

    turn(ws, ws.model("risk"), cause={"kind": "person", "id": "", "text": "a test"})
    assert versions.get("risk", 1, ws.ledger)["format"] == "xgboost"
    scored(ws, "risk", ASKED, Endpoint(deploy(ws, ws.model("risk"))["url"]), tmp_path)


def test_a_pickle_is_written_and_read_only_where_the_project_says_so(ws: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no form that serves the same answers"):
        turn(ws, ws.model("returns"), cause={"kind": "person", "id": "", "text": "a test"})
    monkeypatch.setenv("TREADLE_MODEL_CODE", "yes")
    allowed = open_workspace(ws.folder)
    turn(allowed, allowed.model("returns"), cause={"kind": "person", "id": "", "text": "a test"})
    version = versions.get("returns", 1, ws.ledger)
    assert version["format"] == "pickle"
    endpoint = Endpoint(deploy(allowed, allowed.model("returns"))["url"])
    assert endpoint.predict({"amount": 500.0, "shop": "north"})["prediction"] is True
    scored(allowed, "returns", ASKED, endpoint, tmp_path)
    with pytest.raises(Refused, match="runs code of its own, and this project does not allow that"):
        packages.open_package(version["package"], ws.blobs, ws.shelf)
    shutil.rmtree(ws.keys)
    with pytest.raises(Refused, match="no key is trusted that could have signed it"):
        packages.open_package(version["package"], allowed.blobs, allowed.shelf)
