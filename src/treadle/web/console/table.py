"""The table of everything the console can show and do. What is not in it cannot be reached."""

from __future__ import annotations

from treadle.web.console import openapi
from treadle.web.console.operation import Operation
from treadle.web.console.rooms import (
    access,
    alarms,
    audit,
    commands,
    data,
    deciding,
    deployments,
    home,
    lineage,
    metrics,
    models,
    monitors,
    notes,
    owners,
    run_actions,
    runs,
    set_aside,
    switching,
    trying,
    value,
    why,
    you,
)  # fmt: skip

OPERATIONS: list[Operation] = [
    *home.OPERATIONS,
    *runs.OPERATIONS,
    *run_actions.OPERATIONS,
    *data.OPERATIONS,
    *set_aside.OPERATIONS,
    *value.OPERATIONS,
    *commands.OPERATIONS,
    *metrics.OPERATIONS,
    *models.OPERATIONS,
    *deciding.OPERATIONS,
    *deployments.OPERATIONS,
    *switching.OPERATIONS,
    *trying.OPERATIONS,
    *notes.OPERATIONS,
    *owners.OPERATIONS,
    *audit.OPERATIONS,
    *alarms.OPERATIONS,
    *monitors.OPERATIONS,
    *why.OPERATIONS,
    *lineage.OPERATIONS,
    *access.OPERATIONS,
    *you.OPERATIONS,
    *openapi.OPERATIONS,
]  # fmt: skip
BY_NAME = {operation.name: operation for operation in OPERATIONS}
assert len(BY_NAME) == len(OPERATIONS), "two operations have one name"
