"""Five ops in a chain; the third waits as long as it is told to."""

from dagster import Definitions, graph, in_process_executor, op
from witness import answer, hold, ran


@op
def one() -> int:
    ran("1")
    return 1


@op
def two(value: int) -> int:
    ran("2")
    return value + 1


@op
def three(value: int) -> int:
    ran("3")
    hold()
    return value + 1


@op
def four(value: int) -> int:
    ran("4")
    return value + 1


@op
def five(value: int) -> int:
    ran("5")
    return answer(value + 1)


@graph
def chain():
    five(four(three(two(one()))))


definitions = Definitions(jobs=[chain.to_job("default"), chain.to_job("in_process", executor_def=in_process_executor)])
