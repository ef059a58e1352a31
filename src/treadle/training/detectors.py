"""Anomaly detectors: estimators that learn what is usual, made to answer with a probability.

A detector gives each row a score, the higher the stranger. Where training rows are labelled, the probability is a logistic curve through the score,
fitted to the labels (Platt 1999); where they are not, it is above one half for as many rows as the declared contamination says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

UNKNOWN = -1
MOST_NEIGHBOURS = 5_000  # training rows that a neighbour search looks through


class Detector(ClassifierMixin, BaseEstimator):
    """A classifier of two classes, 0 usual and 1 anomalous, around a detector that has `fit(X)` and `score_samples(X)` (lower is stranger).

    Args:
        detector: unfitted.
        contamination: the share of rows thought to be anomalous, for training rows without labels.
    """

    def __init__(self, detector: Any, contamination: float = 0.1) -> None:
        self.detector = detector
        self.contamination = contamination

    def fit(self, X: Any, y: Any) -> Detector:
        """`y`: 0, 1, or UNKNOWN. Rows labelled 1 are not learned from: they are what is to be found."""
        X, y = np.asarray(X), np.asarray(y)
        self.n_features_in_ = X.shape[1]
        self.classes_ = np.array([0, 1])
        usual = X[y != 1]
        self.detector_ = self.detector.fit(usual)
        score = self._score(X)
        self.middle_, self.spread_ = float(np.median(score)), float(np.std(score)) or 1.0
        z = (score - self.middle_) / self.spread_
        if (y == 1).any() and (y == 0).any():
            from sklearn.linear_model import LogisticRegression

            labelled = y != UNKNOWN
            curve = LogisticRegression(C=1.0, max_iter=200).fit(z[labelled, None], y[labelled])
            self.slope_, self.offset_ = float(curve.coef_[0, 0]), float(curve.intercept_[0])
        else:
            edge = float(np.quantile(z, 1 - self.contamination))
            self.slope_, self.offset_ = 2.0, -2.0 * edge
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Rows, shape (n, width), to probabilities of usual and anomalous, (n, 2)."""
        z = (self._score(np.asarray(X)) - self.middle_) / self.spread_
        p = 1 / (1 + np.exp(-np.clip(self.slope_ * z + self.offset_, -500, 500)))
        return np.column_stack([1 - p, p])

    def predict(self, X: Any) -> np.ndarray:
        """Rows to 0 or 1."""
        return np.asarray(self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(int)])

    def _score(self, X: np.ndarray) -> np.ndarray:
        return -np.asarray(self.detector_.score_samples(X), dtype=np.float64)


class Distance(BaseEstimator):
    """How far a row lies from the middle of the training rows, in the shape of their spread (Mahalanobis distance).

    Args:
        shrinkage: how much the covariance is drawn to a ball; above 0 it can always be inverted.
    """

    def __init__(self, shrinkage: float = 0.1) -> None:
        self.shrinkage = shrinkage

    def fit(self, X: Any, y: Any = None) -> Distance:
        from sklearn.covariance import ShrunkCovariance

        found = ShrunkCovariance(shrinkage=self.shrinkage).fit(np.asarray(X, dtype=np.float64))
        self.location_, self.precision_ = found.location_, found.precision_
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Minus the distance of each row, (n,)."""
        gap = np.asarray(X, dtype=np.float64) - self.location_
        return np.asarray(-np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", gap, self.precision_, gap), 0.0)))


class Neighbours(BaseEstimator):
    """How sparse the rows lie around a row, against around its neighbours: local outlier factor over at most MOST_NEIGHBOURS training rows."""

    def __init__(self, n_neighbors: int = 20, random_state: int = 0) -> None:
        self.n_neighbors = n_neighbors
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Neighbours:
        from sklearn.neighbors import LocalOutlierFactor

        X = np.asarray(X)
        if len(X) > MOST_NEIGHBOURS:
            X = X[np.sort(np.random.default_rng(self.random_state).choice(len(X), MOST_NEIGHBOURS, replace=False))]
        self.factor_ = LocalOutlierFactor(n_neighbors=min(self.n_neighbors, len(X) - 1), novelty=True).fit(X)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Minus the factor of each row, (n,)."""
        return np.asarray(self.factor_.score_samples(np.asarray(X)))


def made(family: str, params: Mapping[str, Any], seed: int) -> Any:
    """An unfitted detector of a family: 'isolation', 'neighbours' or 'distance'."""
    if family == "isolation":
        from sklearn.ensemble import IsolationForest

        return IsolationForest(random_state=seed, **params)
    return Neighbours(random_state=seed, **params) if family == "neighbours" else Distance(**params)
