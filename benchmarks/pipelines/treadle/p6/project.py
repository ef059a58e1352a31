"""Twenty calls of a step."""

from witness import answer, ran

import treadle as tr

project = tr.Project("twenty", owner="bench", goal="compare")


@tr.step
def add(value: int) -> int:
    ran("add")
    return value + 1


@tr.step
def last(value: int) -> int:
    ran("add")
    return answer(value + 1)


@project.pipeline
def p6(steps: int = 20) -> int:
    value = 0
    for _ in range(steps - 1):
        value = add(value)
    return last(value)
