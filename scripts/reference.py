"""Writes docs/reference/ and the table in docs/how-to/settings.md from the code itself. With --check it only says whether they are up to date."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import treadle
from treadle.cli.main import COMMANDS, cli
from treadle.core import errors
from treadle.core.declare.data import Contract, Dataset, View
from treadle.core.declare.model import Model
from treadle.core.declare.operations import Serve, Watch
from treadle.core.declare.project import Project
from treadle.core.declare.schedule import Schedule
from treadle.core.schema import Column
from treadle.settings import TABLE
from treadle.web.console.table import OPERATIONS

ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Written by scripts/reference.py from the code. Do not edit; run: make docs -->"
BEGIN, END = "<!-- begin: written by scripts/reference.py -->", "<!-- end -->"
GROUPS = {
    "project": "The project",
    "source": "Sources",
    "data": "Data",
    "treadle.data.odcs": "Contract files",
    "datasheet": "Datasheets",
    "features": "Features from the request",
    "model": "Models, splits and gates",
    "operations": "Production",
    "schedule": "Schedules",
}
MEANINGS = (Contract, Column, Dataset, View, Model, Serve, Watch, Schedule)


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or with --check return 1 if a page on disk differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is out of date")
    given = parser.parse_args(arguments)
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is out of date' if given.check else 'written'}")
        if not given.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(pages()[path], "utf-8")
    if stale and given.check:
        print("Run: make docs")
    return 1 if stale and given.check else 0


def pages() -> dict[Path, str]:
    """Every generated page: its path and its text."""
    how_to = ROOT / "docs" / "how-to" / "settings.md"
    return {
        ROOT / "docs" / "reference" / "cli.md": commands_page(),
        ROOT / "docs" / "reference" / "settings.md": settings_page(),
        ROOT / "docs" / "reference" / "api.md": api_page(),
        ROOT / "docs" / "reference" / "http-api.md": http_page(),
        how_to: between(how_to.read_text("utf-8"), settings_table()),
    }


def between(text: str, table: str) -> str:
    """The text with what stands between the two markers replaced."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"


def settings_table() -> str:
    """The settings as a Markdown table."""
    lines = [f"| `{name}` | `TREADLE_{name.upper()}` | {code(default)} | {cell(sentence)} |" for name, (default, sentence) in TABLE.items()]
    return "\n".join(["| setting | environment variable | default | meaning |", "|---|---|---|---|", *lines])


def settings_page() -> str:
    """docs/reference/settings.md"""
    return "\n".join(
        [NOTE, "", "# Settings", "", inspect.cleandoc(importlib.import_module("treadle.settings").__doc__ or ""), "", settings_table(), "",
         "See [how to set them](../how-to/settings.md).", ""]
    )  # fmt: skip


def commands_page() -> str:
    """docs/reference/cli.md"""
    lines = [NOTE, "", "# Commands", "", "Options of `treadle` itself stand before the command: `treadle -C FOLDER run`.", ""]
    root = click.Context(cli, info_name="treadle", **cli.context_settings)
    lines += [*options_table(cli, root), "", "| command | what it does |", "|---|---|"]
    lines += [f"| [`{name}`](#treadle-{name}) | {cell(line)} |" for name, (_, line) in COMMANDS.items()]
    for name in COMMANDS:
        lines += ["", *command(name, root)]
    lines += ["", "## Exit codes", "", "Every command ends with one of these.", "", *exit_codes(), ""]
    return "\n".join(lines)


def command(name: str, root: click.Context) -> Iterator[str]:
    """One command: usage, meaning, options, example."""
    found = cli.get_command(root, name)
    assert found is not None
    context = click.Context(found, info_name=name, parent=root)
    yield from (f"## treadle {name}", "", f"    treadle {name} {' '.join(found.collect_usage_pieces(context))}", "")
    yield from inspect.cleandoc(found.help or "").splitlines()
    yield from ("", *options_table(found, context))
    for verb in found.commands.values() if isinstance(found, click.Group) else ():
        inner = click.Context(verb, info_name=verb.name, parent=context)
        yield from ("", f"### treadle {name} {verb.name}", "", f"    treadle {name} {verb.name} {' '.join(verb.collect_usage_pieces(inner))}", "")
        yield from (*inspect.cleandoc(verb.help or "").splitlines(), "", *options_table(verb, inner))
    if found.epilog:
        yield from ("", "Example:", "", f"    {found.epilog.removeprefix('Example: ')}")


def http_page() -> str:
    """docs/reference/http-api.md"""
    head = (
        "Below `/api/v1` of a console; lists take `limit` and `after`, and what each takes and gives stands in `GET /api/v1/openapi.json`. "
        "See [the console](../how-to/console.md)."
    )
    lines = [NOTE, "", "# The HTTP API", "", head, "", "| operation | | path | permission | what it does |", "|---|---|---|---|---|"]
    lines += [f"| `{o.name}` | {o.method} | `{o.path}` | `{o.permission}` | {cell(o.summary)} |" for o in OPERATIONS]
    return "\n".join([*lines, ""])


