"""Twenty tasks in a chain; values are handed on as XComs."""

import os

from airflow.sdk import dag, task
from witness import answer, ran

STEPS = int(os.environ.get("STEPS", "20"))


@task
def add(value: int) -> int:
    ran("add")
    return value + 1


@task
def last(value: int) -> int:
    ran("add")
    return answer(value + 1)


@dag(schedule=None)
def p6():
    value = 0
    for _ in range(STEPS - 1):
        value = add(value)
    last(value)


p6()
