"""Files that would run code when a model is read, under whatever name and in whatever wrapping: they are refused in a sentence, and the code never runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from treadle.assemble import formats
from treadle.backends import environments, mlmodel_format
from treadle.backends.onnx_file import Wish, describe
from treadle.core.errors import DataError, Refused, TreadleError


class Evil:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "it-ran"


def wrapped(marker: Path) -> dict[str, bytes]:
    """The same payload as itself and wrapped."""
    import cloudpickle
    import joblib

    plain = pickle.dumps(Evil(marker))
    inside, dumped, array = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inside, "w") as out:
        out.writestr("schema.json", plain)
        out.writestr("data.pkl", plain)
    joblib.dump(Evil(marker), dumped, compress=3)
    np.save(array, np.array([Evil(marker)], dtype=object), allow_pickle=True)
    return {
        "pickle": plain, "protocol 0": pickle.dumps(Evil(marker), protocol=0), "cloudpickle": cloudpickle.dumps(Evil(marker)), "zip": inside.getvalue(),
        "gzip": gzip.compress(plain), "joblib": dumped.getvalue(), "numpy": array.getvalue(),
    }  # fmt: skip


def test_the_payload_would_run(marker: Path) -> None:
    pickle.loads(wrapped(marker)["pickle"])
    assert marker.exists()


@pytest.mark.parametrize("name", ["onnx", "onnx-file", "lightgbm", "xgboost", "skops"])
def test_no_format_that_is_data_runs_what_lies_in_the_place_of_its_model(name: str, marker: Path, tmp_path: Path) -> None:
    info = {
        "format": name, "file": "model.bin", "files": ["model.bin"], "width": 2, "classes": None, "task": "regression", "types": [], "inputs": [],
        "output": "y", "link": "", "one_by_one": False, "written_with": "1", "outputs": 1, "best_iteration": None, "encoder": [], "nodes": {}, "base": 0.0,
        "objective": "", "probability": "y", "missing": None, "linear": False,
    }  # fmt: skip
    for content in wrapped(marker).values():
        (tmp_path / "model.bin").write_bytes(content)
        with pytest.raises(TreadleError):
            formats()[name]().load(tmp_path, {**info, "sha256": hashlib.sha256(content).hexdigest()})
    assert not marker.exists()


@pytest.mark.parametrize("suffix", ["onnx", "pkl", "joblib", "npy"])
def test_a_payload_is_not_taken_over_under_any_name(suffix: str, marker: Path, tmp_path: Path) -> None:
    for content in wrapped(marker).values():
        path = tmp_path / f"model.{suffix}"
        path.write_bytes(content)
        with pytest.raises(TreadleError):
            describe(path, Wish())
    assert not marker.exists()


def test_a_skops_file_with_a_type_that_is_not_trusted_names_it_and_no_other_loader_tries(marker: Path, tmp_path: Path) -> None:
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    (tmp_path / "model.skops").write_bytes(skops.io.dumps(FunctionTransformer(Path.touch)))
    info = {"file": "model.skops", "width": 1, "classes": None, "types": [], "written_with": "1"}
    with pytest.raises(Refused, match=r"holds a (pathlib|builtins)\."):
        formats()["skops"]().load(tmp_path, info)


@pytest.mark.parametrize(
    "line",
    ["evil @ https://example.org/evil.whl", "https://example.org/evil.whl", "git+https://example.org/evil", "-e .", "./evil", "--index-url https://example.org", "evil", "evil>=1", "evil==1.*", "evil==1 --hash=x"],
)
def test_a_requirement_that_is_not_one_version_of_a_package_of_the_index_is_refused(line: str) -> None:
    with pytest.raises(Refused, match="is not a package pinned to one version"):
        environments.pinned(["numpy==2.0.0", line], "requirements.txt")


@pytest.mark.parametrize("make", [lambda m: f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{m}']]", lambda m: f"flavors: !!python/object/apply:os.system ['touch {m}']"])
def test_a_model_file_with_yaml_that_makes_objects_is_refused(make: Callable[[Path], str], marker: Path, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text(make(marker))
    with pytest.raises(DataError, match="cannot be read"):
        mlmodel_format.describe(tmp_path, Wish(), None, 1.0)
    assert not marker.exists()
