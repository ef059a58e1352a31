"""Whether what is asked for fits into memory: better a sentence before than a killed process after."""

from __future__ import annotations

import resource
from pathlib import Path

from treadle.core.errors import DataError

_ENOUGH = 64 << 20  # smaller files are not asked about


def enough_memory(size: int, growth: float, where: str) -> None:
    """Raises DataError when a file of `size` bytes, which grows by `growth` when it is read, does not fit into what is free."""
    needed = size * growth
    free = free_memory() if size > _ENOUGH else None
    if free is not None and needed > free:
        raise DataError(
            f"Reading {size / 1e9:.1f} GB takes about {needed / 1e9:.0f} GB of memory, and {free / 1e9:.1f} GB are free.", where=where,
            hint="Split it into files that a pattern names, or read what is needed of it with tr.sql('duckdb:', query=...).",
        )


def free_memory() -> int | None:
    """Bytes this process may still take: of the machine, of its control group, or of its own limit; None where nobody says."""
    found = [_machine(), _group(), _own()]
    return min((n for n in found if n is not None), default=None)


def _machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _group() -> int | None:
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()) if limit.isdigit() else None
    except (OSError, ValueError):
        return None


def _own() -> int | None:
    """What the process's limits leave it: of addresses, and of data."""
    limits = {0: resource.getrlimit(resource.RLIMIT_AS)[0], 5: resource.getrlimit(resource.RLIMIT_DATA)[0]}  # by the field of statm that counts
    given = {field: limit for field, limit in limits.items() if limit != resource.RLIM_INFINITY}
    if not given:
        return None
    try:
        used = [int(pages) * resource.getpagesize() for pages in Path("/proc/self/statm").read_text().split()]
    except (OSError, ValueError):
        return min(given.values())
    return min(max(0, limit - used[field]) for field, limit in given.items())
