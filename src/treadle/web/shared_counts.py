"""What the workers of one endpoint count, put together: each leaves its counts in a file of its own, and whoever is asked adds up.

A worker that is started again goes on where the one before it stopped, since counters must not fall.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


class SharedCounts:
    """The files of one endpoint's workers.

    Args:
        folder: of the endpoint; index: which worker this is; count: how many there are.
    """

    def __init__(self, folder: Path, index: int, count: int) -> None:
        self._folder, self._index, self._count = folder, index, count
        self._last = b""
        folder.mkdir(parents=True, exist_ok=True)

    def leave(self, counts: Any) -> None:
        """Write what this worker has counted, if it changed."""
        if self._count == 1:
            return
        content = _encode(counts)
        if content != self._last:
            building = self._path(self._index).with_suffix(".building")
            building.write_bytes(content)
            os.replace(building, self._path(self._index))
            self._last = content

    def own(self) -> Any:
        """What the worker before this one had counted; None if there was none."""
        return self._read(self._index) if self._count > 1 else None

    def others(self) -> list[Any]:
        """What the other workers have counted."""
        return [found for i in range(self._count) if i != self._index and (found := self._read(i)) is not None]

    def _path(self, index: int) -> Path:
        return self._folder / f"worker-{index}.json"

    def _read(self, index: int) -> Any:
        try:
            return msgspec.json.decode(self._path(index).read_bytes())
        except (OSError, msgspec.DecodeError):
            return None
