"""The hundred rows of a published case study on keeping construction schedules, drawn again from its description."""

from __future__ import annotations

import numpy as np
import polars as pl

SEED = 42
ROWS = 100


def published_rows() -> pl.DataFrame:
    """Return the case study's own data: 100 rows, 4 columns, always the same.

    They come from a published case study on schedule management in real-estate projects. It has no records of any
    building site: its script draws the table from a random generator, and this function repeats the draw from the
    description, without copying code. Features and label are drawn independently, so there is nothing to learn.

    Columns:
        activity_id: "A001" to "A100"; ours, the case study has no key.
        project_schedules: whole number from 1 to 99; the case study gives no unit or meaning.
        construction_activity_data: whole number from 1 to 99; no unit or meaning either.
        schedule_adherence: 1 on time, 0 not on time; a coin flip (48 zeros, 52 ones).
    """
    # The old generator, because only it gives the published numbers; its own instance, so that nobody else's draws get seeded.
    draw = np.random.RandomState(SEED)
    # The order of the three draws matters: one stream feeds all columns.
    columns = {
        "project_schedules": draw.randint(1, 100, size=ROWS),
        "construction_activity_data": draw.randint(1, 100, size=ROWS),
        "schedule_adherence": draw.randint(0, 2, size=ROWS),
    }
    names = [f"A{number:03d}" for number in range(1, ROWS + 1)]
    return pl.DataFrame({"activity_id": names, **columns})
