"""Trees asked in bulk answer bit for bit what ONNX Runtime answers of the same file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.backends.onnx_format import OnnxFormat
from treadle.backends.onnx_trees import tree_scorer
from treadle.training.encoding import make_pipeline


def saved(folder: Path, model: Any, *, classes: int = 2, rows: int = 900) -> tuple[dict[str, Any], np.ndarray]:
    """A packaged model, and rows around its thresholds: its own training values, their neighbours in float32, missing and infinite ones."""
    rng = np.random.default_rng(5)
    frame = pl.DataFrame({f"n{i}": np.round(rng.normal(size=rows), 2) for i in range(5)})
    signal = frame.sum_horizontal().to_numpy() + rng.normal(size=rows)
    truth = signal if classes == 0 else np.digitize(signal, np.quantile(signal, np.linspace(0, 1, classes + 1)[1:-1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        task = "regression" if classes == 0 else "binary" if classes == 2 else "multiclass"
        pipeline = make_pipeline(model, frame.columns, [], linear=False, task=task).fit(frame, truth)
    info = OnnxFormat().save(pipeline, folder)
    near = frame.to_numpy().astype(np.float32)
    odd = rng.choice(np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], dtype=np.float32), near.shape)
    asked = np.concatenate([near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9)), np.where(rng.random(near.shape) < 0.3, odd, near)])
    return {**info, "files": info["files"]}, asked


def ensembles() -> list[Any]:
    from lightgbm import LGBMClassifier, LGBMRegressor
    from sklearn.ensemble import ExtraTreesRegressor, HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.tree import DecisionTreeClassifier

    return [
        pytest.param(HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=8), 2, id="8 leaves: a byte"),
        pytest.param(HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=16), 2, id="16 leaves"),
        pytest.param(HistGradientBoostingClassifier(max_iter=8, max_leaf_nodes=31), 3, id="31 leaves, three classes"),
        pytest.param(HistGradientBoostingRegressor(max_iter=10, max_leaf_nodes=60), 0, id="60 leaves, a number"),
        pytest.param(LGBMClassifier(n_estimators=20, num_leaves=7, verbose=-1), 2, id="LightGBM"),
        pytest.param(LGBMRegressor(n_estimators=20, num_leaves=33, verbose=-1), 0, id="LightGBM, a number"),
        pytest.param(DecisionTreeClassifier(max_leaf_nodes=9), 4, id="one tree, shares of four classes"),
        pytest.param(ExtraTreesRegressor(n_estimators=7, max_leaf_nodes=12), 0, id="a forest"),
        pytest.param(HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=600), 0, id="trees of one leaf"),
    ]


@pytest.mark.parametrize(("model", "classes"), ensembles())
def test_answers_are_bit_for_bit_those_of_onnx_runtime(tmp_path: Path, model: Any, classes: int) -> None:
    info, asked = saved(tmp_path, model, classes=classes)
    quick = tree_scorer(tmp_path, info)
    assert quick is not None
    expected = OnnxFormat().load(tmp_path, info).score(asked)
    found = quick.score(asked)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    assert np.array_equal(quick.score(asked[:1]), expected[:1])
    assert quick.score(asked[:0]).shape == expected[:0].shape


def test_trees_of_too_many_leaves_are_left_to_onnx_runtime(tmp_path: Path) -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    info, _ = saved(tmp_path, HistGradientBoostingRegressor(max_iter=2, max_leaf_nodes=200, min_samples_leaf=2), classes=0)
    assert tree_scorer(tmp_path, info) is None


def test_other_models_are_left_to_their_format(tmp_path: Path) -> None:
    from sklearn.linear_model import Ridge

    info, _ = saved(tmp_path, Ridge(), classes=0)
    assert tree_scorer(tmp_path, info) is None
    assert tree_scorer(tmp_path, {"format": "skops"}) is None
