"""Text that arrives in pieces, made into lines: of a progress bar that redraws itself only its last state is kept."""

from __future__ import annotations

from collections.abc import Callable


class Lines:
    """Gathers text and hands whole lines, without their ends, to `log`."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._pending = ""

    def write(self, text: str) -> None:
        *lines, rest = (self._pending + text).split("\n")
        # What a bar said before is dropped at once: a thousand redraws without a line end must not pile up. A final \r may be the first half of \r\n.
        self._pending = rest[rest.rfind("\r", 0, -1) + 1 :]
        for line in lines:
            self._log(line.rstrip("\r").rsplit("\r", 1)[-1])

    def finish(self) -> None:
        """Hand on what has no line end yet."""
        if self._pending:
            self.write("\n")
