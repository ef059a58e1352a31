import helpers
from airflow.sdk import dag, task
from witness import answer, ran


def _shift(value: int) -> int:
    return value + 1


@task
def load(path: str) -> list[int]:
    ran("load")
    with open(path) as file:
        return [int(line) for line in file]


@task
def clean(raw: list[int], factor: int) -> list[int]:
    """Each value, scaled and shifted."""
    ran("clean")
    return [_shift(helpers.scale(value)) * factor for value in raw]


@task
def total(rows: list[int]) -> int:
    ran("total")
    return answer(sum(rows))


@dag(schedule=None)
def p6c():
    total(clean(load("input.txt"), 1))


p6c()
