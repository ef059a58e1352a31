"""Which rows are searched, which are kept for the one honest look. Decided before anything is fitted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from treadle.core.clock import iso
from treadle.core.declare.model import Model
from treadle.core.errors import DataError
from treadle.features.rows import KEY, KNOWN, MOMENT, TARGET
from treadle.training.target import Target

FEWEST = 10
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class Parts:
    """Row numbers (into the frame that was split) for searching and for testing, how they were made, and folds within the search rows.

    Args:
        folds: (train, valid) positions into `search`.
        blocks: for each test row, the number of the independent block it lies in (a day; each row by itself without time).
    """

    search: np.ndarray
    test: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]
    blocks: np.ndarray
    how: dict[str, object]


def split(
    model: Model, rows: pl.DataFrame, target: Target, as_of: datetime | None = None, *, window: timedelta | None = None
) -> Parts:
    """Split rows with a known truth. `as_of` hides every row whose truth was not known by then; with `window` rows older than that are left out.

    Raises: DataError when a part would be too small to say anything.
    """
    usable = pl.col(TARGET).is_not_null()
    if as_of is not None and rows[KNOWN].null_count() < rows.height:
        usable &= pl.col(KNOWN) <= as_of
    if model.split.method == "time":
        usable &= pl.col(MOMENT).is_not_null() & pl.col(KNOWN).is_not_null()  # when they were known cannot be said
    if window is not None:
        newest = as_of or rows.filter(usable)[MOMENT].max()
        usable &= pl.col(MOMENT) > pl.lit(newest) - window
    index = rows.select(pl.arg_where(usable)).to_series().to_numpy()
    if len(index) < 2 * FEWEST:
        raise DataError(f"Only {len(index)} rows have a known {model.target!r}.", where=f"model {model.name!r}", hint="At least 20 are needed.")
    if model.split.method == "time":
        parts = _by_time(model, rows, index)
    else:
        parts = _by_group(model, rows, index, target) if model.split.method == "group" else _at_random(model, rows, index, target)
    if len(parts.search) < FEWEST or len(parts.test) < FEWEST:
        raise DataError(
            f"The split leaves {len(parts.search)} rows to search and {len(parts.test)} to test.", where=f"model {model.name!r} ({model.place})",
            hint="Choose another test span or share in split=.",
        )  # fmt: skip
    if target.task == "regression":
        return parts
    codes = target.codes(rows[TARGET].gather(parts.search))
    seen = np.bincount(codes, minlength=len(target.labels))
    if (seen > 0).sum() < 2:
        raise DataError(f"All rows to search have the same {model.target!r}.", where=f"model {model.name!r}", hint="Choose another split.")
    if (seen == 0).any():
        unknown = ", ".join(repr(target.labels[i]) for i in np.flatnonzero(seen == 0)[:5])
        raise DataError(
            f"{model.target} = {unknown} is only among the test rows: no model of the other rows can know it.", where=f"model {model.name!r}",
            hint="Choose a split that has it on both sides, or exclude those rows.",
        )  # fmt: skip
    if target.task == "binary" and seen.min() < 2:
        raise DataError(
            f"Only one of the {len(codes):,} rows to search has {model.target} = {target.labels[int(seen.argmin())]!r}.",
            where=f"model {model.name!r}", hint="A search needs at least two of each class, to learn from one and be judged on another.",
        )  # fmt: skip
    folds = _learnable(target, codes, parts.folds)
    if not folds:
        raise DataError(
            f"In no fold do the training rows hold two values of {model.target!r}.", where=f"model {model.name!r}",
            hint="Choose fewer folds or another split.",
        )  # fmt: skip
    return replace(parts, folds=folds)


def _by_time(model: Model, rows: pl.DataFrame, index: np.ndarray) -> Parts:
    micros = rows[MOMENT].gather(index).cast(pl.Int64).to_numpy()
    order = np.argsort(micros, kind="stable")
    index, micros = index[order], micros[order]
    known = rows[KNOWN].gather(index).cast(pl.Int64).to_numpy()
    span = model.split.test
    length = span if isinstance(span, timedelta) else timedelta(microseconds=int((micros[-1] - micros[0]) * span))
    start, gap = micros[-1] - int(length.total_seconds() * 1e6), int(model.split.gap.total_seconds() * 1e6)
    is_test = micros > start
    # A row asked about before the test begins but answered only after it starts would bring news from the test into training.
    kept = (micros <= start - gap) & (known <= start)
    search, test = index[kept], index[is_test]
    folds = _folds_in_time(micros[kept], known[kept], model.split.folds, gap)
    groups = _group_codes(rows, model.kind.group).take(test) if model.kind and model.kind.group else None
    blocks = micros[is_test] // DAY if groups is None else groups
    how = {"method": "time", "test": length.total_seconds(), "test_from": _text(start), "test_to": _text(micros[-1]), "folds": len(folds)}
    if gap:
        how["gap"] = model.split.gap.total_seconds()
    return Parts(search, test, folds, blocks - blocks.min() if len(blocks) else blocks, how)


def _folds_in_time(micros: np.ndarray, known: np.ndarray, count: int, gap: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Each fold learns from a growing past and is judged on what follows. Rows are in order of time."""
    size, folds = len(micros), []
    for i in range(1, count + 1):
        cut, end = size * i // (count + 1), size * (i + 1) // (count + 1)
        if cut < size and end > cut:
            train = np.flatnonzero((known[:cut] <= micros[cut]) & (micros[:cut] <= micros[cut] - gap))
            if len(train):
                folds.append((train, np.arange(cut, end)))
    return folds


