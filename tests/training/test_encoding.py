"""Categories become the mean target of their rows: one value where they are common, cross-fitted where a row would know itself."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from lightgbm import LGBMRegressor

from treadle.backends.encoder_table import describe
from treadle.training.encoding import make_pipeline


def rows(n: int = 900) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    word = rng.choice(["a", "b", "c"], n).astype(object)
    word[:9] = "rare"  # fewer than encoding.MANY_ROWS
    return pl.DataFrame({"word": word.tolist(), "x": rng.normal(size=n)}), rng.normal(size=n)


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_a_common_category_has_one_value_and_a_rare_one_does_not_know_its_own_target(task: str) -> None:
    frame, target = rows()
    truth = target if task == "regression" else np.digitize(target, [0] if task == "binary" else [-0.5, 0.5])
    made = make_pipeline(LGBMRegressor(), [], ["word"], linear=False, task=task)
    learned = made[:-1].fit_transform(frame, truth)
    asked = made[:-1].transform(frame)
    assert learned.shape[1] == (3 if task == "multiclass" else 1)
    common = (frame["word"] != "rare").to_numpy()
    assert np.array_equal(learned[common], asked[common])
    assert len(np.unique(learned[common][:, 0])) == 3
    assert len(np.unique(learned[~common][:, 0])) > 1


def test_a_column_of_many_categories_is_cross_fitted() -> None:
    rng = np.random.default_rng(1)
    frame, target = pl.DataFrame({"word": [f"w{i}" for i in rng.integers(0, 40, 4_000)]}), rng.normal(size=4_000)
    made = make_pipeline(LGBMRegressor(), [], ["word"], linear=False, task="regression")
    learned = made[:-1].fit_transform(frame, target)
    assert len(np.unique(learned)) > 40


def test_what_is_served_is_what_is_transformed() -> None:
    frame, target = rows()
    fitted = make_pipeline(LGBMRegressor(n_estimators=5, verbosity=-1), ["x"], ["word"], linear=False, task="regression").fit(frame, target)
    [category] = [e for e in describe(fitted)["encoder"] if e["kind"] == "category"]
    served = np.array([category["table"][word] for word in frame["word"]], dtype=np.float32)
    assert np.array_equal(served[:, 0], fitted[:-1].transform(frame)[:, 1])
