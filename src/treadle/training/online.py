"""River's online models as a family: they see each row once, in order of time, and a version of them is served like any linear model.

Two ways to use one:

- As a candidate, `tr.candidate("online")`: `fit` goes through the training rows once, in the order they stand (which is that of time in a split by
  time). The weights become an ordinary logistic or linear regression, so packages, parity, explanations and gates are those of every other model.
- Row by row, `OnlineModel`: it answers a row when it is asked and learns its outcome when that is known (`prequential`); it can be stopped after any
  row and gone on with (`to_bytes`), and the same rows in the same order give the same state (`mark`). Learning an outcome at once, when it is not
  yet known, is not offered: on flights that would be worth 0.05 of ROC-AUC that nobody will ever have.

Source of prequential evaluation with delay: Gama, Sebastião and Rodrigues (2013), "On evaluating stream learning algorithms"; Grzenda, Gomes and
Bifet (2020), "Delayed labelling evaluation for data streams". The optimiser is River's plain gradient descent.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from treadle.core.errors import Corrupt, UsageError

NEEDS = "The family 'online' needs the package river."
HINT = "Install it: pip install 'treadle[online]'"
_HEAD = b"TRO1"


def _river() -> Any:
    try:
        from river import compose, linear_model, optim, preprocessing
    except ImportError:
        raise UsageError(NEEDS, hint=HINT) from None
    return compose, linear_model, optim, preprocessing


def _linear(task: str, rate: float, l2: float, intercept_rate: float) -> Any:
    _, linear_model, optim, _ = _river()
    if task == "binary":
        return linear_model.LogisticRegression(optimizer=optim.SGD(rate), l2=l2, intercept_lr=intercept_rate)
    return linear_model.LinearRegression(optimizer=optim.SGD(rate), l2=l2, intercept_lr=intercept_rate)


def _learned(model: Any, matrix: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, float]:
    """One pass over the rows in their order; weights and intercept."""
    names = range(matrix.shape[1])
    for row, y in zip(matrix.tolist(), truth.tolist()):
        model.learn_one(dict(zip(names, row)), y)
    return np.array([float(model.weights.get(i, 0.0)) for i in names]), float(model.intercept)


class OnlineLogisticRegression(LogisticRegression):
    """River's logistic regression behind scikit-learn's face: `fit` is one pass in the order of the rows. For two classes."""

    def __init__(self, rate: float = 0.01, l2: float = 0.0, intercept_rate: float = 0.01, random_state: int | None = None) -> None:
        super().__init__(random_state=random_state)
        self.rate, self.l2, self.intercept_rate = rate, l2, intercept_rate

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> OnlineLogisticRegression:
        matrix, codes = np.asarray(X, dtype=np.float64), np.asarray(y)
        self.classes_ = np.unique(codes)
        if len(self.classes_) != 2:
            raise ValueError(f"the online family tells two classes apart, not {len(self.classes_)}")
        weights, intercept = _learned(_linear("binary", self.rate, self.l2, self.intercept_rate), matrix, codes == self.classes_[1])
        self.coef_, self.intercept_, self.n_features_in_ = weights.reshape(1, -1), np.array([intercept]), matrix.shape[1]
        self.n_iter_ = np.array([1], dtype=np.int32)
        return self


class OnlineRidge(Ridge):
    """River's linear regression behind scikit-learn's face, its target standardised by what it has seen."""

    def __init__(self, rate: float = 0.01, l2: float = 0.0, intercept_rate: float = 0.01, random_state: int | None = None) -> None:
        super().__init__(random_state=random_state)
        self.rate, self.l2, self.intercept_rate = rate, l2, intercept_rate

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> OnlineRidge:
        matrix, truth = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        middle, spread = float(truth.mean()), float(truth.std()) or 1.0
        weights, intercept = _learned(_linear("regression", self.rate, self.l2, self.intercept_rate), matrix, (truth - middle) / spread)
        self.coef_, self.intercept_, self.n_features_in_ = weights * spread, intercept * spread + middle, matrix.shape[1]
        return self


class OnlineModel:
    """A model of rows as mappings that answers, and learns later: numbers are standardised by what was seen, texts are one-hot.

    Args:
        task: 'binary' (answers the probability of the positive class) or 'regression'.
        model: an unfitted River model; a linear one with a scaler if not given.
    """

    def __init__(self, task: Literal["binary", "regression"] = "binary", model: Any = None, *, rate: float = 0.01, l2: float = 0.0) -> None:
        compose, _, _, preprocessing = _river()
        if task not in ("binary", "regression"):
            raise UsageError(f"An online model of a {task} task is not offered.", hint="Use 'binary' or 'regression'.")
        self.task, self.learned = task, 0
        columns = compose.SelectType(float) | preprocessing.StandardScaler()
        words = compose.SelectType(str) | preprocessing.OneHotEncoder()
        self.model = model if model is not None else (columns + words) | _linear(task, rate, l2, 0.01)
        self._history = hashlib.sha256(f"{task} {rate} {l2} {type(model).__name__}".encode()).hexdigest()

    def answer(self, row: Mapping[str, Any]) -> float:
        """The probability of the positive class, or the number; nothing is learned."""
        clean = _clean(row)
        if self.task == "regression":
            return float(self.model.predict_one(clean) or 0.0)
        return float(self.model.predict_proba_one(clean).get(True, 0.5))

    def learn(self, row: Mapping[str, Any], truth: bool | float) -> None:
        """Learn one outcome; to be called when it is known."""
        clean = _clean(row)
        self.model.learn_one(clean, bool(truth) if self.task == "binary" else float(truth))
        self.learned += 1
        self._history = hashlib.sha256(f"{self._history}{sorted(clean.items())!r}{truth!r}".encode()).hexdigest()

    def mark(self) -> str:
        """A digest of all that was learned, in its order: two models with the same mark are in the same state."""
        return self._history

    def to_bytes(self) -> bytes:
        """A checkpoint. It is a pickle, to be read only by who wrote it; its first bytes are a digest of the rest."""
        buffer = io.BytesIO()
        pickle.dump((self.task, self.model, self.learned, self._history), buffer, protocol=5)
        body = buffer.getvalue()
        return _HEAD + hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, stored: bytes) -> OnlineModel:
        """Go on from a checkpoint. Raises Corrupt when it is not what was written."""
        body = stored[36:]
        if stored[:4] != _HEAD or hashlib.sha256(body).digest() != stored[4:36]:
            raise Corrupt("The checkpoint of the online model is not what was written.", hint="Replay it from what it learned.")
        made = cls.__new__(cls)
        made.task, made.model, made.learned, made._history = pickle.loads(body)
        return made


def prequential(
    model: OnlineModel, rows: Sequence[Mapping[str, Any]], truth: Sequence[Any], moments: np.ndarray, known: np.ndarray, *, begin: int = 0,
    until: int | None = None,
) -> np.ndarray:  # fmt: skip
    """Answer each row at its moment and learn each outcome when it is known, in one pass over time; NaN for rows that were not asked.

    Args:
        truth: None where it never became known. known: microseconds; an outcome known before its own row's moment is not learned.
        begin, until: only what happens at begin <= time < until, so that a model can be stopped and gone on with.
    """
    n = len(rows)
    there = np.array([i for i in range(n) if truth[i] is not None and known[i] >= moments[i]], dtype=np.int64)
    when, what = np.concatenate([known[there], moments]), np.concatenate([there, np.arange(n)])
    asking = np.concatenate([np.zeros(len(there), bool), np.ones(n, bool)])
    said = np.full(n, np.nan)
    for k in np.lexsort((what, asking, when)).tolist():
        if when[k] < begin or (until is not None and when[k] >= until):
            continue
        i = int(what[k])
        if asking[k]:
            said[i] = model.answer(rows[i])
        else:
            model.learn(rows[i], truth[i])
    return said


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
    """What River can take: booleans are numbers; and what is missing is left out, which is to a scaled linear model as if it was the mean."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, str):
            found[name] = value
        elif value is not None and np.isfinite(value):
            found[name] = float(value)
    return found
