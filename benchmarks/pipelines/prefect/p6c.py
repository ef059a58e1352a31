"""Usage: p6c.py PATH FACTOR [by-hand]. By hand: key functions name what Prefect does not see."""

import inspect
import sys
from pathlib import Path

import helpers
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE, CacheKeyFnPolicy
from witness import answer, ran


def _shift(value: int) -> int:
    return value + 1


POLICY = INPUTS + TASK_SOURCE
FILE, SOURCE = POLICY, POLICY
if sys.argv[3:] == ["by-hand"]:
    FILE += CacheKeyFnPolicy(cache_key_fn=lambda context, inputs: Path("input.txt").read_text())
    SOURCE += CacheKeyFnPolicy(cache_key_fn=lambda context, inputs: inspect.getsource(helpers) + inspect.getsource(_shift))


@task(persist_result=True, cache_policy=FILE)
def load(path: str) -> list[int]:
    ran("load")
    with open(path) as file:
        return [int(line) for line in file]


@task(persist_result=True, cache_policy=SOURCE)
def clean(raw: list[int], factor: int) -> list[int]:
    """Each value, scaled and shifted."""
    ran("clean")
    return [_shift(helpers.scale(value)) * factor for value in raw]


@task(persist_result=True, cache_policy=POLICY)
def total(rows: list[int]) -> int:
    ran("total")
    return answer(sum(rows))


@flow
def matrix(path: str, factor: int) -> int:
    return total(clean(load(path), factor))


if __name__ == "__main__":
    matrix(sys.argv[1], int(sys.argv[2]))
