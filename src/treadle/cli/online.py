"""`treadle materialise` and `treadle online`."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from treadle.cli import show
from treadle.core.clock import iso, parse_time
from treadle.core.errors import UsageError

if TYPE_CHECKING:
    from treadle.pipelines.run import Progress

NOTES = 10.0  # seconds between two lines about a step that goes on


@click.command(epilog="Example: treadle materialise weather --from 2026-01-01 --to 2026-02-01")
@click.argument("view", default="")
@click.option("--from", "since", metavar="TIME", help="Only rows that became known after this moment.")
@click.option("--to", "until", metavar="TIME", help="Values as known at this moment; now, if not given.")
@click.option("--exact", is_flag=True, help="Also remove what a fresh store would not have.")
@click.option("--follow", is_flag=True, help="Go on until stopped by hand: rows are pushed as they arrive in the view's source.")
@click.option("--every", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="Seconds between looks (with --follow).")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def materialise(ctx: click.Context, view: str, since: str | None, until: str | None, exact: bool, follow: bool, every: float, json_: bool) -> None:
    """Bring the online store to what is known now, of one view or of all. Values there are never replaced by older ones."""
    from treadle.features.latest import incremental
    from treadle.wheel.materialise import follow as follow_
    from treadle.wheel.materialise import materialise as fill
    from treadle.wheel.materialise import note_stale, view_of

    if follow and (since or until or exact):
        raise UsageError("--follow goes with neither --from, --to nor --exact.")
    begin, end = _moment(since), _moment(until)
    if begin and end and begin >= end:
        raise UsageError(f"--from {since} is not before --to {until}.")
    with show.opened(ctx) as ws:
        ws.watch = None if json_ else _noted()
        views = [view_of(ws, view)] if view or not ws.project.views else list(ws.project.views.values())
        if follow:
            while True:
                for v in views:
                    if incremental(v):
                        pushed = follow_(ws, v)
                        if pushed.rows and not json_:
                            show.say(f"{v.name}: {pushed.rows:,} rows, {pushed.set_aside:,} set aside, {pushed.written:,} newer values")
                    else:
                        filled = fill(ws, v)
                        if filled.written and not json_:
                            show.say(f"{v.name}: {filled.written:,} newer values")
                note_stale(ws, views)
                time.sleep(every)
        said: list[dict[str, Any]] = []
        for v in views:
            shown = 0.0
            begun = time.perf_counter()

            def progress(rows: int, name: str = v.name) -> None:
                nonlocal shown
                if not json_ and time.perf_counter() - shown > 2:
                    show.say(f"{name}: {rows:,} rows read")
                    shown = time.perf_counter()

            shown = begun
            done = fill(ws, v, since=begin, until=end, exact=exact, progress=progress)
            seconds = time.perf_counter() - begun
            said.append({
                "view": done.view, "moment": iso(done.moment), "entities": done.entities, "written": done.written, "removed": done.removed,
                "rows": done.rows, "how": done.how, "seconds": round(seconds, 3),
            })  # fmt: skip
            if not json_:
                gone = f", {done.removed:,} removed" if done.removed else ""
                show.say(f"{v.name}: {done.written:,} newer values of {done.entities:,} entities{gone} ({done.how}; {seconds:.1f} s)")
        note_stale(ws, views)
        if json_:
            show.as_json(said)


@click.command(epilog="Example: treadle online --json")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def online(ctx: click.Context, json_: bool) -> None:
    """Say what the online store holds: of each view how many entities, how fresh, and whether that is too old."""
    from treadle.wheel.materialise import KIND, note_stale, standing

    ws = show.workspace(ctx)
    found = [standing(ws, view) for view in ws.project.views.values()]
    note_stale(ws, ws.project.views.values())
    records = {s.view: ws.ledger.get(KIND, s.view) for s in found}
    if json_:
        show.as_json([
            {"view": s.view, "entities": s.entities, "newest": iso(s.newest) if s.newest else None, "age": s.age, "limit": s.limit, "stale": s.stale,
             "version": r["version"] if (r := records[s.view]) else None, "materialised": r["moment"] if r else None}
            for s in found
        ])  # fmt: skip
        return
    rows = [
        (s.view, f"{s.entities:,}", iso(s.newest)[:19].replace("T", " ") if s.newest else "-", length(s.age), length(s.limit),
         "TOO OLD" if s.stale else "empty" if not s.entities else "fresh" if s.limit else "", r["version"] if (r := records[s.view]) else "-")
        for s in found
    ]  # fmt: skip
    show.table(["view", "entities", "newest", "age", "limit", "", "data version"], rows)


def length(seconds: float | None) -> str:
    """Seconds in the largest unit that fits."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _noted() -> Callable[[Progress], None]:
    """Says how far the reading of a large source is."""
    told = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal told
        if progress.state == "note" and time.monotonic() - told >= NOTES:
            told = time.monotonic()
            show.say(f"{progress.step}: {progress.reason}")

    return tell


def _moment(text: str | None) -> datetime | None:
    return parse_time(text) if text else None
