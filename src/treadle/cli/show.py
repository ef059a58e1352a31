"""Printing: tables, progress and JSON, the same way everywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from treadle.assemble import Workspace, open_workspace
from treadle.core.canonical import plain
from treadle.pipelines.run import Progress


def workspace(ctx: click.Context, watch: Callable[[Progress], None] | None = None) -> Workspace:
    """The workspace of the folder the command was given."""
    return open_workspace(ctx.obj["folder"], watch=watch)


def as_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False))


def say(text: str = "") -> None:
    """Print a line."""
    print(text, flush=True)


def step(progress: Progress) -> None:
    """Print the progress of a run, a line a step, on standard error."""
    if progress.state == "started":
        if sys.stderr.isatty():
            print(f"  … {progress.step}  ({progress.reason})", end="\r", file=sys.stderr, flush=True)
        return
    mark = {"done": "✓", "reused": "=", "failed": "✗"}[progress.state]
    note = "not changed, reused" if progress.state == "reused" else f"{progress.seconds:.2f} s, {progress.reason}"
    print(
        f"  {mark} {progress.step:<22} {note}\033[K" if sys.stderr.isatty() else f"  {mark} {progress.step:<22} {note}", file=sys.stderr, flush=True
    )


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows in aligned columns."""
    cells = [list(head), *[[("" if c is None else str(c)) for c in row] for row in rows]]
    if len(cells) == 1:
        return
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
