"""Five tasks in a chain; the third waits as long as it is told to."""

from airflow.sdk import dag, task
from witness import answer, hold, ran


@task
def one() -> int:
    ran("1")
    return 1


@task
def two(value: int) -> int:
    ran("2")
    return value + 1


@task
def three(value: int) -> int:
    ran("3")
    hold()
    return value + 1


@task
def four(value: int) -> int:
    ran("4")
    return value + 1


@task
def five(value: int) -> int:
    ran("5")
    return answer(value + 1)


@dag(schedule=None)
def p6d():
    five(four(three(two(one()))))


p6d()
