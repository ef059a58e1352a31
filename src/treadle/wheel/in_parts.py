"""A version of files larger than memory is taken in a process of its own: what it takes is given back when it ends, and one that the kernel or an
allocator ends for want of memory ends with a sentence and leaves nothing behind.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from treadle.assemble import Names, Workspace
from treadle.backends.catalog import open_backend
from treadle.core.declare.data import Dataset
from treadle.data import large, schema_changes, suppressed, versions
from treadle.features.large import Limits, working_folder
from treadle.ports.executor import Executor, Resources, Task, WorkerLost

_SAYS = "treadle: read so far: "
EVERY = 2.0  # seconds between two lines that say how far it is


def take(ws: Workspace, dataset: Dataset, memory: int, say: Callable[[str], None]) -> versions.Version:
    """The version of a data set of the project, read in parts.

    Args:
        memory: bytes to get by with.
        say: told now and then how far it is. What else the process prints is printed.
    Raises: as `versions.take`, and DataError when the process was ended for want of memory.
    """

    def heard(line: str) -> None:
        if line.startswith(_SAYS):
            say(line.removeprefix(_SAYS))
        else:
            print(line, flush=True)

    names = Names(ws)
    cores = os.cpu_count() or 1
    slots = max(1, cores // ws.threads)  # a worker has its share of the cores
    with working_folder(Limits(memory, spill=ws.settings.home / "spill")) as scratch:
        given = {"names": names, "name": names.name(dataset), "memory": memory, "scratch": scratch, "now": ws.clock.now(), "every": EVERY}
        with closing(cast(Executor, open_backend("executor", f"processes:{slots}"))) as executor:
            try:
                return cast(versions.Version, executor.submit(Task(apart, given, f"data:{dataset.name}", Resources()), log=heard).result())
            except WorkerLost as error:
                if any(signal in error.what for signal in ("SIGKILL", "SIGABRT", "SIGSEGV", "SIGBUS")):
                    raise large.too_little(dataset, memory, error.what) from None
                raise


def apart(names: Names, name: Any, memory: int, scratch: Path, now: datetime, every: float) -> versions.Version:
    """What the process runs."""
    ws, dataset = names.thing(("workspace",)), names.thing(name)
    told = time.monotonic()

    def say(line: str) -> None:
        nonlocal told
        if time.monotonic() - told >= every:
            told = time.monotonic()
            print(_SAYS + line, flush=True)

    return versions.take(
        dataset, ws.folder, ws.tables, ws.ledger, now=now, reach=ws.reach, erased=suppressed.known(ws.ledger, ws.settings.home),
        uses=schema_changes.uses(ws.project, dataset), blobs=ws.blobs, memory=memory, scratch=scratch, say=say,
    )  # fmt: skip
