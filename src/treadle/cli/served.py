"""Which commands a server runs for people: the permission each needs, and what it does not take there.

Arguments that name files are refused, since they would be files of the server; only the file of `--out` goes back to whoever asked.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click

from treadle.core.errors import UsageError
from treadle.web.console.operation import Checked

# The command, the permission, and options it does not take here (they would read or write on the server, stay for ever, or reach another machine).
TABLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("runs.start", ("--executor",)), "plan": ("runs.see", ()), "resume": ("runs.start", ("--executor",)), "backfill": ("runs.start", ()),
    "runs": ("runs.see", ()), "logs": ("runs.see", ()), "diff": ("runs.see", ()), "graph": ("runs.see", ()), "reproduce": ("runs.start", ()),
    "schedule": ("runs.see", ()), "schedule trigger": ("runs.start", ()), "schedule pause": ("runs.stop", ()), "schedule resume": ("runs.start", ()),
    "data": ("data.see", ()), "data versions": ("data.see", ()), "data show": ("data.see", ()), "data diff": ("data.see", ()),
    "data file": ("data.rows", ()), "contract show": ("data.see", ()), "contract export": ("data.see", ()), "contract accept": ("data.fix", ()),
    "quarantine list": ("data.rows", ()), "quarantine show": ("data.rows", ()), "quarantine decisions": ("data.see", ()),
    "quarantine fix": ("data.fix", ()), "quarantine release": ("data.fix", ()), "quarantine undo": ("data.fix", ()),
    "datasheet": ("data.see", ()), "features": ("data.see", ()), "features show": ("data.see", ()), "features graph": ("data.see", ()),
    "features breaks": ("data.see", ()), "features check": ("data.fix", ()), "online": ("data.see", ()), "materialise": ("data.fix", ("--follow",)),
    "models": ("models.see", ()), "card": ("models.see", ()), "readiness": ("models.see", ()), "report": ("models.see", ()),
    "approve": ("models.approve", ()), "waive": ("models.waive", ()), "signing verify": ("models.see", ()), "signing keys": ("models.see", ()),
    "deploy": ("deployments.change", ("--port",)), "rollout": ("deployments.see", ()), "rollback": ("deployments.change", ()),
    "stop": ("deployments.change", ()), "advise": ("deployments.try", ()), "keys list": ("deployments.see", ()),
    "keys revoke": ("deployments.change", ()), "status": ("home.see", ()), "watch": ("alarms.answer", ("--follow",)),
    "alarms list": ("alarms.see", ()),
    "alarms show": ("alarms.see", ()), "alarms ack": ("alarms.answer", ()), "alarms snooze": ("alarms.answer", ()),
    "alarms resolve": ("alarms.answer", ()), "reactions": ("alarms.see", ()), "reactions approve": ("alarms.answer", ()),
    "reactions reject": ("alarms.answer", ()), "truth": ("alarms.see", ()), "why": ("predictions.see", ()), "review": ("predictions.judge", ()),
    "predictions": ("predictions.see", ()), "backtest": ("backtest.run", ()),
}  # fmt: skip
OUT = {"report": "report.html", "graph": "graph.html"}  # commands that write a file also when they are not told to


def check(argv: Sequence[str]) -> Checked:
    """What a list of arguments asks for. Raises UsageError for what is not a command, or not one that is run here."""
    from treadle.cli.main import COMMANDS

    words = [str(a) for a in argv]
    if not words or any("\x00" in w or len(w) > 10_000 for w in words) or len(words) > 200:
        raise UsageError("Which command?", hint="Give its arguments as a list of texts: ['runs', '--limit', '5'].")
    if words[0] not in COMMANDS:
        raise UsageError(f"There is no command {words[0][:60]!r}.", hint="See: treadle --help")
    module, _, attribute = COMMANDS[words[0]][0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    name, rest = words[0], words[1:]
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command, name, rest = command.commands[rest[0]], f"{name} {rest[0]}", rest[1:]
    if name not in TABLE:
        raise UsageError(f"The command {name!r} is not run by a server.", hint="Run it on the server's machine, in the project's folder.")
    permission, refused = TABLE[name]
    return Checked(name, permission, tuple(words), _options(command, name, rest, refused))


def _options(command: click.Command, name: str, rest: list[str], refused: Sequence[str]) -> str:
    """The file that `--out` names, '' for none. Raises UsageError for options that are not taken here, and for what click does not take."""
    from treadle.cli.main import cli

    out = ""
    try:
        # As below `treadle` itself: click keeps what it once found out about a command's help.
        context = click.Context(command, info_name=name, parent=click.Context(cli, **cli.context_settings))
        values, _, order = command.make_parser(context).parse_args(args=list(rest))
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None
    for parameter in order:
        given = values.get(parameter.name or "")
        if given is None or given == ():
            continue
        label = parameter.opts[-1]
        if label in refused:
            raise UsageError(f"{name} takes no {label} on a server.")
        if isinstance(parameter.type, click.Path | click.File):
            if label != "--out":
                raise UsageError(f"{name}: {label} would name a file of the server.", hint="Run it on the server's machine, in the project's folder.")
            out = str(given)
    if name in OUT:
        out = out or OUT[name]
    return out
