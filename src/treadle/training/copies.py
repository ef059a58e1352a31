"""Test rows that stand among the training rows too, to the last digit or nearly."""

from __future__ import annotations

import math

import numpy as np

from treadle.training.looked import FEW, Looked, Suspect, sample

SHARE = 0.01  # of the test rows: fewer copies than this change no figure
SURE = 1e-4


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
    search = sample(looked.search, looked.seed)
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
