"""Five functions in a chain; the third waits as long as it is told to."""

import sys

from hamilton import driver
from witness import answer, hold, ran


def one(start: int) -> int:
    ran("1")
    return start + 1


def two(one: int) -> int:
    ran("2")
    return one + 1


def three(two: int) -> int:
    ran("3")
    hold()
    return two + 1


def four(three: int) -> int:
    ran("4")
    return three + 1


def five(four: int) -> int:
    ran("5")
    return four + 1


if __name__ == "__main__":
    dataflow = driver.Builder().with_modules(sys.modules["__main__"]).with_cache().build()
    answer(dataflow.execute(["five"], inputs={"start": 0})["five"])
