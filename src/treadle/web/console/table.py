"""The table of everything the console can show and do. What is not in it cannot be reached."""

from __future__ import annotations

from treadle.web.console.operation import Operation
from treadle.web.console.rooms import commands, data, home, run_actions, runs, set_aside, value

OPERATIONS: list[Operation] = [  # of two paths that fit the one that comes first is taken
    *home.OPERATIONS, *runs.OPERATIONS, *run_actions.OPERATIONS, *data.OPERATIONS, *set_aside.OPERATIONS, *value.OPERATIONS, *commands.OPERATIONS,
]  # fmt: skip
BY_NAME = {operation.name: operation for operation in OPERATIONS}
assert len(BY_NAME) == len(OPERATIONS), "two operations have one name"
