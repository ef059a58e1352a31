"""From typed columns to the float32 matrix every model is fitted on: the one pipeline shape that can be served exactly.

Fitting on float32 values is what makes an exact conversion possible: a split `x <= t` on a float32 `x` decides the same with `t` replaced by the
largest float32 not above it. All fitting happens inside the pipeline, so cross-validation fits it inside the fold.

>>> import polars as pl
>>> from sklearn.linear_model import LogisticRegression
>>> frame = pl.DataFrame({"distance": [100.0, 2000.0, None, 300.0], "carrier": ["AA", "UA", "", "AA"]})
>>> fitted = make_pipeline(LogisticRegression(), ["distance"], ["carrier"], linear=True, task="binary").fit(frame, [0, 1, 1, 0])
>>> fitted.predict_proba(frame).shape
(4, 2)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder
from sklearn.utils import get_tags

from treadle.core.errors import UsageError

TARGET_TYPES = {"binary": "binary", "multiclass": "multiclass", "regression": "continuous"}
FEW_CATEGORIES, MANY_ROWS = 30, 50  # see CategoryMeans
RAREST_SHARE = 0.005
"""A one-hot category rarer than this share of the training rows shares one column with the other rare ones, so that the matrix stays narrow."""


class ToFloat32(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Rounds an encoded matrix to float32. Values beyond float32's range become infinite, as they do when served."""

    def fit(self, X: Any, y: Any = None) -> ToFloat32:
        self.n_features_in_ = np.shape(X)[1]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Rows of numbers, shape (n, width), to a C-ordered float32 matrix of the same shape."""
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(X, dtype=np.float32)


class CategoryMeans(TargetEncoder):
    """The mean target of each category (of each class, with several classes), cross-fitted where a category has few rows.

    Cross-fitting gives the rows of one category as many values as there are folds, so that categories whose means lie close are mixed up on the rows
    that are learned from. It is needed where a mean is made of few rows, which would know their own target by it. In a column of few categories, one
    of many rows has its plain mean, as it has in serving.
    """

    def fit_transform(self, X: Any, y: Any, **params: Any) -> np.ndarray:
        """Fit, and encode the rows that are learned from: (n, columns) to (n, columns), or (n, columns x classes) with several classes."""
        found = np.array(super().fit_transform(X, y, **params))
        width = found.shape[1] // len(self.categories_)
        whole = np.asarray(self.transform(X))
        for i, name in enumerate(X.columns):
            if len(self.categories_[i]) <= FEW_CATEGORIES:
                common = X.select(pl.len().over(name) >= MANY_ROWS).to_series().to_numpy()
                at = slice(i * width, (i + 1) * width)
                found[common, at] = whole[common, at]
        return found


def make_pipeline(estimator: Any, numbers: list[str], categories: list[str], *, linear: bool, task: str) -> Pipeline:
    """The unfitted pipeline (columns, float32, model) around an estimator; it takes Polars frames that have at least the named columns.

    Args:
        estimator: an unfitted scikit-learn estimator.
        numbers: numeric or boolean columns; null and NaN mean missing. Trees that take missing values get them as they are, other trees the training
            median; linear models the training median, then standardised.
        categories: string columns without nulls, where "" stands for missing and is a category like any other. Linear models get one column a
            category (rare ones share one, an unseen one is all zeros); trees get the mean target of the category, see CategoryMeans.
        linear: whether the model is linear in its inputs.
        task: 'binary', 'multiclass' or 'regression'.

    Raises: UsageError for an unknown task or no columns at all.
    """
    if task not in TARGET_TYPES:
        raise UsageError(f"'{task}' is not a task.", hint=f"Use one of {', '.join(TARGET_TYPES)}.")
    if not numbers and not categories:
        raise UsageError("A model needs at least one feature.", hint="Name numeric or category columns.")
    entries: list[tuple[str, Any, list[str]]] = []
    if numbers:
        entries.append(("number", _number(estimator, linear), list(numbers)))
    if categories:
        entries.append(("category", _category(linear, task), list(categories)))
    columns = ColumnTransformer(entries, remainder="drop", sparse_threshold=0)
    return Pipeline([("columns", columns), ("float32", ToFloat32()), ("model", estimator)])


def _number(estimator: Any, linear: bool) -> Any:
    # keep_empty_features: a column that is missing in one fold must not change the width of the matrix.
    fill = SimpleImputer(strategy="median", keep_empty_features=True)
    if linear:
        return Pipeline([("fill", fill), ("scale", StandardScaler())])
    return "passthrough" if get_tags(estimator).input_tags.allow_nan else Pipeline([("fill", fill)])


def _category(linear: bool, task: str) -> Any:
    if linear:
        return OneHotEncoder(handle_unknown="ignore", min_frequency=RAREST_SHARE)
    # A seeded splitter: with a number of folds alone the encoder shuffles by the clock and no run could be repeated.
    folds = KFold if task == "regression" else StratifiedKFold
    # Found from the rows where there are several classes: a fold may hold only two of them.
    return CategoryMeans(target_type="auto" if task == "multiclass" else TARGET_TYPES[task], cv=folds(5, shuffle=True, random_state=0))
