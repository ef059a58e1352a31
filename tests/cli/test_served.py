"""Which commands a server runs, and with which permission."""

from __future__ import annotations

import importlib

import click
import pytest

from treadle.access.permissions import PERMISSIONS
from treadle.cli.main import COMMANDS
from treadle.cli.served import TABLE, check
from treadle.core.errors import UsageError

FILES = ("out", "file", "folder", "path", "junit", "metrics", "repository", "source", "examples", "python", "data", "to")


def command(name: str) -> click.Command:
    """A command by its whole name."""
    first, *rest = name.split()
    module, _, attribute = COMMANDS[first][0].partition(":")
    found: click.Command = getattr(importlib.import_module(module), attribute)
    for word in rest:
        assert isinstance(found, click.Group)
        found = found.commands[word]
    return found


@pytest.mark.parametrize("name", TABLE)
def test_every_command_of_the_table_is_there_and_names_a_permission_and_options_there_are(name: str) -> None:
    permission, refused = TABLE[name]
    assert permission in PERMISSIONS
    options = [o for p in command(name).params for o in p.opts]
    assert set(refused) <= set(options)


@pytest.mark.parametrize("name", TABLE)
def test_whatever_could_name_a_file_is_declared_as_a_path_so_that_it_is_refused(name: str) -> None:
    for parameter in command(name).params:
        if parameter.name in FILES and parameter.opts[-1] not in TABLE[name][1] and not isinstance(parameter.type, click.DateTime):
            named = isinstance(parameter.type, click.Path | click.File)
            text = (name, parameter.name) in {("data file", "path"), ("rollback", "to"), ("approve", "to"), ("backfill", "to"), ("backtest", "to"), ("materialise", "to")}
            assert named or text, f"{name} {parameter.name}"


def test_arguments_are_read_as_the_command_itself_reads_them() -> None:
    assert check(["runs", "--limit", "5"]).permission == "runs.see"
    assert check(["alarms", "ack", "a-1", "--note", "seen"]).name == "alarms ack"
    assert check(["card", "late", "--out", "card.html"]).out == "card.html"
    assert check(["report"]).out == "report.html"
    with pytest.raises(UsageError):
        check(["runs", "\x00"])
