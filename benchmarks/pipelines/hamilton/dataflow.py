import helpers
from witness import answer, ran


def _shift(value: int) -> int:
    return value + 1


def load(path: str) -> list[int]:
    ran("load")
    with open(path) as file:
        return [int(line) for line in file]


def clean(load: list[int], factor: int) -> list[int]:
    """Each value, scaled and shifted."""
    ran("clean")
    return [_shift(helpers.scale(value)) * factor for value in load]


def total(clean: list[int]) -> int:
    ran("total")
    return answer(sum(clean))
