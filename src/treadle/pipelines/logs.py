"""What a step prints and logs: a file that grows while it runs, so that a killed run keeps it and others can follow; a blob when it has ended."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

from treadle.core.records import Record
from treadle.ports.blobs import Blobs

MOST = 20_000_000  # characters of one step's log; what comes after is counted, not kept


def log_file(home: Path, run: str, step: str) -> Path:
    """Where the log of a step lies while it runs, and after its process was killed."""
    return home / "logs" / quote(run, safe="") / f"{quote(step, safe='[]')}.log"


def log_text(step: Record, blobs: Blobs, home: Path | None) -> str:
    """The log of a step: kept, still growing, or left behind by a process that was killed. Empty when it said nothing."""
    if step.get("log"):
        return blobs.get(step["log"]).decode("utf-8", "replace")
    if home is None:
        return ""
    try:
        return log_file(home, step["run"], step["step"]).read_text("utf-8", errors="replace")
    except OSError:
        return ""


class StepLog:
    """The lines of one step. `line` may be called from any thread."""

    def __init__(self, home: Path | None, run: str, step: str) -> None:
        self._path = None if home is None else log_file(home, run, step)
        self._file: TextIO | None = None
        self._memory: list[str] = []
        self._lock = threading.Lock()
        self._size = self._lines = self._cut = 0

    def line(self, text: str) -> None:
        """Add a line."""
        with self._lock:
            self._lines += 1
            self._size += len(text) + 1
            if self._size > MOST:
                self._cut += 1
            elif self._path is None:
                self._memory.append(text + "\n")
            else:
                try:
                    if self._file is None:
                        self._path.parent.mkdir(parents=True, exist_ok=True)
                        self._file = self._path.open("a", encoding="utf-8", errors="replace")
                    self._file.write(text + "\n")
                    self._file.flush()
                except OSError:  # a full disk: the step itself will say so where it matters
                    self._memory.append(text + "\n")

    def keep(self, blobs: Blobs) -> dict[str, Any]:
        """Put the whole log into the blob store and forget the file. Returns {'log': address, 'lines': how many}, or nothing where there is none."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None
            text = "".join(self._memory)
            left = self._path is not None and self._path.exists()
            if left:
                assert self._path is not None
                text = self._path.read_text("utf-8", errors="replace") + text  # with what an attempt before this process was killed had said
            if not text:
                return {}
            if self._cut:
                text += f"[{self._cut:,} more lines were not kept]\n"
            address = blobs.put(text.encode("utf-8", "replace"))
            if left:
                assert self._path is not None
                self._path.unlink(missing_ok=True)
                with suppress(OSError):  # other steps of the run may still write there
                    self._path.parent.rmdir()
            return {"log": address, "lines": text.count("\n")}
