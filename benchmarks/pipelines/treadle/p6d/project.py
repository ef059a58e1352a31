"""Five steps in a chain; the third waits as long as it is told to."""

from witness import answer, hold, ran

import treadle as tr

project = tr.Project("five", owner="bench", goal="compare")


@tr.step
def one(value: int) -> int:
    ran("1")
    return value + 1


@tr.step
def two(value: int) -> int:
    ran("2")
    return value + 1


@tr.step
def three(value: int) -> int:
    ran("3")
    hold()
    return value + 1


@tr.step
def four(value: int) -> int:
    ran("4")
    return value + 1


@tr.step
def five(value: int) -> int:
    ran("5")
    return answer(value + 1)


@project.pipeline
def p6d() -> int:
    return five(four(three(two(one(0)))))