def _at_random(model: Model, rows: pl.DataFrame, index: np.ndarray, target: Target) -> Parts:
    from sklearn.model_selection import train_test_split

    share = float(model.split.test) if not isinstance(model.split.test, timedelta) else 0.25
    codes = target.codes(rows[TARGET].gather(index))
    classes = target.task != "regression"
    rare = classes and np.bincount(codes, minlength=len(target.labels)).min() < 2
    search, test = train_test_split(index, test_size=share, random_state=model.seed, stratify=codes if classes and not rare else None)
    search, test = np.sort(search), np.sort(test)
    folds = _folds_at_random(target, target.codes(rows[TARGET].gather(search)), model.split.folds, model.seed)
    how = {"method": "random", "test": share, "seed": model.seed, "folds": len(folds)}
    return Parts(search, test, folds, np.arange(len(test)), how)


def _folds_at_random(target: Target, codes: np.ndarray, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    count = min(count, len(codes))
    if target.task != "regression":
        rarest = int(np.bincount(codes, minlength=len(target.labels)).min())
        if target.task == "binary" and 2 <= rarest < count:
            count = rarest  # each fold is judged on at least one row of the rare class
        if rarest >= count:
            return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(np.zeros(len(codes)), codes))
    return list(KFold(count, shuffle=True, random_state=seed).split(np.zeros(len(codes))))


def _by_group(model: Model, rows: pl.DataFrame, index: np.ndarray, target: Target) -> Parts:
    from sklearn.model_selection import GroupShuffleSplit

    groups = _group_codes(rows, model.split.by)[index]
    count = len(np.unique(groups))
    if count < 4:
        raise DataError(
            f"Column {model.split.by!r} has {count} different values, too few to split by.", where=f"model {model.name!r} ({model.place})",
            hint="At least 4 groups are needed; choose another column or split.",
        )  # fmt: skip
    share = float(model.split.test) if not isinstance(model.split.test, timedelta) else 0.25
    search, test = next(GroupShuffleSplit(1, test_size=share, random_state=model.seed).split(index, groups=groups))
    folds = _folds_by_group(target, target.codes(rows[TARGET].gather(index[search])), groups[search], model.split.folds, model.seed)
    how = {"method": "group", "by": model.split.by, "test": share, "seed": model.seed, "folds": len(folds)}
    return Parts(index[search], index[test], folds, np.unique(groups[test], return_inverse=True)[1], how)


def _folds_by_group(target: Target, codes: np.ndarray, groups: np.ndarray, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    count = min(count, len(np.unique(groups)))
    nothing = np.zeros(len(codes))
    if target.task == "regression" or np.bincount(codes, minlength=len(target.labels)).min() < count:
        return list(GroupKFold(count, shuffle=True, random_state=seed).split(nothing, groups=groups))
    return list(StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(nothing, codes, groups))


def _group_codes(rows: pl.DataFrame, column: str) -> np.ndarray:
    """The number of each row's group; rows without one are a group of their own each."""
    values = rows[f"slice:{column}"]
    codes = values.rank("dense").cast(pl.Int64).fill_null(-1).to_numpy().copy()
    lone = codes < 0
    codes[lone] = codes.max() + 1 + np.arange(int(lone.sum()))
    return codes


def groups_of(model: Model, rows: pl.DataFrame) -> np.ndarray | None:
    """The number of each row's group, where the task ranks within groups."""
    return _group_codes(rows, model.kind.group) if model.kind is not None and model.kind.group else None


def blocks_of(model: Model, rows: pl.DataFrame, positions: np.ndarray) -> np.ndarray:
    """The number of the block in which each of these rows shares its luck with others: its group, its day, or itself."""
    column = model.kind.group if model.kind and model.kind.group else model.split.by
    if column:
        return np.asarray(_group_codes(rows, column)[positions])
    if model.split.method == "time":
        return np.asarray(rows[MOMENT].gather(positions).cast(pl.Int64).to_numpy() // DAY)
    return np.arange(len(positions))


def outer_folds(
    model: Model, rows: pl.DataFrame, search: np.ndarray, target: Target
) -> list[tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]]:
    """For a nested search: positions into `search` to search on and to judge on, and the folds within the first."""
    count, split = model.split.nested, model.split
    codes = target.codes(rows[TARGET].gather(search))
    groups = _group_codes(rows, split.by)[search] if split.method == "group" else None
    gap = int(split.gap.total_seconds() * 1e6)
    micros, known = (rows[c].gather(search).cast(pl.Int64).to_numpy() for c in (MOMENT, KNOWN))

    def within(positions: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        if split.method == "time":
            return _folds_in_time(micros[positions], known[positions], folds, gap)
        if groups is not None:
            return _folds_by_group(target, codes[positions], groups[positions], folds, seed)
        return _folds_at_random(target, codes[positions], folds, seed)

    whole = within(np.arange(len(search)), count, model.seed + 1)
    return [(train, valid, _learnable(target, codes[train], within(train, split.folds, model.seed))) for train, valid in whole]


def _learnable(target: Target, codes: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The folds that a model can learn from: two classes at least among their training rows."""
    if target.task == "regression":
        return folds
    return [(train, valid) for train, valid in folds if len(np.unique(codes[train])) > 1]


def test_set_name(rows: pl.DataFrame, parts: Parts) -> str:
    """A digest of which rows are the test set, to count how often it was read."""
    from treadle.core.canonical import digest

    return digest(sorted(rows[KEY].gather(parts.test).to_list()))[:16]


def _text(micros: int) -> str:
    from datetime import UTC

    return iso(datetime.fromtimestamp(int(micros) / 1e6, UTC))
