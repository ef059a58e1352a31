"""What single features tell of the target: an answer written into a column tells nearly all, and leaves everything else far behind."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from treadle.core.declare.model import Task
from treadle.training import narrow
from treadle.training.looked import FEW, MOST, Looked, Suspect, sample
from treadle.training.losses import auc

WORK = 4_000_000  # rows times features looked at for single features
MOST_COLUMNS = 300  # of each kind: beyond it only the likeliest are looked at one by one
ENOUGH_TO_ORDER = 50  # rows of each class: fewer stand in some order by luck
REST = 0.55  # all other features together are far behind a feature when they have less than this part of its skill
NOTED = 0.75  # skill (0 none, 1 perfect) from which on a feature that leaves all others far behind is named
TOO_GOOD = 0.95  # ... and suspected, of a number: distance tells the time of a taxi ride with 0.8 and leaks nothing
TOO_GOOD_OF_CLASSES = 0.75  # ... of classes, where honest features seldom stand alone: the delay at departure tells a late landing with 0.8
FAINT = 0.05  # skill of all others together, below which they tell nothing: a toy, or one hint among noise; judged as a number is
PERFECT = 0.99  # suspected where the others are good too, or where there are no others


def feature_skill(looked: Looked) -> dict[str, float]:
    """What each feature by itself tells of the target, 0 to 1, on rows it was not fitted on.

    A small tree of the one feature (of a category: the mean target of each value) is made on one half of the search rows and asked on the other, both
    ways. Skill is 2 AUC - 1 (mean over the classes) or R squared. Missing values may take a branch of their own, so that a tell-tale gap counts.
    """
    columns = [*looked.numbers, *looked.categories]
    chosen = sample(looked.search, looked.seed, min(MOST, max(500, WORK // max(1, len(columns)))))
    if len(chosen) < FEW:
        return {}
    truth = looked.truth[chosen]
    if len(columns) > MOST_COLUMNS:
        columns = [*_likely(looked, chosen, truth), *looked.categories[:MOST_COLUMNS]]
    half = np.random.default_rng(looked.seed).permutation(len(chosen)) % 2
    found = {}
    for name in columns:
        said = np.zeros((len(chosen), 1 if looked.task == "regression" else int(looked.truth[looked.search].max()) + 1))
        values = _coded(looked.rows[name].gather(chosen))
        for side in (0, 1):
            fit, ask = half != side, half == side
            said[ask] = _means(looked.task, values, truth, fit, ask, said.shape[1])
        own = _skill(looked.task, truth, said)
        if looked.rows[name].dtype != pl.String:
            own = max(own, _in_order(looked.task, values, truth))
        found[name] = round(own, 4)
    return found


def _in_order(task: Task, values: np.ndarray, truth: np.ndarray) -> float:
    """What the order of a feature's values tells of two classes, what a straight line tells of numbers (squared correlation); 0 where it is not
    asked. A tree of few rows has steps and would miss some of a copy of the target."""
    there = np.isfinite(values)
    if there.sum() < 0.9 * len(values):
        return 0.0
    x, y = np.clip(values[there], -1e150, 1e150), truth[there]
    if task == "regression":
        with np.errstate(all="ignore"):
            r = float(np.corrcoef(x, y)[0, 1])
        return r * r if math.isfinite(r) else 0.0
    counts = np.bincount(y.astype(int))
    if task != "binary" or len(counts) != 2 or counts.min() < ENOUGH_TO_ORDER:
        return 0.0
    return abs(2 * auc(y, x) - 1)


def gives_away(looked: Looked, skill: Mapping[str, float]) -> list[Suspect]:
    """Features so good that everything else together is far behind: the mark of an answer written into a column, and of an honest simple world.

    From NOTED on such a feature is named, from `_too_good` on it is suspected. Where the others are good too, only one that is PERFECT while they
    are not is suspected. Features from views are not looked at: they are joined as they were known at the row's moment.
    """
    high = {n: s for n, s in skill.items() if s >= NOTED and n not in looked.looked_up and n not in looked.expected}
    if not high:
        return []
    rest = [n for n in skill if n not in high]
    behind = _together(looked, rest) if rest else None
    perfect = [n for n, s in high.items() if s >= PERFECT]
    if behind is None or behind <= REST * max(high.values()):
        told = [(n, s, behind) for n, s in high.items() if behind is None or behind <= REST * s]
    elif len(perfect) == 1:
        others = _together(looked, [n for n in skill if n != perfect[0]])
        told = [(perfect[0], high[perfect[0]], others)] if others <= PERFECT - 0.005 else []
    else:
        told = []
    compared = "there is no other feature" if behind is None else "all other features together reach {:.3f}"
    return [
        Suspect(
            "target", name,
            f"{name} alone tells the target with skill {own:.3f} of 1, {compared.format(other)}: is it known before the prediction?",
            {
                "skill": own, "rest": None if other is None else round(other, 4), "others_as_good": [n for n in high if n != name],
                "suspected": own >= _too_good(looked.task, other),
            },
        )
        for name, own, other in sorted(told, key=lambda t: -t[1])
    ]  # fmt: skip


def _too_good(task: Task, rest: float | None) -> float:
    """The skill from which on a feature is suspected. No figure tells an honest simple world from a leak: what is set here is how often a person is
    asked to vouch. Of numbers one feature often rules honestly (carat, weight, distance); of classes hardly ever, unless it is the answer's shadow.
    """
    if rest is None:
        return PERFECT
    return TOO_GOOD if task == "regression" or rest < FAINT else TOO_GOOD_OF_CLASSES


def _likely(looked: Looked, chosen: np.ndarray, truth: np.ndarray) -> list[str]:
    """Of very many numbers those that go most with the target: an answer written into a column is among them."""
    best = narrow.strength(looked.rows.select(looked.numbers)[chosen].to_numpy(), truth, looked.task)
    return [looked.numbers[i] for i in np.argsort(-best, kind="stable")[:MOST_COLUMNS]]


def _coded(values: pl.Series) -> np.ndarray:
    """Numbers as they are; categories as consecutive integers, which no two share."""
    if values.dtype == pl.String:
        return values.rank("dense").fill_null(0).to_numpy().astype(np.int64)
    return values.to_numpy()


def _means(task: Task, values: np.ndarray, truth: np.ndarray, fit: np.ndarray, ask: np.ndarray, width: int) -> np.ndarray:
    """The mean target, or share of each class, of the values like each asked row's, drawn a little towards the overall mean."""
    target = truth[:, None] if task == "regression" else np.eye(width)[truth.astype(int)]
    if values.dtype.kind == "f":
        from sklearn.tree import DecisionTreeRegressor

        clipped = np.clip(values, -3e38, 3e38)[:, None]  # NaN stays; the tree takes float32
        tree = DecisionTreeRegressor(max_leaf_nodes=64, min_samples_leaf=max(3, int(fit.sum()) // 400), random_state=0).fit(clipped[fit], target[fit])
        place, count = tree.apply(clipped), tree.tree_.node_count
    else:
        place, count = values, int(values.max()) + 1
    prior = target[fit].mean(axis=0)
    total = np.bincount(place[fit], minlength=count)[:, None]
    sums = np.column_stack([np.bincount(place[fit], weights=target[fit, k], minlength=count) for k in range(width)])
    return np.asarray(((sums + prior) / (total + 1.0))[place[ask]])


def _skill(task: Task, truth: np.ndarray, said: np.ndarray) -> float:
    if task == "regression":
        spread = float(((truth - truth.mean()) ** 2).sum())
        return max(0.0, 1 - float(((truth - said[:, 0]) ** 2).sum()) / spread) if spread > 0 else 0.0
    areas = [auc((truth == k).astype(int), said[:, k]) for k in (range(said.shape[1]) if said.shape[1] > 2 else [1])]
    areas = [a for a in areas if np.isfinite(a)]
    return max(0.0, 2 * float(np.mean(areas)) - 1) if areas else 0.0


def _together(looked: Looked, names: Sequence[str]) -> float:
    """The skill of some features together: gradient boosting on one half of the search rows, asked on the other, both ways."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    chosen = sample(looked.search, looked.seed, MOST // 2)
    truth = looked.truth[chosen]
    matrix = np.column_stack([_coded(looked.rows[n].gather(chosen)).astype(np.float64) for n in names])
    half = np.random.default_rng(looked.seed).permutation(len(chosen)) % 2
    said = np.zeros((len(chosen), 1 if looked.task == "regression" else int(looked.truth[looked.search].max()) + 1))
    kind = HistGradientBoostingRegressor if looked.task == "regression" else HistGradientBoostingClassifier
    for side in (0, 1):
        fit, ask = half != side, half == side
        if looked.task != "regression" and len(np.unique(truth[fit])) < 2:
            return 0.0
        made = kind(max_iter=60, early_stopping=False, min_samples_leaf=max(2, min(20, int(fit.sum()) // 20)), random_state=looked.seed)
        with threadpool_limits(1):  # so few rows are done sooner by one thread
            made.fit(matrix[fit], truth[fit])
        if looked.task == "regression":
            said[ask, 0] = made.predict(matrix[ask])
        else:
            said[np.ix_(np.flatnonzero(ask), made.classes_.astype(int))] = made.predict_proba(matrix[ask])
    return _skill(looked.task, truth, said)
