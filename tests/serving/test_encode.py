"""The matrix a server fills from the package's description is, bit by bit, the one the fitted pipeline makes."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from treadle.backends.encoder_table import describe
from treadle.serving.encode import Encoder
from treadle.training.encoding import make_pipeline

NUMBERS, CATEGORIES = ["a", "b", "empty"], ["c", "d"]
ORDER = ["c", "a", "d", "empty", "b"]  # not the order of the matrix
ESTIMATORS = {
    "linear binary": (LogisticRegression(), True, "binary"), "tree binary": (DecisionTreeClassifier(max_depth=3), False, "binary"),
    "linear multiclass": (LogisticRegression(), True, "multiclass"), "tree multiclass": (DecisionTreeClassifier(max_depth=3), False, "multiclass"),
    "linear regression": (LinearRegression(), True, "regression"), "tree regression": (DecisionTreeRegressor(max_depth=3), False, "regression"),
}  # fmt: skip


@cache
def fitted(name: str) -> tuple[Any, Encoder]:
    estimator, linear, task = ESTIMATORS[name]
    rng = np.random.default_rng(0)
    n = 400
    frame = pl.DataFrame(
        {"a": np.where(rng.uniform(size=n) < 0.1, np.nan, rng.normal(1e5, 3, n)), "b": rng.integers(0, 2, n).astype(float), "empty": [None] * n,
         "c": rng.choice(["x", "y", "", "é"], n), "d": [f"v{i}" for i in (rng.exponential(3, n) * 10).astype(int)]},
        schema_overrides={"empty": pl.Float64},
    )  # fmt: skip
    truth: Any = rng.normal(size=n) if task == "regression" else rng.integers(0, 2 if task == "binary" else 3, n)
    pipeline = make_pipeline(estimator, NUMBERS, CATEGORIES, linear=linear, task=task).fit(frame, truth)
    return pipeline, Encoder(describe(pipeline)["encoder"], ORDER)


numbers = st.none() | st.floats(-1e30, 1e30) | st.sampled_from([0.0, 1.0, 1e5, 1e300, -1e300]) | st.just(math.nan)
texts = st.none() | st.sampled_from(["x", "y", "", "é", "v0", "v3", "v99"]) | st.text(st.characters(codec="utf-8"), max_size=5)
rows = st.lists(st.tuples(texts, numbers, texts, numbers, st.none() | st.sampled_from([0.0, 1.0])), min_size=1, max_size=10)


@pytest.mark.parametrize("name", ESTIMATORS)
@given(rows=rows)
def test_the_served_matrix_is_the_trained_one(name: str, rows: list[tuple[Any, ...]]) -> None:
    pipeline, encoder = fitted(name)
    schema = {n: pl.String if n in CATEGORIES else pl.Float64 for n in ORDER}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(pl.col(CATEGORIES).fill_null(""))
    trained = pipeline[:-1].transform(frame.select(NUMBERS + CATEGORIES))
    served = encoder.matrix(rows)
    assert (served.dtype, served.shape, trained.dtype) == (np.float32, (len(rows), encoder.width), np.float32)
    assert np.array_equal(served, trained, equal_nan=True)


def test_no_rows_are_an_empty_matrix() -> None:
    _, encoder = fitted("linear binary")
    assert encoder.matrix([]).shape == (0, encoder.width)
