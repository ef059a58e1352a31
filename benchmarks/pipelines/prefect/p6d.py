"""Five tasks in a chain; the third waits as long as it is told to."""

from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from witness import answer, hold, ran

POLICY = INPUTS + TASK_SOURCE


@task(persist_result=True, cache_policy=POLICY)
def one(value: int) -> int:
    ran("1")
    return value + 1


@task(persist_result=True, cache_policy=POLICY)
def two(value: int) -> int:
    ran("2")
    return value + 1


@task(persist_result=True, cache_policy=POLICY)
def three(value: int) -> int:
    ran("3")
    hold()
    return value + 1


@task(persist_result=True, cache_policy=POLICY)
def four(value: int) -> int:
    ran("4")
    return value + 1


@task(persist_result=True, cache_policy=POLICY)
def five(value: int) -> int:
    ran("5")
    return value + 1


@flow
def chain() -> int:
    return five(four(three(two(one(0)))))


if __name__ == "__main__":
    answer(chain())
