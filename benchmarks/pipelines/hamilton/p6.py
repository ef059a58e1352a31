"""Twenty functions in a chain; Hamilton's result cache is on."""

import os
import sys

from hamilton import driver
from hamilton.function_modifiers import parameterize, source
from witness import answer, ran

STEPS = int(os.environ.get("STEPS", "20"))


@parameterize(**{f"step_{i}": {"value": source(f"step_{i - 1}" if i > 1 else "start")} for i in range(1, STEPS + 1)})
def add(value: int) -> int:
    ran("add")
    return value + 1


if __name__ == "__main__":
    dataflow = driver.Builder().with_modules(sys.modules["__main__"]).with_cache().build()
    last = f"step_{STEPS}"
    answer(dataflow.execute([last], inputs={"start": 0})[last])
