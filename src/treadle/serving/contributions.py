"""What each feature contributed to one answer, computed exactly from the terms stored with the version.

For trees the contributions are Shapley values of the path-dependent game (see `training.explain`). A leaf with value v is reached by the features
that meet their condition on its path; those that are not known meet it with the share z of training rows that do. So the leaf's game is a product,
and the Shapley value of feature i is

    v (o_i - z_i) * integral over t from 0 to 1 of the product over j != i of (z_j (1 - t) + o_j t)

with o_j = 1 where the row meets the condition and 0 where not. The integrand is a polynomial in t, for which Gauss-Legendre quadrature with enough
points is exact. Contributions add up to the answer less the mean answer, in the model's own units: log-odds, probability or value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from treadle.core.errors import Corrupt, NotFound

TERMS = "contributions.npz"
UNITS = {"sigmoid": "log-odds", "softmax": "log-odds", "shares": "probability", "identity": "value", "exp": "log of the value"}


@dataclass(frozen=True)
class _Leaves:
    feature: np.ndarray
    column: np.ndarray
    low: np.ndarray
    high: np.ndarray
    missing: np.ndarray
    share: np.ndarray
    value: np.ndarray
    points: np.ndarray
    weights: np.ndarray

    def shares(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whether the row meets each condition (0 or 1), and the integral over all other features, both of shape (depth, leaves)."""
        x = row[self.feature]
        meets = np.where(np.isnan(x), self.missing, (x > self.low) & (x <= self.high)).astype(np.float64)
        whole = np.zeros_like(meets)
        depth = len(meets)
        for t, weight in zip(self.points, self.weights):
            factor = self.share * (1 - t) + meets * t
            after = np.ones_like(factor)  # the product of what stands behind each place
            for j in range(depth - 1, 0, -1):
                np.multiply(after[j], factor[j], out=after[j - 1])
            before = np.full(factor.shape[1], weight)
            for j in range(depth):
                whole[j] += before * after[j]
                before *= factor[j]
        return meets, whole


class Contributions:
    """The terms of one opened package.

    Args:
        encoder: the package's encoder, which says which matrix columns a feature fills.
    """

    def __init__(self, folder: Path, encoder: Sequence[Mapping[str, Any]]) -> None:
        path = folder / TERMS
        if not path.is_file():
            raise NotFound("The package holds no terms to explain answers with.", where=str(folder), hint="Its model has no exact contributions.")
        try:
            with np.load(path, allow_pickle=False) as stored:
                terms = {name: stored[name] for name in stored.files}
            self.kind, self.link = str(terms["kind"]), str(terms["link"])
            self.base = terms["base"].astype(np.float64)
        except (ValueError, KeyError, OSError) as cause:
            raise Corrupt("The terms of the package cannot be read.", where=str(path), hint="Pack the model again.") from cause
        self.names = [str(entry["name"]) for entry in encoder]
        widths = [1 if entry["kind"] == "number" else len(entry["unknown"]) for entry in encoder]
        self._column = np.repeat(np.arange(len(widths)), widths)  # matrix column to feature
        self._terms = terms
        self._groups = [self._group(depth) for depth in range(1, terms["feature"].shape[1] + 1)] if self.kind == "trees" else []

    def _group(self, depth: int) -> _Leaves:
        """The leaves whose path asks about `depth` features; shapes are (depth, leaves), so that each step works on one long run of numbers."""
        own = np.flatnonzero((self._terms["feature"] >= 0).sum(axis=1) == depth)
        names = ("feature", "low", "high", "missing", "share")
        feature, low, high, missing, share = (np.ascontiguousarray(self._terms[n][own, :depth].T) for n in names)
        points, weights = np.polynomial.legendre.leggauss((depth + 1) // 2)
        return _Leaves(
            feature, self._column[feature], low, high, missing, share.astype(np.float64), self._terms["value"][own], (points + 1) / 2, weights / 2
        )

    @property
    def unit(self) -> str:
        """What contributions are measured in."""
        return UNITS[self.link]

    def of(self, row: np.ndarray) -> np.ndarray:
        """Contributions of one encoded row (float32, shape (width,)): float64 of shape (features, outputs)."""
        found = np.zeros((len(self.names), len(self.base)))
        if self.kind == "linear":
            weight = self._terms["weight"] * (row.astype(np.float64) - self._terms["mean"])
            np.add.at(found, self._column, weight.T)
            return found
        for leaves in self._groups:
            if not leaves.feature.shape[1]:
                continue
            meets, share = leaves.shares(row)
            each = (meets - leaves.share) * share
            for k in range(len(self.base)):
                found[:, k] += np.bincount(leaves.column.ravel(), weights=(each * leaves.value[:, k]).ravel(), minlength=len(self.names))
        return found

    def raw(self, row: np.ndarray) -> np.ndarray:
        """What the contributions add up to, with the base: the model's answer before its link."""
        return np.asarray(self.base + self.of(row).sum(axis=0))

    def answer(self, row: np.ndarray, classes: int) -> np.ndarray:
        """The answer the contributions lead to, in the shape the model gives it: to compare with."""
        raw = self.raw(row)
        if self.link == "softmax":
            e = np.exp(raw - raw.max())
            return np.asarray(e / e.sum())
        if self.link == "sigmoid":
            p = 1 / (1 + np.exp(-raw[0]))
            return np.array([1 - p, p])
        if self.link == "shares":
            return np.array([1 - raw[0], raw[0]])
        return np.exp(raw) if self.link == "exp" else raw


def explain(contributions: Contributions, row: np.ndarray, values: Mapping[str, Any], *, output: int = -1, most: int = 10) -> dict[str, Any]:
    """One answer taken apart, as JSON: the features that moved it most, and the rest in one sum."""
    found = contributions.of(row)[:, output]
    order = np.argsort(-np.abs(found), kind="stable")
    shown = order[:most]
    return {
        "unit": contributions.unit, "base": float(contributions.base[output]), "sum": float(contributions.base[output] + found.sum()),
        "features": [{"name": contributions.names[i], "value": values.get(contributions.names[i]), "contribution": float(found[i])} for i in shown],
        "others": float(found[order[most:]].sum()),
    }  # fmt: skip
