"""Usage: p6c.py PATH FACTOR [by-hand]. By hand: a cache policy names the files that ZenML does not see."""

import sys

import helpers
from witness import answer, ran
from zenml import pipeline, step
from zenml.config import CachePolicy

BY_HAND = sys.argv[3:] == ["by-hand"]


def _shift(value: int) -> int:
    return value + 1


FILE = CachePolicy(file_dependencies=["input.txt"]) if BY_HAND else CachePolicy()
SOURCE = CachePolicy(file_dependencies=["helpers.py"], source_dependencies=[_shift]) if BY_HAND else CachePolicy()


@step(cache_policy=FILE)
def load(path: str) -> list[int]:
    ran("load")
    with open(path) as file:
        return [int(line) for line in file]


@step(cache_policy=SOURCE)
def clean(raw: list[int], factor: int) -> list[int]:
    """Each value, scaled and shifted."""
    ran("clean")
    return [_shift(helpers.scale(value)) * factor for value in raw]


@step
def total(rows: list[int]) -> int:
    ran("total")
    return answer(sum(rows))


@pipeline
def matrix(path: str, factor: int) -> None:
    total(clean(load(path), factor))


if __name__ == "__main__":
    matrix(sys.argv[1], int(sys.argv[2]))
