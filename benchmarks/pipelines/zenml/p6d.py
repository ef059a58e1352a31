"""Five steps in a chain; the third waits as long as it is told to."""

from witness import answer, hold, ran
from zenml import pipeline, step


@step
def one(value: int) -> int:
    ran("1")
    return value + 1


@step
def two(value: int) -> int:
    ran("2")
    return value + 1


@step
def three(value: int) -> int:
    ran("3")
    hold()
    return value + 1


@step
def four(value: int) -> int:
    ran("4")
    return value + 1


@step
def five(value: int) -> int:
    ran("5")
    return answer(value + 1)


@pipeline
def chain() -> None:
    five(four(three(two(one(0)))))


if __name__ == "__main__":
    chain()
