"""Which rows are searched, which are kept for the one honest look. Decided before anything is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from treadle.core.clock import iso
from treadle.core.declare.model import Model
from treadle.core.errors import DataError
from treadle.features.rows import KEY, KNOWN, MOMENT, TARGET
from treadle.training.target import Target

FEWEST = 10


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


def split(model: Model, rows: pl.DataFrame, target: Target, as_of: datetime | None = None) -> Parts:
    """Split rows with a known truth. `as_of` hides every row whose truth was not known by then.

    Raises: DataError when a part would be too small to say anything.
    """
    usable = pl.col(TARGET).is_not_null()
    if as_of is not None and rows[KNOWN].null_count() < rows.height:
        usable &= pl.col(KNOWN) <= as_of
    if model.split.method == "time":
        usable &= pl.col(MOMENT).is_not_null() & pl.col(KNOWN).is_not_null()  # when they were known cannot be said
    index = rows.select(pl.arg_where(usable)).to_series().to_numpy()
    if len(index) < 2 * FEWEST:
        raise DataError(f"Only {len(index)} rows have a known {model.target!r}.", where=f"model {model.name!r}", hint="At least 20 are needed.")
    parts = _by_time(model, rows, index) if model.split.method == "time" else _at_random(model, rows, index, target)
    if len(parts.search) < FEWEST or len(parts.test) < FEWEST:
        raise DataError(
            f"The split leaves {len(parts.search)} rows to search and {len(parts.test)} to test.", where=f"model {model.name!r} ({model.place})",
            hint="Choose another test span or share in split=.",
        )  # fmt: skip
    if target.task != "regression":
        codes = target.codes(rows[TARGET].gather(parts.search))
        if len(np.unique(codes)) < 2:
            raise DataError(f"All rows to search have the same {model.target!r}.", where=f"model {model.name!r}", hint="Choose another split.")
    return parts


def _by_time(model: Model, rows: pl.DataFrame, index: np.ndarray) -> Parts:
    moments = rows[MOMENT].gather(index)
    order = np.argsort(moments.cast(pl.Int64).to_numpy(), kind="stable")
    index, micros = index[order], moments.cast(pl.Int64).to_numpy()[order]
    known = rows[KNOWN].gather(index).cast(pl.Int64).to_numpy()
    span = model.split.test
    length = span if isinstance(span, timedelta) else timedelta(microseconds=int((micros[-1] - micros[0]) * span))
    start = micros[-1] - int(length.total_seconds() * 1e6)
    is_test = micros > start
    # A row asked about before the test begins but answered only after it starts would bring news from the test into training.
    search = index[~is_test & (known <= start)]
    test = index[is_test]
    day = 86_400_000_000
    size = len(search)
    folds = []
    times, known_search = micros[~is_test & (known <= start)], known[~is_test & (known <= start)]
    for i in range(1, model.split.folds + 1):  # each fold learns from a growing past and is judged on what follows
        cut, end = size * i // (model.split.folds + 1), size * (i + 1) // (model.split.folds + 1)
        if cut < size and end > cut:
            train = np.flatnonzero(known_search[:cut] <= times[cut])
            if len(train):
                folds.append((train, np.arange(cut, end)))
    blocks = micros[is_test] // day
    how = {"method": "time", "test": length.total_seconds(), "test_from": _text(start), "test_to": _text(micros[-1]), "folds": len(folds)}
    return Parts(search, test, folds, blocks - blocks.min() if len(blocks) else blocks, how)


def _at_random(model: Model, rows: pl.DataFrame, index: np.ndarray, target: Target) -> Parts:
    from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

    share = float(model.split.test) if not isinstance(model.split.test, timedelta) else 0.25
    codes = target.codes(rows[TARGET].gather(index))
    classes = target.task != "regression"
    rare = classes and np.bincount(codes, minlength=len(target.labels)).min() < 2
    search, test = train_test_split(index, test_size=share, random_state=model.seed, stratify=codes if classes and not rare else None)
    search, test = np.sort(search), np.sort(test)
    kept = target.codes(rows[TARGET].gather(search))
    count = model.split.folds
    if classes and np.bincount(kept, minlength=len(target.labels)).min() >= count:
        folds = list(StratifiedKFold(count, shuffle=True, random_state=model.seed).split(np.zeros(len(search)), kept))
    else:
        folds = list(KFold(count, shuffle=True, random_state=model.seed).split(np.zeros(len(search))))
    how = {"method": "random", "test": share, "seed": model.seed, "folds": len(folds)}
    return Parts(search, test, folds, np.arange(len(test)), how)


def test_set_name(rows: pl.DataFrame, parts: Parts) -> str:
    """A digest of which rows are the test set, to count how often it was read."""
    from treadle.core.canonical import digest

    return digest(sorted(rows[KEY].gather(parts.test).to_list()))[:16]


def _text(micros: int) -> str:
    from datetime import UTC

    return iso(datetime.fromtimestamp(int(micros) / 1e6, UTC))
