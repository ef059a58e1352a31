"""What one block says beside its outcomes and columns: rows that came twice, unusual rows, groups that fare worse, and what the model leaned on.

A few numbers, whatever the rows of the block. Rows are equal when all their features are. Groups are the categories of columns that the project names
(`project.watch(groups=...)`), each against all others of the same block; what the model leaned on is the mean absolute contribution of each feature
to the answers of a sample of rows.

Unit of independence: the block.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from treadle.monitoring.detectors import fairness
from treadle.monitoring.detectors.duplicates import DistinctSketch
from treadle.monitoring.detectors.outliers import Outliers
from treadle.monitoring.explain import Sums

Weigh = Callable[[Sequence[Sequence[Any]]], Mapping[str, float]]  # rows of features to feature to mean absolute contribution


@dataclass(frozen=True, slots=True)
class Aspects:
    """Args:
    repeated: share of rows that stood in the block before.
    odd: share of rows that are more unusual than the usual limit; `odd_by`: features and the share of those rows that are so because of them.
    gaps: 'column = group' to its mean excess loss less that of all others; `bias`: the same of truth minus prediction.
    sizes: 'column = group' to its rows with an outcome, and those of all others.
    weights: feature to mean absolute contribution; empty where the version cannot be explained.
    """

    rows: int = 0
    repeated: float = 0.0
    odd: float = 0.0
    odd_by: Mapping[str, float] = field(default_factory=dict)
    gaps: Mapping[str, float] = field(default_factory=dict)
    bias: Mapping[str, float] = field(default_factory=dict)
    sizes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Gathering:
    """The aspects of a block while it is read in batches, in constant memory.

    Args:
        names: the features, in the order of a row's values.
        outliers: scores rows against training; None where nothing is known of it. limit: the score above which a row is unusual.
        sample: how many rows are kept to be weighed; the first of the block, by its order.
    """

    def __init__(self, names: Sequence[str], outliers: Outliers | None = None, limit: float = float("inf"), sample: int = 0) -> None:
        self._names, self._outliers, self._limit, self._sample = list(names), outliers, limit, sample
        self._distinct = DistinctSketch()
        self._odd: Counter[str] = Counter()
        self._kept: list[tuple[int, Sequence[Any]]] = []
        self.rows = 0

    def add(self, rows: Sequence[Sequence[Any]], raw: Sequence[bytes]) -> None:
        """Add a batch: the rows' features, and the same as bytes."""
        self._distinct.update(raw)
        if self._outliers is not None and rows:
            columns = {name: [row[i] for row in rows] for i, name in enumerate(self._names)}
            scores, causes = self._outliers.score(columns)
            self._odd.update(causes[i] for i in np.flatnonzero(scores > self._limit))
        self._kept += [(self.rows + i, row) for i, row in enumerate(rows[: max(0, self._sample - len(self._kept))])]
        self.rows += len(rows)

    def aspects(self, sums: Sums, groups: Sequence[str], weigh: Weigh | None = None) -> Aspects:
        """What was gathered, with the groups of the block's sums."""
        odd = self._odd.total()
        return Aspects(
            self.rows, self._distinct.repeated, odd / self.rows if self.rows else 0.0,
            {name: round(count / odd, 4) for name, count in self._odd.most_common(5)}, *grouped(sums, groups),
            dict(weigh([row for _, row in self._kept])) if weigh is not None and self._kept else {},
        )  # fmt: skip


def grouped(sums: Sums, groups: Sequence[str]) -> tuple[dict[str, float], dict[str, float], dict[str, tuple[float, float]]]:
    """Gaps of excess loss, gaps of truth minus prediction, and rows with an outcome on either side, by 'column = group'."""
    gaps, bias, sizes = {}, {}, {}
    for column in groups:
        values = {f"{column} = {value or 'missing'}": numbers for value, numbers in sums.get(column, {}).items()}
        total = sum(v[1] for v in values.values())
        gaps.update(fairness.gaps(values, 2))
        bias.update(fairness.gaps(values, 3))
        sizes.update({name: (v[1], total - v[1]) for name, v in values.items()})
    return gaps, bias, sizes
