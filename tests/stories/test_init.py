"""`treadle init --data` on files it was not made for: the project it writes runs, serves and answers at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from treadle.testing.command import treadle

pytestmark = pytest.mark.story


def cancer(file: Path) -> str:
    """569 tumours, 30 measurements with spaces in their names, two classes as words."""
    data = load_breast_cancer()
    frame = pl.DataFrame(data.data, schema=[str(n) for n in data.feature_names])
    frame.with_columns(pl.Series("diagnosis", [str(data.target_names[t]) for t in data.target])).write_csv(file)
    return "diagnosis"


def wine(file: Path) -> str:
    """178 wines of three growers; semicolons, a byte order mark, and holes."""
    data = load_wine()
    frame = pl.DataFrame(data.data, schema=[str(n) for n in data.feature_names])
    rng = np.random.default_rng(0)
    holes = frame.with_columns(pl.when(pl.Series(rng.random(frame.height) < 0.05)).then(None).otherwise(pl.col("ash")).alias("ash"))
    file.write_text(
        "\ufeff" + holes.with_columns(pl.Series("grower", [f"grower {t + 1}" for t in data.target])).write_csv(separator=";"), encoding="utf-8"
    )
    return "grower"


def diabetes(file: Path) -> str:
    """442 patients, a number to predict."""
    data = load_diabetes()
    pl.DataFrame(data.data, schema=list(data.feature_names)).with_columns(pl.Series("progression", data.target)).write_csv(file)
    return "progression"


@pytest.mark.parametrize("make", [pytest.param(cancer, marks=pytest.mark.slow), wine, pytest.param(diabetes, marks=pytest.mark.slow)])
def test_a_project_for_a_file_it_has_never_seen_runs_serves_and_answers(tmp_path: Path, make: object) -> None:
    assert callable(make)
    file = tmp_path / "some data.csv"
    target = make(file)
    folder = tmp_path / "project"
    treadle(folder, "init", "--data", str(file), "--target", target)
    done = treadle(folder, "run", "--json")
    made = json.loads(done.stdout)
    assert made["verdict"]["passed"], made["verdict"]["reasons"]
    treadle(folder, "deploy")
    try:
        answer = json.loads(treadle(folder, "predict", "--sample").stdout)
        assert "prediction" in answer
        bad = treadle(folder, "predict", "--row", "{}", expect=3)
        assert "is missing" in bad.stderr
    finally:
        treadle(folder, "stop")
    again = treadle(folder, "run")
    assert "nothing has changed" in again.stdout
    planned = treadle(folder, "plan").stdout.splitlines()  # though the version of now is the champion, which it was not judged against
    assert planned[-1].startswith("0 of "), planned


def test_the_blank_project_runs_at_once(tmp_path: Path) -> None:
    treadle(tmp_path / "fresh", "init")
    assert json.loads(treadle(tmp_path / "fresh", "run", "--json").stdout)["verdict"]["passed"]
    assert "already" in treadle(tmp_path / "fresh", "init", expect=6).stderr
