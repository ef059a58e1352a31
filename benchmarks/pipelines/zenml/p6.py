"""Twenty calls of a step on the default local stack; ZenML's cache is on by default."""

import os

from witness import answer, ran
from zenml import pipeline, step


@step
def add(value: int) -> int:
    ran("add")
    return value + 1


@step
def last(value: int) -> int:
    ran("add")
    return answer(value + 1)


@pipeline
def twenty() -> None:
    value = 0
    for _ in range(int(os.environ.get("STEPS", "20")) - 1):
        value = add(value)
    last(value)


if __name__ == "__main__":
    twenty()
