"""`treadle feast import` and `treadle feast export`."""

from __future__ import annotations

from pathlib import Path

import click

from treadle.cli import show
from treadle.core.errors import Conflict
from treadle.project_file import PROJECT_FILE


@click.group(epilog="Example: treadle feast import ../features --python feast/bin/python")
def feast() -> None:
    """Take feature views over from a Feast repository, or give ours to one. Feast itself runs in its own environment."""


@feast.command("import", epilog="Example: treadle -C new feast import ../features --python feast/bin/python --values")
@click.argument("repository", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--python", default="python3", show_default=True, metavar="PATH", help="The Python that Feast is installed in.")
@click.option("--values", is_flag=True, help="Copy what Feast's online store (SQLite, Redis) holds into ours.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="The file to write; project.py of the project folder, if not given.")
@click.pass_context
def import_(ctx: click.Context, repository: Path, python: str, values: bool, out: Path | None) -> None:
    """Write a project file that declares what a Feast repository does: sources in files, entities, views, ttl."""
    from treadle.stacks.feast_import import project_of, values_of

    folder = Path(ctx.obj["folder"])
    target = out or folder / PROJECT_FILE
    if target.exists() and not values:
        raise Conflict(f"{target} exists.", hint="Name another file with --out, or add --values to copy the values of the views it declares.")
    if not target.exists():
        made = project_of(repository.resolve(), python)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(made.text, "utf-8")
        show.say(f"{target}: {len(made.views)} views: {', '.join(made.views) or 'none'}")
        for what in made.left:
            show.say(f"  not taken over: {what}")
    if values:
        ws = show.workspace(ctx)
        for view, entries in values_of(repository.resolve(), python, ws.project.views):
            show.say(f"{view}: {ws.online.put_many(entries):,} of {len(entries):,} values were newer than ours")


@feast.command(epilog="Example: treadle feast export feast-repository && cd feast-repository && feast apply")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--redis", default="", metavar="HOST:PORT", help="The Redis of Feast's online store; a SQLite file, if not given.")
@click.pass_context
def export(ctx: click.Context, folder: Path, redis: str) -> None:
    """Write the views as a Feast repository: their histories as Parquet, and the definitions."""
    from treadle.stacks.feast_export import export as write
    from treadle.wheel.materialise import histories

    with show.opened(ctx) as ws:
        written = write(ws.project.name, histories(ws, list(ws.project.views.values())), folder.resolve(), online=redis or "sqlite")
        for path in written:
            show.say(str(path))
        show.say(f"next: cd {folder} && feast apply && feast materialize-incremental $(date -u +%Y-%m-%dT%H:%M:%S)")
