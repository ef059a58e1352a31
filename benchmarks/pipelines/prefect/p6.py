"""Twenty calls of a task; its results are kept and found again by inputs and source, as Prefect's documentation has it."""

import os

from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from witness import answer, ran


@task(persist_result=True, cache_policy=INPUTS + TASK_SOURCE)
def add(value: int) -> int:
    ran("add")
    return value + 1


@flow
def twenty() -> int:
    value = 0
    for _ in range(int(os.environ.get("STEPS", "20"))):
        value = add(value)
    return value


if __name__ == "__main__":
    answer(twenty())
