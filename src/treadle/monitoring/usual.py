"""What drift-free blocks showed beside outcomes and columns (`aspects.py`), and the limits that follow from it.

| aspect | limit |
|---|---|
| rows that came twice | 0.2 above the most that drift-free blocks had |
| unusual rows | five times the 1 % of unseen rows that are taken to be unusual, and above what drift-free blocks had |
| a group that fares worse | its CUSUM, or a single block, at the rate tolerated |
| what the model leans on | 1 - NDCG above 0.1, and above what drift-free blocks had |

Unit of independence: the block.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

LEAST_ODD = 200  # rows of a block whose share of unusual rows is judged
SAMPLE = 40  # rows of a block that are weighed


@dataclass(frozen=True, slots=True)
class GroupChart:
    """How the gap of a group is standardised, and its limits: of the CUSUM and of a single block."""

    mean: float
    sd: float
    threshold: float
    single: float


@dataclass(frozen=True, slots=True)
class Usual:
    """Limits; infinite, or empty, where nothing is known.

    Args:
        odd_score: above which a row is unusual; `odd`: the share of such rows, `repeated`: of rows that came twice.
        weights: feature to mean absolute contribution, and `moved`: how far 1 - NDCG may be.
        groups: 'column = group' to its chart.
    """

    odd_score: float = float("inf")
    odd: float = float("inf")
    repeated: float = float("inf")
    weights: Mapping[str, float] = field(default_factory=dict)
    moved: float = float("inf")
    groups: Mapping[str, GroupChart] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Usual:
        known = {f.name: stored[f.name] for f in fields(cls) if f.name in stored}
        return cls(**{**known, "groups": {name: GroupChart(**g) for name, g in stored.get("groups", {}).items()}})
