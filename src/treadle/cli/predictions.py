"""`treadle predictions`: the prediction log in bulk."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from treadle.assemble import Workspace
from treadle.cli import show
from treadle.core.clock import parse_time, span
from treadle.core.errors import Conflict, UsageError

_ENDS = (".parquet", ".csv", ".jsonl")


@click.group(invoke_without_command=True, epilog="Example: treadle predictions compact --older-than 7d")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def predictions(ctx: click.Context, json_: bool) -> None:
    """Say how long the prediction log of each model is; export a range, move closed days into files of columns, drop what is old."""
    if ctx.invoked_subcommand is not None:
        return
    ws = show.workspace(ctx)
    segments: list[Any] = getattr(ws.predictions, "segments", list)()
    said = []
    for model in ws.project.models:
        logged, known = ws.predictions.count(model)
        moved = [s for s in segments if s.model == model]
        newest = ws.predictions.last(model)
        said.append({
            "model": model, "predictions": logged, "with_outcome": known, "in_files": sum(s.rows for s in moved), "files": len(moved),
            "newest": _moment(newest[0].answered) if newest else "",
        })  # fmt: skip
    strays = ws.predictions.strays()
    if json_:
        show.as_json({"models": said, "outcomes_without_a_prediction": strays})
        return
    show.table(list(said[0]) if said else [], [list(row.values()) for row in said])
    if strays:
        show.say(f"{strays:,} outcomes are of ids that no prediction has")


@predictions.command("export", epilog="Example: treadle predictions export --from 2013-05-01 --to 2013-06-01 --out may.parquet")
@click.argument("model", default="")
@click.option("--from", "since", default="", metavar="TIME", help="Predictions of this moment or later.")
@click.option("--to", "until", default="", metavar="TIME", help="Predictions of before this moment.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A file that ends in .parquet, .csv or .jsonl.")
@click.option("--unmasked", is_flag=True, help="Write the values of personal columns instead of what sort they are.")
@click.pass_context
def export(ctx: click.Context, model: str, since: str, until: str, out: Path, unmasked: bool) -> None:
    """Write predictions of a range of time, with the outcome that counts, as a table. Memory does not grow with the range."""
    import polars as pl

    from treadle.core.masking import personal_columns
    from treadle.registry import versions
    from treadle.serving.log_table import SCHEMA, tables
    from treadle.serving.requests import micros

    if out.suffix not in _ENDS:
        raise UsageError(f"{out.name} names no kind of file.", hint=f"End it in {', '.join(_ENDS)}.")
    if out.exists():
        raise Conflict(f"{out.name} is there already.", where=str(out.parent), hint="Give another --out; nothing is written over.")
    out = out.absolute()
    ws = show.workspace(ctx)
    name = ws.model(model).name
    start, end = micros(parse_time(since)) if since else -(1 << 62), micros(parse_time(until)) if until else 1 << 62
    known = versions.all_versions(name, ws.ledger)
    labels = {int(v["number"]): _labels(ws, v) for v in known}
    personal = None if unmasked else personal_columns(ws.project.datasets.values())
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = 0
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".treadle-export-") as scratch:
        parts: list[Path] = []
        for frame in tables(ws.predictions, name, start, end, labels, personal):
            parts.append(Path(scratch) / f"{len(parts):06}.parquet")
            frame.write_parquet(parts[-1], compression="lz4")
            rows += frame.height
        scan = pl.scan_parquet([str(p) for p in parts], glob=False) if parts else pl.LazyFrame(schema=SCHEMA)
        whole = Path(scratch) / f"whole{out.suffix}"
        if out.suffix == ".parquet":
            scan.sink_parquet(whole, compression="zstd")
        elif out.suffix == ".csv":
            lists = [pl.col(c).cast(pl.List(pl.String)).list.join(";") for c in ("told", "output", "other_output")]
            scan.with_columns(lists).sink_csv(whole)
        else:
            scan.sink_ndjson(whole)
        whole.rename(out)
    show.say(f"{rows:,} predictions of {name}: {out}")


def _labels(ws: Workspace, version: Any) -> list[Any]:
    from treadle.registry import packages

    return list(packages.open_package(version["package"], ws.blobs, ws.shelf)[1]["labels"])


@predictions.command("compact", epilog="Example: treadle predictions compact --older-than 7d")
@click.option("--older-than", default="", metavar="AGE", help="Days that ended so long ago are moved; else as declared, or 2d.")
@click.pass_context
def compact(ctx: click.Context, older_than: str) -> None:
    """Move closed days out of the database into compressed files of columns. Whoever reads the log sees no difference; outcomes still may come."""
    ws = show.workspace(ctx)
    age = older_than or max((log.files_after for log in ws.project.logs.values()), default=timedelta(days=2))
    moved = _log(ws).compact(_before(ws, age), lambda s: show.say(f"{s.model} {_moment(s.start)[:10]}: {s.rows:,} predictions"))
    show.say(f"{moved:,} predictions moved")


@predictions.command("drop", epilog="Example: treadle predictions drop --older-than 400d --yes")
@click.option("--older-than", default="", metavar="AGE", help="Days that ended so long ago go, with outcomes; else as declared.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.pass_context
def drop(ctx: click.Context, older_than: str, yes: bool) -> None:
    """Drop old predictions and their outcomes for good."""
    from treadle.core.records import Ref

    ws = show.workspace(ctx)
    kept = [log.keep for log in ws.project.logs.values() if log.keep is not None]
    if not older_than and len(kept) < max(1, len(ws.project.models)):
        raise UsageError("How old? Not every model declares it.", hint="Give --older-than, or declare project.log(model, keep=...).")
    before = _before(ws, older_than or max(kept))
    if not yes:
        click.confirm(f"Drop all predictions of before {_moment(before)[:10]}? It cannot be undone", abort=True)
    dropped = _log(ws).drop(before)
    ws.ledger.append("predictions.dropped", Ref("predictions", "log"), {"before": _moment(before), "predictions": dropped}, actor=ws.actor)
    show.say(f"{dropped:,} predictions dropped")


def _log(ws: Workspace) -> Any:
    log = ws.predictions
    if not hasattr(log, "compact"):
        raise UsageError("This prediction log is in memory: nothing of it is moved or dropped.", hint="Set `predictions` to sqlite: or postgresql:.")
    return log


def _before(ws: Workspace, age: str | timedelta) -> int:
    from treadle.serving.requests import micros

    length = span(age) if isinstance(age, str) else age
    if length < timedelta(0):
        raise UsageError(f"{age!r} is no age.")
    return micros(ws.clock.now() - length)


def _moment(at: int) -> str:
    from treadle.backends.moments import from_micros

    return str(from_micros(at))
