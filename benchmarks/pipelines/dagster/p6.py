"""Twenty ops in a chain: as a job with Dagster's default executor (a process a step), and as one that runs in its own process."""

import os

from dagster import Definitions, graph, in_process_executor, op
from witness import answer, ran

STEPS = int(os.environ.get("STEPS", "20"))


@op
def start() -> int:
    ran("add")
    return 0 + 1


@op
def add(value: int) -> int:
    ran("add")
    return value + 1


@op
def last(value: int) -> int:
    ran("add")
    return answer(value + 1)


@graph
def twenty():
    value = start()
    for i in range(2, STEPS):
        value = add.alias(f"add_{i}")(value)
    last(value)


definitions = Definitions(jobs=[twenty.to_job("default"), twenty.to_job("in_process", executor_def=in_process_executor)])
