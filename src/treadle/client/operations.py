"""A method for each operation of a Treadle server. Written by scripts/client_operations.py from the server's table: do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Operations:
    """What a server can be asked. Every method raises the errors of `treadle.core.errors` that the server tells of, and Unavailable."""

    def _ask(self, method: str, path: str, names: Mapping[str, str], given: Mapping[str, Any], raw: bool = False, key: str | None = None) -> Any:
        raise NotImplementedError

    def home_see(self, *, model: str | None = None) -> dict[str, Any]:
        """How the project stands: models, stations of the loop, what needs a person. Needs 'home.see'."""
        return dict(self._ask("GET", "/home", {}, {"model": model}))

    def runs_list(self, *, limit: int | None = None, after: str | None = None, scope: str | None = None, status: str | None = None) -> dict[str, Any]:
        """The runs, newest first. Needs 'runs.see'."""
        return dict(self._ask("GET", "/runs", {}, {"limit": limit, "after": after, "scope": scope, "status": status}))

    def runs_see(self, run: str) -> dict[str, Any]:
        """One run: its steps with times, reasons and logs. Needs 'runs.see'."""
        return dict(self._ask("GET", "/runs/{run}", {"run": run}, {}))

    def commands_list(self, *, limit: int | None = None, after: str | None = None) -> dict[str, Any]:
        """The commands that the server ran, newest first. Needs 'home.see'."""
        return dict(self._ask("GET", "/commands", {}, {"limit": limit, "after": after}))

    def commands_start(self, *, argv: list[str], key: str | None = None) -> dict[str, Any]:
        """Run a command of the command line; each needs a permission of its own. Needs 'home.see'."""
        return dict(self._ask("POST", "/commands", {}, {"argv": argv}, key=key))

    def commands_see(self, command: str, *, out: int | None = None, err: int | None = None, wait: float | None = None) -> dict[str, Any]:
        """How a command stands, and what it printed from an offset on. Needs 'home.see'."""
        return dict(self._ask("GET", "/commands/{command}", {"command": command}, {"out": out, "err": err, "wait": wait}))

    def commands_file(self, command: str) -> bytes:
        """The file that a command wrote. Needs 'home.see'."""
        return bytes(self._ask("GET", "/commands/{command}/file", {"command": command}, {}, raw=True))

    def commands_stop(self, command: str, *, key: str | None = None) -> dict[str, Any]:
        """Stop a command as Ctrl-C does. Needs 'home.see'."""
        return dict(self._ask("POST", "/commands/{command}/stop", {"command": command}, {}, key=key))
