"""Volume: a block has far fewer or far more rows than the same weekday had in the last weeks.

    ratio = rows / median of the rows on the same weekday

It is a finding below `LOW` or above `HIGH`. A median of four weeks follows a season and not a holiday. After Polyzotis et al. (2018), "Data Lifecycle
Challenges in Production Machine Learning", who name lost partitions and doubled loads among the common faults.

Unit of independence: the block; rows within one come and go together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LOW, HIGH = 0.5, 2.0
LEAST = 2  # earlier blocks of the same weekday
FEW = 50  # rows below which a count says little


def score(before: Sequence[int], rows: int) -> float | None:
    """Rows now over what is usual; None with too few earlier blocks, or too few rows in them.

    >>> score([900, 1_000, 1_100, 980], 100)
    0.10101010101010101
    """
    if len(before) < LEAST:
        return None
    usual = float(np.median(before))
    return rows / usual if usual >= FEW else None
