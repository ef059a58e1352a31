"""What is joined, and how a side is measured: CPU seconds (of all threads) and peak memory of the work alone, without start-up and imports."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# View: (entity column, entities, rows of each, features, seconds a value holds).
VIEWS = {"hourly": ("station", 1_000, 500, 5, 86_400), "daily": ("shop", 200, 1_000, 5, 3 * 86_400), "rare": ("person", 5_000, 40, 5, 30 * 86_400)}
SPAN = 90 * 86_400


def measured(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What the work returns, and what it cost."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    cost = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    return result, {**cost, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def told(cost: dict[str, Any]) -> None:
    print("COST " + json.dumps(cost))


def folder_and_rows() -> tuple[Path, int]:
    return Path(sys.argv[1]), int(sys.argv[2])
