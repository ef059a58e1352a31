"""Printing: tables and JSON, the same way everywhere; and the workspace a command works on."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import chdir, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from treadle.core.canonical import plain
from treadle.core.errors import StorageError, UsageError

if TYPE_CHECKING:  # what only compares two files opens no workspace
    from treadle.assemble import Workspace
    from treadle.pipelines.run import Progress


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")  # also what turns the direction of a text


def workspace(ctx: click.Context, watch: Callable[[Progress], None] | None = None) -> Workspace:
    """The workspace of the folder the command was given."""
    from treadle.assemble import open_workspace

    return open_workspace(ctx.obj["folder"], watch=watch)


@contextmanager
def opened(ctx: click.Context, watch: Callable[[Progress], None] | None = None, *, executor: str = "") -> Iterator[Workspace]:
    """The workspace, whose worker processes end with the block; steps run with its folder as theirs, wherever the command was typed.

    Args:
        executor: stands in for the setting of that name.
    """
    ws = workspace(ctx, watch)
    if executor:
        ws.settings = replace(ws.settings, values={**ws.settings.values, "executor": executor})
    try:
        with chdir(ws.folder):
            yield ws
    finally:
        ws.close()


def assignments(given: Sequence[str]) -> dict[str, str]:
    """What was given as `--set name=value`, by name. Raises UsageError."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise UsageError(f"--set {text!r} says no name=value.", hint="For example: --set limit=3")
        if name in found:
            raise UsageError(f"--set gives {name!r} twice.")
        found[name] = value
    return found


def as_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def say(text: str = "") -> None:
    """Print a line."""
    print(text, flush=True)


@contextmanager
def unheard() -> Iterator[None]:
    """What is printed in the block may find no reader any more: then the rest of it is left out, and what follows goes on."""
    try:
        yield
    except BrokenPipeError:
        with suppress(OSError, ValueError), open(os.devnull, "w") as nothing:  # else the text that is still held fails once more at the end
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows in aligned columns under their heads; nothing if there are none."""
    cells = list(rows)
    if cells:
        columns([head, *cells])


def one_line(text: str) -> str:
    r"""Text that somebody wrote, as one line that does nothing to a terminal.

    >>> one_line("a\nINFO b")
    'a\\nINFO b'
    """
    return text if text.isprintable() else _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def columns(rows: Iterable[Sequence[Any]]) -> None:
    """Print rows in aligned columns."""
    cells = [[("" if c is None else one_line(str(c))) for c in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for row in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def write_whole(text: str, path: Path) -> None:
    """Write a file whole or not at all: whoever reads it meanwhile sees the old one. Raises StorageError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise StorageError(f"{path.name} cannot be written: {error.strerror or error}.", where=str(path), hint="Name another file.") from None
