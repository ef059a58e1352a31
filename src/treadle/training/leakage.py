"""Leakage: news of the answer that reached the model by a way it will not have in production. Each suspicion is named, with its evidence.

What is looked at: a feature that gives the target away; test rows that are copies, or nearly, of training rows; one entity on both sides of a random
split; training on rows that were known only later than the test rows; preprocessing that has seen the test rows; a feature that is filled in only
when the answer is known. The kinds are those of Kapoor and Narayanan (2023), "Leakage and the reproducibility crisis in machine-learning-based
science".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Task
from treadle.features.rows import KNOWN, MOMENT, TARGET
from treadle.training.losses import auc

KINDS = ("target", "not-yet-known", "overlap", "near-duplicates", "group", "time", "preprocessing")
MOST = 20_000  # rows looked at for one question
WORK = 4_000_000  # rows times features looked at for single features
MOST_COLUMNS = 300  # of each kind: beyond it only the likeliest are looked at one by one
FEW = 40  # rows below which nothing is said of a feature's skill
ENOUGH_TO_ORDER = 50  # rows of each class: fewer stand in some order by luck
REST = 0.55  # all other features together are far behind a feature when they have less than this part of its skill
NOTED = 0.75  # skill (0 none, 1 perfect) from which on a feature that leaves all others far behind is named
TOO_GOOD = 0.95  # ... and suspected, of a number: distance tells the time of a taxi ride with 0.8 and leaks nothing
TOO_GOOD_OF_CLASSES = 0.75  # ... of classes, where honest features seldom stand alone: the delay at departure tells a late landing with 0.8
FAINT = 0.05  # skill of all others together, below which they tell nothing: a toy, or one hint among noise; judged as a number is
PERFECT = 0.99  # suspected where the others are good too, or where there are no others
SHARE = 0.01  # of the test rows: fewer copies than this change no figure
SURE = 1e-4


@dataclass(frozen=True)
class Suspect:
    """One suspicion. `what` is the feature, column or step it is about; `evidence` the numbers of the sentence."""

    kind: str
    what: str
    sentence: str
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Looked:
    """What is looked at.

    Args:
        rows: the model's rows as `features.rows` makes them, those without a truth too.
        search, test: positions into them.
        truth: class codes or numbers of the rows with a truth, by position into `rows`; anything for the others.
        numbers, categories: names of the features.
        looked_up: features that come from views, which are joined as they were known.
        expected: features that may tell the target: the naive forecast, and all features of a detector, which has not learnt from the truth.
        known_column: a model input that is the data set's known_time, if one is.
        entity: the value, by position into `rows`, of what a row is about (a person, a machine), and the column's name.
        make: an unfitted estimator as the project makes it, if it makes one.
        fitted: the pipeline that was trained on the search rows.
    """

    task: Task
    rows: pl.DataFrame
    search: np.ndarray
    test: np.ndarray
    truth: np.ndarray
    numbers: Sequence[str]
    categories: Sequence[str]
    method: str
    seed: int = 0
    looked_up: Sequence[str] = ()
    expected: Sequence[str] = ()
    known_column: str = ""
    entity: tuple[str, Sequence[Any]] | None = None
    make: Any = None
    fitted: Any = None


def suspects(looked: Looked) -> dict[str, Any]:
    """Every suspicion, as JSON: 'looked_at' names the kinds that were looked for, 'found' the suspects, 'noted' what is worth a look and suspected of
    nothing, 'skill' each feature's own."""
    skill = feature_skill(looked)
    telling = gives_away(looked, skill)
    found = [
        *(s for s in telling if s.evidence["suspected"]), *not_yet_known(looked), *copies(looked), *near_copies(looked),
        *shared_entities(looked, skill), *out_of_order(looked), *prefitted(looked), *scaled_before(looked),
    ]  # fmt: skip
    return {"looked_at": list(KINDS), "found": [asdict(s) for s in found], "noted": [asdict(s) for s in telling if s not in found], "skill": skill}


