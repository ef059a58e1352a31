import helpers
from dagster import Definitions, graph, in_process_executor, op
from witness import answer, ran


def _shift(value: int) -> int:
    return value + 1


@op
def load() -> list[int]:
    ran("load")
    with open("input.txt") as file:
        return [int(line) for line in file]


@op
def clean(raw: list[int]) -> list[int]:
    """Each value, scaled and shifted."""
    ran("clean")
    return [_shift(helpers.scale(value)) for value in raw]


@op
def total(rows: list[int]) -> int:
    ran("total")
    return answer(sum(rows))


@graph
def matrix():
    total(clean(load()))


definitions = Definitions(jobs=[matrix.to_job("default"), matrix.to_job("in_process", executor_def=in_process_executor)])
