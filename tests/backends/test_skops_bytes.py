"""A model packed twice is the same file: a package's digest says whether two trainings gave the same model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import hashlib, sys
from pathlib import Path
import numpy as np, polars as pl
from sklearn.calibration import CalibratedClassifierCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from treadle.backends.skops_format import SkopsFormat
from treadle.training.encoding import make_pipeline
kind = {"neighbours": KNeighborsClassifier(), "calibrated": CalibratedClassifierCV(SVC(), ensemble=False)}[sys.argv[1]]
x = np.random.default_rng(0).normal(size=(300, 2))
frame, truth = pl.DataFrame({"a": x[:, 0], "b": x[:, 1]}), (x[:, 0] > 0).astype(int)
fitted = make_pipeline(kind, ["a", "b"], [], linear=True, task="binary").fit(frame, truth)
folder = Path(sys.argv[2])
info = SkopsFormat().save(fitted, folder)
scorer = SkopsFormat().load(folder, info)
print(hashlib.sha256((folder / info["file"]).read_bytes()).hexdigest())
"""


@pytest.mark.parametrize("kind", [pytest.param("neighbours", marks=pytest.mark.slow), "calibrated"])
def test_the_same_model_is_the_same_file_in_another_process(kind: str, tmp_path: Path) -> None:
    said = {
        subprocess.run([sys.executable, "-c", CODE, kind, str(tmp_path / n)], capture_output=True, text=True, check=True).stdout for n in ("one", "two")
    }
    assert len(said) == 1
