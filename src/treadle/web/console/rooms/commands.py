"""Commands that the server runs: what the command line does from afar, and what the buttons begin that takes long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from treadle.core.errors import Forbidden, NotFound, UsageError
from treadle.core.records import Record, Ref
from treadle.web.console import commands
from treadle.web.console.operation import Asked, Operation, Pages, listed


class Arguments(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of a command line, without the word `treadle`."""

    argv: list[str]


class Since(msgspec.Struct, frozen=True, kw_only=True):
    """From which byte of what was printed, and how many seconds to wait for more."""

    out: Annotated[int, msgspec.Meta(ge=0)] = 0
    err: Annotated[int, msgspec.Meta(ge=0)] = 0
    wait: Annotated[float, msgspec.Meta(ge=0, le=10)] = 0.0


def start(asked: Asked, argv: Sequence[str]) -> dict[str, Any]:
    """Begin a command in the name of whoever asks. Raises Forbidden without the permission that the command needs; UsageError; TooMany."""
    if asked.check is None:
        raise UsageError("This server runs no commands.")
    checked = asked.check(argv)
    if not asked.person.may(checked.permission):
        about = {"operation": f"command {checked.name}", "address": asked.address}
        asked.ws.ledger.append("access.denied", Ref("person", asked.person.name), about, actor=asked.person.name)
        raise Forbidden(f"You may not run {checked.name!r}: it needs the permission {checked.permission!r}.", hint="Ask an administrator.")
    made = commands.start(asked.ws, checked, asked.person.name)
    return {**commands.told(made), "goes_to": f"/commands/{made.id}"}


def begin(asked: Asked) -> dict[str, Any]:
    """Begin a command."""
    return start(asked, asked.body.argv)


def every(asked: Asked) -> dict[str, Any]:
    """The newest commands: one's own, or of all for whoever sees the audit log."""
    where = None if asked.person.may("audit.see") else {"by": asked.person.name}
    return listed(asked.ws, commands.KIND, where, asked.query, commands.told)


def see(asked: Asked) -> dict[str, Any]:
    """How a command stands and what it printed."""
    query = asked.query
    return commands.printed(asked.ws, _mine(asked), query.out, query.err, query.wait)


def file(asked: Asked) -> tuple[str, str, bytes]:
    """The file that a command wrote."""
    found = _mine(asked)
    return "application/octet-stream", found["file"] or "file", commands.written(asked.ws, found)


def stop(asked: Asked) -> dict[str, Any]:
    """Stop a command."""
    return commands.told(commands.stop(asked.ws, _mine(asked), asked.person.name))


def _mine(asked: Asked) -> Record:
    """The command asked about. What another person's command printed is nobody else's to see: such an id is as one that is not there."""
    found = commands.find(asked.ws, asked["command"])
    if found["by"] != asked.person.name:
        raise NotFound(f"There is no command {asked['command']!r}.")
    return found


def _list(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "commands.html", {"commands": given["items"], "next": given["next"]}


def _one(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "command.html", {"c": given}


OPERATIONS = [
    Operation("commands.list", "/commands", "home.see", every, "The commands that the server ran, newest first.", query=Pages, page=_list),
    Operation("commands.start", "/commands", "home.see", begin, "Run a command of the command line; each needs a permission of its own.",
              method="POST", body=Arguments, done="The command runs.", status=202),
    Operation("commands.see", "/commands/{command}", "home.see", see, "How a command stands, and what it printed from an offset on.", query=Since,
              page=_one),
    Operation("commands.file", "/commands/{command}/file", "home.see", file, "The file that a command wrote.", raw=True),
    Operation("commands.stop", "/commands/{command}/stop", "home.see", stop, "Stop a command as Ctrl-C does.", method="POST",
              done="The command was told to stop."),
]  # fmt: skip
