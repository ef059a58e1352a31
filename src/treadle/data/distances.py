"""How far a column's values have moved from a reference, exactly, as effect sizes: PSI, Kolmogorov-Smirnov distance, share of missing values.

PSI is the one that watching uses on its sketches (`monitoring/detectors/psi.py`, with the sources): numbers and moments in bins at the deciles of the
reference, a value that holds more than a decile alone being its own bin; texts and truth values in bins of their own down to a share of 1 %, rarer
and new ones together; missing is a bin. Half a row is added to each bin, and what chance alone gives, (B - 1)(1/n + 1/m), is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

RARE = 0.01
LEAST_SHARE = 1e-4


@dataclass(frozen=True)
class Distance:
    """`sizes` by name ('psi', 'ks' for what has an order, 'missing'); `moved` names the bin that moved most, with its shares."""

    sizes: dict[str, float]
    moved: str


def distances(reference: pl.Series, now: pl.Series) -> Distance:
    """The effect sizes of `now` against `reference`; none when either has no rows.

    >>> year, week = pl.Series(["ice"] * 500 + ["sun"] * 500), pl.Series(["ice"] * 900 + ["sun"] * 100)
    >>> found = distances(year, week)
    >>> round(found.sizes["psi"], 2), found.moved
    (0.87, "'sun': 50.0% -> 10.0%")
    """
    if not len(reference) or not len(now):
        return Distance({}, "")
    missing = abs(_missing(now) / len(now) - _missing(reference) / len(reference))
    ordered = all(s.dtype.is_numeric() or s.dtype.is_temporal() for s in (reference, now))
    sizes = {"missing": missing}
    if ordered:
        q_values, p_values = _numbers(reference), _numbers(now)
        if len(q_values) and len(p_values):
            sizes["ks"] = _ks(q_values, p_values)
        labels, q, p = _number_bins(q_values, p_values, reference.dtype)
    else:
        labels, q, p = _text_bins(_texts(reference), _texts(now))
    q_rows = np.array([*q, _missing(reference)], float)
    p_rows = np.array([*p, _missing(now)], float)
    q_share, p_share = _shares(q_rows), _shares(p_rows)
    parts = (p_share - q_share) * np.log(p_share / q_share)
    occupied = int(((q_rows > 0) | (p_rows > 0)).sum())
    sizes["psi"] = float(parts.sum()) - (occupied - 1) * (1 / len(now) + 1 / len(reference))
    most = int(parts.argmax())
    label = [*labels, "missing"][most]
    moved = f"{label}: {q_rows[most] / len(reference):.1%} -> {p_rows[most] / len(now):.1%}"
    return Distance(sizes, moved)


def _missing(values: pl.Series) -> int:
    nan = int(values.is_nan().sum()) if values.dtype.is_float() else 0
    return values.null_count() + nan


def _numbers(values: pl.Series) -> np.ndarray:
    """The values that are there, in order."""
    plain = values.drop_nulls()
    plain = plain.to_physical() if plain.dtype.is_temporal() else plain
    numbers = plain.cast(pl.Float64).drop_nans().to_numpy()
    return np.sort(numbers)


def _texts(values: pl.Series) -> pl.Series:
    return values.drop_nulls().cast(pl.String, strict=False)


def _ks(reference: np.ndarray, now: np.ndarray) -> float:
    """The largest distance between two distribution functions (Smirnov 1939); both sorted."""
    points = np.concatenate([reference, now])
    first = np.searchsorted(reference, points, "right") / len(reference)
    second = np.searchsorted(now, points, "right") / len(now)
    return float(np.abs(first - second).max())


def _number_bins(reference: np.ndarray, now: np.ndarray, dtype: pl.DataType) -> tuple[list[str], list[int], list[int]]:
    if not len(reference):
        return ["present"], [0], [len(now)]
    deciles = np.quantile(reference, np.arange(1, 10) / 10, method="inverted_cdf")
    values, times = np.unique(deciles, return_counts=True)
    edges: list[tuple[float, str]] = []  # a bin ends before (left) or with (right) an edge
    for value, count in zip(values.tolist(), times.tolist()):
        if count > 1:
            edges.append((value, "left"))
        edges.append((value, "right"))

    def counted(numbers: np.ndarray) -> list[int]:
        below = [0, *(int(np.searchsorted(numbers, value, side)) for value, side in edges), len(numbers)]  # type: ignore[call-overload]
        return np.diff(below).tolist()

    names = []
    for i in range(len(edges) + 1):
        low, high = (edges[i - 1] if i else None), (edges[i] if i < len(edges) else None)
        if low and high and low[0] == high[0]:
            names.append(f"exactly {_shown(low[0], dtype)}")
        elif high:
            until = f"{'up to' if high[1] == 'right' else 'below'} {_shown(high[0], dtype)}"
            names.append(until + (f", above {_shown(low[0], dtype)}" if low else ""))
        else:
            names.append(f"above {_shown(low[0], dtype)}" if low else "all")
    return names, counted(reference), counted(now)


def _text_bins(reference: pl.Series, now: pl.Series) -> tuple[list[str], list[int], list[int]]:
    q: dict[Any, int] = dict(reference.alias("v").value_counts().iter_rows())
    p: dict[Any, int] = dict(now.alias("v").value_counts().iter_rows())
    kept = sorted(v for v, n in q.items() if n >= RARE * len(reference))
    q_rows, p_rows = [q[v] for v in kept], [p.get(v, 0) for v in kept]
    return [*map(repr, kept), "other values"], [*q_rows, len(reference) - sum(q_rows)], [*p_rows, len(now) - sum(p_rows)]


def _shares(rows: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.maximum((rows + 0.5) / (rows.sum() + 0.5 * len(rows)), LEAST_SHARE)
    return shares


def _shown(value: float, dtype: pl.DataType) -> str:
    if dtype.is_temporal():
        return str(pl.Series([int(value)]).cast(dtype)[0])
    return f"{value:g}"
