"""The floor: a loop."""

import os

from witness import answer, ran


def add(value: int) -> int:
    ran("add")
    return value + 1


value = 0
for _ in range(int(os.environ.get("STEPS", "20"))):
    value = add(value)
answer(value)
