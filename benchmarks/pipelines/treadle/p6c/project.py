from pathlib import Path

import helpers
from witness import answer, ran

import treadle as tr

project = tr.Project("matrix", owner="bench", goal="compare")


def _shift(value: int) -> int:
    return value + 1


@tr.step
def load(path: Path) -> list[int]:
    ran("load")
    with open(path) as file:
        return [int(line) for line in file]


@tr.step
def clean(raw: list[int], factor: int) -> list[int]:
    """Each value, scaled and shifted."""
    ran("clean")
    return [_shift(helpers.scale(value)) * factor for value in raw]


@tr.step
def total(rows: list[int]) -> int:
    ran("total")
    return answer(sum(rows))


@project.pipeline
def p6c(path: Path = Path("input.txt"), factor: int = 1) -> int:
    return total(clean(load(path), factor))