def options_table(found: click.Command, context: click.Context) -> list[str]:
    """The options of a command as a Markdown table."""
    lines = ["| option | meaning |", "|---|---|"]
    for option in found.get_params(context):
        if isinstance(option, click.Option):
            value = "" if option.is_flag or option.count else f" {value_of(option, context)}"
            default = f" Default: {option.default}." if option.show_default and option.default is not None else ""
            lines.append(f"| {code(', '.join(option.opts) + value)} | {cell(option.help or '')}{default} |")
    return lines


def value_of(option: click.Option, context: click.Context) -> str:
    """What an option takes, in one word."""
    if isinstance(option.type, click.IntRange | click.FloatRange) and option.metavar is None:
        low, high = option.type.min, option.type.max
        return f"{low}..{high}" if high is not None else f"N (at least {low})"
    return "N" if isinstance(option.type, click.types.IntParamType) and option.metavar is None else option.make_metavar(context)


def exit_codes() -> list[str]:
    """The exit codes of the error tree, each with the errors that have it."""
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.TreadleError)]
    lines = ["| code | when | error codes |", "|---|---|---|", "| 0 | It was done. | |"]
    for number in sorted({k.exit_code for k in kinds}):
        mine = [k for k in kinds if k.exit_code == number and k is not errors.TreadleError]
        said = [first_paragraph(k) for k in mine if k.__mro__[1] is errors.TreadleError]
        failed = ["Anything else failed."] if number == errors.TreadleError.exit_code else []
        lines.append(f"| {number} | {cell(' '.join([*said, *failed]))} | {', '.join(f'`{k.code}`' for k in mine)} |")
    return lines


def api_page() -> str:
    """docs/reference/api.md"""
    about = "`import treadle as tr` gives these names. Everything else is inside the house and may change."
    lines = [NOTE, "", "# The names of a project file", "", about, ""]
    for group, title in GROUPS.items():
        lines += [f"## {title}", ""]
        for name, module in treadle._FACE.items():
            if module == group:
                lines += thing(f"tr.{name}", getattr(treadle, name))
    lines += ["## What declarations mean", "", "The arguments above make these; you do not make them yourself, except `tr.Contract`.", ""]
    for kind in MEANINGS:
        if kind is not Contract:
            lines += [f"### {kind.__name__}", "", *prose(kind), ""]
    return "\n".join(lines).rstrip() + "\n"


def thing(name: str, value: Any) -> list[str]:
    """A name of the face: its signature and its docstring; of the project, its verbs too."""
    lines = [f"### {name}", "", "```python", signature(name, value), "```", "", *prose(value), ""]
    if value is Project:
        for verb, function in vars(Project).items():
            if inspect.isfunction(function) and not verb.startswith("_"):
                lines += thing(f"project.{verb}", function)
    return lines


def signature(name: str, value: Any) -> str:
    """A call as one would write it, wrapped when it is long."""
    found = inspect.signature(value)
    body: list[str] = []
    starred = False
    for p in (p for p in found.parameters.values() if p.name != "self"):
        if p.kind is p.KEYWORD_ONLY and not starred:
            body.append("*")
            starred = True
        mark = {p.VAR_KEYWORD: "**", p.VAR_POSITIONAL: "*"}.get(p.kind, "")
        default = "" if p.default is p.empty else f" = {p.default!r}".replace("<factory>", "{}")
        body.append(f"{mark}{p.name}: {plain(p.annotation)}{default}")
    returns = "" if isinstance(value, type) or found.return_annotation is found.empty else f" -> {plain(found.return_annotation)}"
    line = f"{name}({', '.join(body)}){returns}"
    return line if len(line) <= 100 else "\n".join([f"{name}(", *(f"    {entry}," for entry in body), f"){returns}"])


def plain(annotation: Any) -> str:
    """An annotation without the names of modules of the house."""
    return re.sub(r"\b(m|ops)\.", "", str(annotation))


def prose(value: Any) -> list[str]:
    """A docstring as Markdown: paragraphs, and `Args:` as a list. Examples that run (`>>>`) become code."""
    lines: list[str] = []
    listed = example = False
    for line in (inspect.getdoc(value) or "").splitlines():
        if line.strip() == "Args:":
            listed = True
            lines += ["", "Arguments:", ""] if lines and lines[-1] else ["Arguments:", ""]
        elif listed and (match := re.match(r" {4}([*\w, ]+): (.*)", line)):
            lines.append(f"- {', '.join(f'`{n.strip()}`' for n in match[1].split(','))}: {match[2]}")
        elif listed and line.startswith(" " * 8):
            lines.append(f"  {line.strip()}")
        else:
            listed = listed and not line.strip()
            example = line.strip().startswith(">>>") or (example and bool(line.strip()))
            lines.append(f"    {line.strip()}" if example else line.strip())
    return [line.rstrip() for line in lines]


def first_paragraph(value: Any) -> str:
    """The first paragraph of a docstring in one line."""
    return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


def cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Text as code in a cell; nothing for nothing."""
    return f"`{cell(text)}`" if text else ""


if __name__ == "__main__":
    sys.exit(main())
