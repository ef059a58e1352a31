"""`treadle audit`: who did what about which thing and when; as a list, as a file; and whether the log is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from treadle.cli import show
from treadle.core.errors import Corrupt, StorageError, UsageError

if TYPE_CHECKING:
    from treadle.report.audit import Filter


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--until", default="", metavar="TIME", help="Before this time."),
        click.option("--since", default="", metavar="TIME", help="From this time on."),
        click.option("--about", default="", metavar="KIND[/ID]", help="Only about this thing, such as run/last, or things of this kind."),
        click.option("--what", multiple=True, metavar="EVENT", help="Only these: deployment.promoted, or all that begin so: deployment."),
        click.option("--who", default="", metavar="NAME", help="Only what this person, or treadle itself, did."),
    ):
        command = option(command)
    return command


@click.group(epilog="Example: treadle audit list --who ann --what deployment.")
def audit() -> None:
    """The audit log: list, filter, export, verify."""


@audit.command("list", epilog="Example: treadle audit list --who ann --since 2026-03-01")
@_filters
@click.option("--before", type=click.IntRange(min=1), help="Only entries with a smaller number: the next page.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def list_(
    ctx: click.Context, who: str, what: Sequence[str], about: str, since: str, until: str, before: int | None, limit: int, json_: bool
) -> None:  # fmt: skip
    """List entries, newest first."""
    from treadle.report.audit import entry, page

    ws = show.workspace(ctx)
    found, more = page(ws.ledger, _chosen(ws, who, what, about, since, until), before=before, limit=limit)
    if json_:
        show.as_json({"entries": [entry(event) for event in found], "before": more})
        return
    show.table(
        ["entry", "time", "who", "what", "about", "says"],
        [(e.seq, e.time[:19], e.actor, e.kind, str(e.subject), _says(dict(e.body))) for e in found],
    )
    if not found:
        show.say("no entries")
    if more is not None:
        show.say(f"older ones: --before {more}")


@audit.command("export", epilog="Example: treadle audit export --since 2026-01-01 --out audit.csv")
@_filters
@click.option("--format", "format_", type=click.Choice(["jsonl", "csv"]), help="By the name of --out if not given, else jsonl.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file to write; printed if not given.")
@click.pass_context
def export(
    ctx: click.Context, who: str, what: Sequence[str], about: str, since: str, until: str, format_: str | None, out: Path | None
) -> None:  # fmt: skip
    """Write entries, oldest first, as lines of JSON with their hashes, or as CSV whose cells are no formulas."""
    from treadle.report import audit as room

    ws = show.workspace(ctx)
    format_ = format_ or ("csv" if out is not None and out.suffix.lower() == ".csv" else "jsonl")
    pieces = room.export(ws.ledger, _chosen(ws, who, what, about, since, until), format=format_)
    if out is None:
        for piece in pieces:
            click.echo(piece, nl=False)
        return
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        os.replace(temporary, out)
    except OSError as error:
        raise StorageError(f"{out.name} cannot be written: {error.strerror or error}.", where=str(out), hint="Name another file.") from None
    finally:
        with suppress(OSError):
            temporary.unlink()
    show.say(f"audit log: {out}")


@audit.command("verify", epilog="Example: treadle audit verify")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def verify(ctx: click.Context, json_: bool) -> int:
    """Compute every entry's hash again, from the first to the last. Ends with code 7 where one is not as it was written."""
    from treadle.report import audit as room

    said = room.verify(show.workspace(ctx).ledger)
    if json_:
        show.as_json(said)
        return 0 if said["whole"] else Corrupt.exit_code
    if not said["whole"]:
        raise Corrupt(
            f"Entry {said['broken_at']} of the audit log is missing, moved or changed since it was written.",
            hint="Entries before it are as they were written; compare with a backup or an export.",
        )
    show.say(f"{said['entries']:,} entries, the chain of hashes is whole" + (f"; last hash {said['last_hash']}" if said["entries"] else ""))
    return 0


def _chosen(ws: Any, who: str, what: Sequence[str], about: str, since: str, until: str) -> Filter:
    from treadle.core.clock import iso, parse_time
    from treadle.report.audit import Filter

    kind, slash, id = about.partition("/")
    if slash and not (kind and id):
        raise UsageError(f"--about {about!r} names nothing.", hint="Write KIND, or KIND/ID such as run/last.")
    if (kind, id) == ("run", "last"):
        from treadle.pipelines.lookup import find_run

        id = find_run(id, ws.ledger).id
    begin, end = (iso(parse_time(moment)) if moment else "" for moment in (since, until))
    return Filter(tuple(what), who, kind, id, begin, end)


def _says(body: dict[str, Any]) -> str:
    text = ", ".join(f"{name}={value}" for name, value in body.items() if value not in ("", None, [], {}))
    return text if len(text) <= 120 else text[:119] + "…"
