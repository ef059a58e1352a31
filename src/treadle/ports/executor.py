"""The door to computing power: where the steps of a pipeline run.

Promises: `run` returns what the function returned or raises what it raised (its own exception, not a wrapper's); standard output and log lines of the
function reach `log` line by line; a function that runs beyond `timeout` seconds is stopped where the executor can stop it, and Cancelled is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol


class Executor(Protocol):
    def run(
        self, function: Callable[..., Any], arguments: Mapping[str, Any], *, log: Callable[[str], None] | None = None, timeout: float | None = None
    ) -> Any:
        """Call `function(**arguments)` and return its result."""
        ...

    def close(self) -> None:
        """Let go of processes and connections."""
        ...
