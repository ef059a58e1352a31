"""Domain classifier: can a model tell the rows of now from those of the reference? It sees what no single column shows: columns that part company.

    score = ROC-AUC of gradient boosting, on rows it was not fitted on, of the label "this row is from now"; 0.5 is alike, 1 another world

Source: Lopez-Paz and Oquab (2017), "Revisiting Classifier Two-Sample Tests"; Ben-David et al. (2010) for the proxy A-distance.
The folds are whole blocks where blocks are given: a model that recognises a day by its weather recognises a new day of the same kind no better than
chance.

Unit of independence: the block. Rows of one block are in one fold, so what is found must hold for blocks that were not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

MOST = 20_000  # rows of either side that are looked at
FOLDS = 3


@dataclass(frozen=True, slots=True)
class Told:
    """`auc` of telling apart; `columns` and how much the AUC falls when each is shuffled, worst first."""

    auc: float
    columns: tuple[tuple[str, float], ...]


def score(reference: pl.DataFrame, now: pl.DataFrame, *, blocks: tuple[np.ndarray, np.ndarray] | None = None, seed: int = 0) -> Told:
    """How well rows of `now` are told from rows of `reference`; both have the same columns, numbers or texts.

    Args:
        blocks: the block of each row, of both; without them folds are drawn by row.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(seed)
    sides = []
    for frame, place in ((reference, 0), (now, 1)):
        chosen = np.sort(rng.permutation(frame.height)[:MOST])
        group = blocks[place][chosen] if blocks is not None else chosen
        sides.append((frame[chosen], np.full(len(chosen), place), group))
    if min(len(s[1]) for s in sides) < 10 * FOLDS:
        return Told(0.5, ())
    frame = pl.concat([s[0] for s in sides], how="vertical_relaxed")
    x, categorical = _coded(frame)
    y = np.concatenate([s[1] for s in sides])
    fold = np.empty(len(y), int)
    for place, (_, label, group) in enumerate(sides):
        names, position = np.unique(group, return_inverse=True)
        fold[y == place] = rng.permutation(np.arange(len(names)) % FOLDS)[position] if len(label) else 0
    held = np.zeros(len(y))
    shuffled = np.zeros((x.shape[1], len(y)))
    for k in range(FOLDS):
        test = fold == k
        if not test.any() or len(np.unique(y[~test])) < 2:
            continue
        model = HistGradientBoostingClassifier(
            max_iter=50, max_leaf_nodes=15, categorical_features=categorical, random_state=seed, early_stopping=False
        )
        model.fit(x[~test], y[~test])
        held[test] = model.predict_proba(x[test])[:, 1]
        for j in range(x.shape[1]):
            other = x[test].copy()
            other[:, j] = rng.permutation(other[:, j])
            shuffled[j, test] = model.predict_proba(other)[:, 1]
    scored = [test for k in range(FOLDS) if len(np.unique(y[test := fold == k])) == 2]
    if not scored:
        return Told(0.5, ())
    auc = float(np.mean([roc_auc_score(y[t], held[t]) for t in scored]))
    falls = {c: auc - float(np.mean([roc_auc_score(y[t], shuffled[j][t]) for t in scored])) for j, c in enumerate(frame.columns)}
    return Told(auc, tuple(sorted(((c, v) for c, v in falls.items() if v > 0.005), key=lambda item: -item[1])))


def _coded(frame: pl.DataFrame) -> tuple[np.ndarray, list[int]]:
    """Columns as numbers: the most frequent 200 categories by rank, the rest together."""
    columns, categorical = [], []
    for i, name in enumerate(frame.columns):
        column = frame[name]
        if column.dtype.is_numeric() or column.dtype.is_temporal():
            columns.append((column.to_physical() if column.dtype.is_temporal() else column).cast(pl.Float64).fill_null(float("nan")).to_numpy())
        else:
            texts = column.cast(pl.String)
            common = texts.drop_nulls().value_counts(sort=True)[name].head(200).to_list() if texts.null_count() < len(texts) else []
            code = {value: float(rank) for rank, value in enumerate(common)}
            columns.append(np.array([float("nan") if v is None else code.get(v, float(len(code))) for v in texts.to_list()]))
            categorical.append(i)
    return np.column_stack(columns), categorical