def feature_skill(looked: Looked) -> dict[str, float]:
    """What each feature by itself tells of the target, 0 to 1, on rows it was not fitted on.

    A small tree of the one feature (of a category: the mean target of each value) is made on one half of the search rows and asked on the other, both
    ways. Skill is 2 AUC - 1 (mean over the classes) or R squared. Missing values may take a branch of their own, so that a tell-tale gap counts.
    """
    columns = [*looked.numbers, *looked.categories]
    chosen = _sample(looked.search, looked.seed, min(MOST, max(500, WORK // max(1, len(columns)))))
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


def not_yet_known(looked: Looked) -> list[Suspect]:
    """Features that are there only when the answer is: empty on the rows without a truth, or telling the time until it was known."""
    found = []
    if looked.known_column:
        found.append(Suspect(
            "not-yet-known", looked.known_column, f"{looked.known_column} is the moment at which the truth became known; no request can carry it", {}
        ))  # fmt: skip
    rows = looked.rows
    unlabelled = rows[TARGET].is_null().to_numpy()
    open_rows, closed = int(unlabelled.sum()), int((~unlabelled).sum())
    own = [n for n in (*looked.numbers, *looked.categories) if n not in looked.looked_up]
    for name in own if open_rows >= 20 and closed >= 20 else ():
        empty = _missing(rows[name])
        gone, there = float(empty[unlabelled].mean()), float(empty[~unlabelled].mean())
        if gone >= 0.95 and there <= 0.05:
            found.append(Suspect(
                "not-yet-known", name,
                f"{name} is empty on {gone:.0%} of the {open_rows:,} rows whose truth is not known yet, and on {there:.0%} of the others: "
                "it is filled in with the answer",
                {"empty_without_truth": gone, "empty_with_truth": there, "rows_without_truth": open_rows},
            ))  # fmt: skip
    timed = (rows[KNOWN] - rows[MOMENT]).dt.total_microseconds().cast(pl.Float64).to_numpy()
    for name in looked.numbers:
        if name in looked.looked_up:
            continue
        values = rows[name].to_numpy()
        both = np.isfinite(timed) & np.isfinite(values)
        if both.sum() < FEW:
            continue
        x, t = values[both], timed[both]
        if np.unique(t[:1000]).size < 10 or x.std() == 0:
            continue
        r = float(np.corrcoef(x, t)[0, 1])
        if abs(r) > 0.99999:
            found.append(Suspect(
                "not-yet-known", name, f"{name} is the time between the prediction and its truth (correlation {r:.6f}): it is known only afterwards",
                {"correlation": r, "rows": int(both.sum())},
            ))  # fmt: skip
    return found


def copies(looked: Looked) -> list[Suspect]:
    """Test rows whose features and target are those of a training row, to the last digit."""
    names = [*looked.numbers, *looked.categories]
    seeds = dict(zip(looked.rows.select(names)[looked.search].hash_rows(seed=1).to_list(), looked.search.tolist()))
    twins = [(int(row), seeds.get(h)) for row, h in zip(looked.test, looked.rows.select(names)[looked.test].hash_rows(seed=1).to_list())]
    pairs = np.array([(a, b) for a, b in twins if b is not None], dtype=np.int64).reshape(-1, 2)
    same, chance, sure = _same_targets(looked, pairs, exact=True)
    if len(pairs) < _enough(looked) or same < 0.98 or not sure:
        return []
    return [Suspect(
        "overlap", "test rows",
        f"{len(pairs):,} of {len(looked.test):,} test rows stand among the training rows with the same features and, in {same:.0%}, the same target "
        f"({chance:.0%} would by chance)",
        {"copies": len(pairs), "test_rows": len(looked.test), "same_target": same, "by_chance": chance, "examples": _keys(looked, pairs[:5])},
    )]  # fmt: skip


def near_copies(looked: Looked) -> list[Suspect]:
    """Test rows that are a training row but for a trifle: a fiftieth of the usual distance to the nearest neighbour, and the same target."""
    rng = np.random.default_rng(looked.seed)
    search = _sample(looked.search, looked.seed)
    test = looked.test if len(looked.test) <= 2_000 else np.sort(rng.choice(looked.test, 2_000, replace=False))
    fine = [n for n in looked.numbers if looked.rows[n].gather(search).n_unique() > 0.2 * len(search)]
    if len(fine) < 2 or len(search) < FEW:
        return []
    from sklearn.neighbors import NearestNeighbors

    known, asked = (looked.rows.select(fine)[p].to_numpy() for p in (search, test))
    with np.errstate(invalid="ignore"):
        middle = np.nanmedian(known, axis=0)
        spread = np.nanpercentile(known, 75, axis=0) - np.nanpercentile(known, 25, axis=0)
    wide = np.isfinite(spread) & (spread > 0)
    if wide.sum() < 2:
        return []
    known, asked = (np.nan_to_num((x[:, wide] - middle[wide]) / spread[wide], nan=0.0, posinf=50.0, neginf=-50.0) for x in (known, asked))
    index = NearestNeighbors(n_neighbors=2).fit(known)
    usual = float(np.median(index.kneighbors(known[rng.choice(len(known), min(1_000, len(known)), replace=False)])[0][:, 1]))
    distance, nearest = index.kneighbors(asked, n_neighbors=1)
    close = np.flatnonzero((distance[:, 0] < usual / 50) & (distance[:, 0] > 0))
    pairs = np.column_stack([test[close], search[nearest[close, 0]]])
    for name in looked.categories:
        left, right = (looked.rows[name].gather(pairs[:, i]).to_list() for i in (0, 1))
        pairs = pairs[[a == b for a, b in zip(left, right)]]
    same, chance, sure = _same_targets(looked, pairs, exact=False)
    if usual <= 0 or len(pairs) < max(5, SHARE * len(test)) or same < 0.95 or not sure:
        return []
    return [Suspect(
        "near-duplicates", "test rows",
        f"{len(pairs):,} of {len(test):,} test rows lie within a fiftieth of the usual distance of a training row, and {same:.0%} of them have its "
        f"target ({chance:.0%} would by chance)",
        {
            "near": len(pairs), "test_rows": len(test), "same_target": same, "by_chance": chance, "usual_distance": usual,
            "examples": _keys(looked, pairs[:5]),
        },
    )]  # fmt: skip


def shared_entities(looked: Looked, skill: Mapping[str, float]) -> list[Suspect]:
    """The same person, machine or site on both sides of a split that is not by time: the model may know it again."""
    found: list[Suspect] = []
    if looked.method == "time":
        return found
    if looked.entity is not None:
        column, values = looked.entity
        array = np.array(["" if v is None else str(v) for v in values], dtype=object)
        seen = set(array[looked.search]) - {""}
        both = float(np.mean([v in seen for v in array[looked.test]]))
        if both >= 0.05:
            found.append(Suspect(
                "group", column,
                f"{both:.0%} of the test rows are about a {column} that is in the training rows too: "
                "split by group, or what is measured is recognition",
                {"share": both, "entities": len(set(array) - {""})},
            ))  # fmt: skip
    for name in looked.categories:
        if name in looked.looked_up or skill.get(name, 0.0) < 0.5 or (looked.entity is not None and name == looked.entity[0]):
            continue
        levels = looked.rows[name].gather(looked.search).n_unique()
        if max(20, len(looked.search) / 20) <= levels <= len(looked.search) / 2:
            found.append(Suspect(
                "group", name,
                f"{name} names {levels:,} things in {len(looked.search):,} training rows and tells the target with skill {skill[name]:.2f}: "
                "the same things are in the test rows, and new ones will not be known",
                {"levels": levels, "skill": skill[name]},
            ))  # fmt: skip
    return found


def out_of_order(looked: Looked) -> list[Suspect]:
    """Training rows whose truth became known only after a test row was asked about."""
    moments, known = (looked.rows[c].cast(pl.Int64).to_numpy().astype(np.float64) for c in (MOMENT, KNOWN))
    asked, learned = moments[looked.test], np.where(np.isfinite(known), known, moments)[looked.search]
    asked, learned = asked[np.isfinite(asked)], np.sort(learned[np.isfinite(learned)])
    if len(asked) < 10 or len(learned) < 10 or asked.max() == asked.min():
        return []
    later = 1 - float(np.searchsorted(learned, asked, side="right").mean()) / len(learned)
    if later <= 0.001:
        return []
    return [Suspect(
        "time", "split",
        f"for the mean test row {later:.0%} of the training rows became known only after it was asked about: it is judged by the future",
        {"later": later, "method": looked.method},
    )]  # fmt: skip


def prefitted(looked: Looked) -> list[Suspect]:
    """Parts of the project's own estimator that are fitted before the training begins, and encoders that have seen more rows than there are."""
    found = []
    for path, part in _parts("estimator", looked.make):
        if _fitted(part):
            seen = getattr(part, "n_samples_seen_", None)
            count = int(np.max(seen)) if seen is not None else None
            text = f", on {count:,} rows; there are {len(looked.search):,} to train on" if count is not None else ""
            found.append(Suspect(
                "preprocessing", path, f"{type(part).__name__} in {path} is fitted before the training begins{text}: it may have seen the test rows",
                {"rows_seen": count, "training_rows": len(looked.search)},
            ))  # fmt: skip
    for path, part in _parts("pipeline", looked.fitted):
        seen = getattr(part, "n_samples_seen_", None)
        if seen is not None and int(np.max(seen)) > len(looked.search):
            found.append(Suspect(
                "preprocessing", path, f"{type(part).__name__} was fitted on {int(np.max(seen)):,} rows, {len(looked.search):,} are to be trained on",
                {"rows_seen": int(np.max(seen)), "training_rows": len(looked.search)},
            ))  # fmt: skip
    return found


def scaled_before(looked: Looked) -> list[Suspect]:
    """Columns that have mean 0 and deviation 1 over training and test rows together, and over neither alone: a scaler saw all of them."""
    if len(looked.search) < 10 or len(looked.test) < 5:
        return []
    found = []
    everything = np.concatenate([looked.search, looked.test])
    for name in looked.numbers:
        if name in looked.looked_up:
            continue
        values, alone = looked.rows[name].gather(everything).to_numpy(), looked.rows[name].gather(looked.search).to_numpy()
        if not np.isfinite(values).all() or np.unique(values[:200]).size < 3:
            continue
        n = len(values)
        scales = [values.std(), values.std() * math.sqrt(n / (n - 1))]
        if abs(values.mean()) < 1e-6 and min(abs(s - 1) for s in scales) < 1e-6 and abs(alone.mean()) > 1e-5:
            found.append(Suspect(
                "preprocessing", name,
                f"{name} has mean 0 and deviation 1 over the training and test rows together ({n:,}), "
                f"and mean {alone.mean():+.4f} over the training rows: it was scaled before the split",
                {"rows": n, "mean_of_training_rows": float(alone.mean())},
            ))  # fmt: skip
    return found


# How each question is answered


def _sample(positions: np.ndarray, seed: int, most: int = MOST) -> np.ndarray:
    return positions if len(positions) <= most else np.sort(np.random.default_rng(seed).choice(positions, most, replace=False))


def _likely(looked: Looked, chosen: np.ndarray, truth: np.ndarray) -> list[str]:
    """Of very many numbers those whose ranks, or gaps, go most with the target: an answer written into a column is among them."""
    matrix = looked.rows.select(looked.numbers)[chosen].to_numpy()
    gaps = ~np.isfinite(matrix)
    ranks = np.where(gaps, -1.0, matrix).argsort(axis=0, kind="stable").argsort(axis=0, kind="stable").astype(np.float64)
    kinds = [truth] if looked.task == "regression" else [(truth == k).astype(np.float64) for k in np.unique(truth)]
    best = np.zeros(len(looked.numbers))
    with np.errstate(invalid="ignore", divide="ignore"):
        for target in kinds:
            centred = (target - target.mean()) / max(float(target.std()), 1e-12)
            for values in (ranks, gaps.astype(np.float64)):
                spread = values.std(axis=0)
                r = np.abs(centred @ (values - values.mean(axis=0))) / len(truth) / np.where(spread > 0, spread, np.inf)
                best = np.maximum(best, r)
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

    chosen = _sample(looked.search, looked.seed, MOST // 2)
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


def _missing(values: pl.Series) -> np.ndarray:
    if values.dtype == pl.String:
        return (values.fill_null("") == "").to_numpy()
    return np.asarray(np.isnan(values.cast(pl.Float64).to_numpy()))


def _enough(looked: Looked) -> float:
    return max(5.0, SHARE * len(looked.test))


def _same_targets(looked: Looked, pairs: np.ndarray, *, exact: bool) -> tuple[float, float, bool]:
    """(share of pairs with the same target, share by chance, whether chance is out of the question)."""
    if not len(pairs):
        return 0.0, 0.0, False
    left, right = looked.truth[pairs[:, 0]], looked.truth[pairs[:, 1]]
    close = 0.0 if exact or looked.task != "regression" else 0.05 * float(looked.truth[looked.search].std())
    same = float(np.mean(np.abs(left - right) <= close))
    everyone = looked.truth[looked.search]
    shuffled = np.random.default_rng(looked.seed).permutation(everyone)
    if looked.task == "regression":
        chance = float(np.mean(np.abs(everyone - shuffled) <= close))
    else:
        shares = np.bincount(everyone.astype(int)) / len(everyone)
        chance = float((shares**2).sum())
    return same, chance, len(pairs) * math.log(min(max(chance, 1e-9), 1 - 1e-12)) < math.log(SURE)


def _keys(looked: Looked, pairs: np.ndarray) -> list[list[str]]:
    from treadle.features.rows import KEY

    keys = looked.rows[KEY]
    return [[str(keys[int(a)]), str(keys[int(b)])] for a, b in pairs]


def _parts(path: str, part: Any, depth: int = 0) -> list[tuple[str, Any]]:
    """The estimators and transformers inside one, by name; itself too."""
    if part is None or isinstance(part, str) or depth > 4:
        return []
    found = [(path, part)] if hasattr(part, "fit") else []
    inner: list[tuple[str, Any]] = []
    for name in ("steps", "transformers", "transformers_", "estimators"):
        inside = getattr(part, name, None)
        if isinstance(inside, list) and all(isinstance(i, tuple) and len(i) >= 2 for i in inside):
            inner = [(str(i[0]), i[1]) for i in inside] or inner
    for name in ("estimator", "base_estimator", "regressor", "transformer", "classifier"):
        if hasattr(getattr(part, name, None), "fit"):
            inner.append((name, getattr(part, name)))
    return found + [p for name, value in inner for p in _parts(f"{path}.{name}", value, depth + 1)]


def _fitted(part: Any) -> bool:
    """Whether something has learnt already. A pipeline is what its parts are; those are asked one by one."""
    if hasattr(part, "steps") or type(part).__name__ == "ColumnTransformer":
        return False
    learnt = [v for v in vars(part) if v.endswith("_") and not v.startswith("_")] if hasattr(part, "__dict__") else []
    return bool(learnt) or type(part).__name__ == "FrozenEstimator"
