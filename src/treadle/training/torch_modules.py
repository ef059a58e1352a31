"""A PyTorch module as an estimator: trained on the encoded float32 rows, answered by NumPy from there on.

    def network(width: int, outputs: int, hidden: int = 32) -> torch.nn.Module: ...

    tr.candidate("network", TorchModel(network), hidden=[16, 64], learning_rate=(1e-4, 1e-2, "log"), epochs=[20, 50])

Parameters that are not TorchModel's own go to the function that makes the module. Needs the extra `torch`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from treadle.core.errors import UsageError


class TorchModel(BaseEstimator):
    """Trains what `module(width, outputs, **settings)` makes by Adam; a classifier or a regressor, as the target asks.

    Args:
        module: makes an untrained module from the number of columns and of outputs (one for numbers, else one a class: log-odds).
        classes: whether it says classes; None finds out from the target: whole numbers from 0 on are classes.
        settings: parameters of `module`.
    """

    def __init__(
        self, module: Callable[..., Any], epochs: int = 30, learning_rate: float = 0.003, batch_size: int = 256, weight_decay: float = 0.0001,
        classes: bool | None = None, random_state: int = 0, **settings: Any,
    ) -> None:  # fmt: skip
        self.module, self.epochs, self.learning_rate, self.batch_size = module, epochs, learning_rate, batch_size
        self.weight_decay, self.classes, self.random_state, self.settings = weight_decay, classes, random_state, settings

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        own = ("module", "epochs", "learning_rate", "batch_size", "weight_decay", "classes", "random_state")
        return {**{name: getattr(self, name) for name in own}, **self.settings}

    def set_params(self, **params: Any) -> TorchModel:
        accepted = inspect.signature(self.module).parameters
        for name, value in params.items():
            if name in self.get_params() and name not in self.settings:
                setattr(self, name, value)
            elif name in accepted:
                self.settings = {**self.settings, name: value}
            else:
                raise UsageError(f"Neither TorchModel nor its module takes {name!r}.", hint=f"The module takes {', '.join(accepted)}.")
        return self

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> TorchModel:
        """Rows, float32 of shape (n, width), and class codes or numbers (n,)."""
        import torch

        rows, y = np.asarray(X, dtype=np.float32), np.asarray(y)
        self.n_features_in_ = rows.shape[1]
        self.middle_, self.spread_ = rows.mean(axis=0), np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1).astype(np.float32)
        says_classes = np.issubdtype(y.dtype, np.integer) if self.classes is None else self.classes
        if says_classes:
            self.classes_, codes = np.unique(y, return_inverse=True)
            truth = torch.from_numpy(codes.astype(np.int64))
        else:
            self.level_, self.scale_ = float(y.mean()), float(y.std()) or 1.0
            truth = torch.from_numpy(((y - self.level_) / self.scale_).astype(np.float32))
        weights = torch.ones(len(y)) if sample_weight is None else torch.from_numpy(np.asarray(sample_weight, dtype=np.float32))
        with torch.random.fork_rng(devices=[]):  # the seed is this fit's alone
            torch.manual_seed(self.random_state)
            self.network_ = self.module(rows.shape[1], len(self.classes_) if says_classes else 1, **self.settings)
            loss = torch.nn.CrossEntropyLoss(reduction="none") if says_classes else torch.nn.MSELoss(reduction="none")
            optimizer = torch.optim.Adam(self.network_.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
            data = torch.from_numpy(self._scaled(rows))
            self.network_.train()
            for _ in range(self.epochs):
                for part in torch.randperm(len(data)).split(self.batch_size):
                    optimizer.zero_grad()
                    said = self.network_(data[part])
                    (loss(said if says_classes else said[:, 0], truth[part]) * weights[part]).mean().backward()
                    optimizer.step()
        self.network_.eval()
        return self

    def _scaled(self, rows: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray((rows - self.middle_) / self.spread_, dtype=np.float32)

    def _said(self, X: Any) -> np.ndarray:
        import torch

        with torch.no_grad():
            return np.asarray(self.network_(torch.from_numpy(self._scaled(np.asarray(X, dtype=np.float32)))).numpy(), dtype=np.float64)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Rows to the probability of each class, (n, classes)."""
        said = self._said(X)
        said = np.exp(said - said.max(axis=1, keepdims=True))
        return np.asarray(said / said.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> np.ndarray:
        """Rows to classes or numbers, (n,)."""
        if hasattr(self, "classes_"):
            return np.asarray(self.classes_[self.predict_proba(X).argmax(axis=1)])
        return np.asarray(self._said(X)[:, 0] * self.scale_ + self.level_)
