"""What a version leans on: the mean absolute contribution of each feature to its answers, over some rows, from the terms stored in its package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from treadle.core.errors import Corrupt, NotFound
from treadle.monitoring.aspects import Weigh
from treadle.serving.as_is import encoder_of
from treadle.serving.contributions import Contributions


def weigher(folder: Path, encoder: Sequence[Mapping[str, Any]], features: Sequence[str]) -> Weigh | None:
    """Rows of features (in the order given) to feature to weight; None for a version that has no exact contributions."""
    try:
        terms = Contributions(folder, encoder)
    except (NotFound, Corrupt):
        return None
    table = encoder_of(list(encoder), list(features))

    def weigh(rows: Sequence[Sequence[Any]]) -> dict[str, float]:
        if not rows:
            return {}
        found = np.mean([np.abs(terms.of(row)).sum(axis=1) for row in table.matrix(rows)], axis=0)
        return {name: round(float(value), 6) for name, value in zip(terms.names, found)}

    return weigh
