"""`treadle replay` and `treadle watch`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from treadle.cli import show
from treadle.core.clock import parse_time


@click.command(epilog="Example: treadle replay late-arrival --from 2013-04-01 --to 2013-07-01 --sample 8")
@click.argument("model", default="")
@click.option("--from", "start", metavar="TIME", help="The first moment; what the first version had seen ends there if not given.")
@click.option("--to", "end", metavar="TIME", help="Stop before this moment; after the last row if not given.")
@click.option("--sample", type=click.IntRange(min=1), default=8, show_default=True, help="Ask about every n-th row. All rows feed the features.")
@click.option("--again", is_flag=True, help="Replay once more although it is finished.")
@click.option("--json", "json_", is_flag=True, help="Print the replay's record as JSON.")
@click.pass_context
def replay(ctx: click.Context, model: str, start: str | None, end: str | None, sample: int, again: bool, json_: bool) -> None:
    """Live through recorded history: requests in order over HTTP, outcomes when they became known, the loop turning once a day.

    Stopped, it goes on where it was when it is started again.
    """
    from treadle.replay import Progress
    from treadle.replay import replay as live

    ws = show.workspace(ctx)
    shown = {"month": ""}
    begun = time.perf_counter()

    def tell(progress: Progress) -> None:
        if json_:
            return
        if progress.did:
            show.say(f"  {progress.moment:%Y-%m-%d}  {progress.did}")
        elif sys.stderr.isatty():
            print(
                f"  {progress.moment:%Y-%m-%d}  {progress.sent:,} requests, {progress.outcomes:,} outcomes\033[K",
                end="\r",
                file=sys.stderr,
                flush=True,
            )
        elif f"{progress.moment:%Y-%m}" != shown["month"]:
            shown["month"] = f"{progress.moment:%Y-%m}"
            print(f"  {progress.moment:%Y-%m-%d}  {progress.sent:,} requests, {progress.outcomes:,} outcomes", file=sys.stderr, flush=True)

    record = live(
        ws,
        ws.model(model),
        start_at=parse_time(start) if start else None,
        end=parse_time(end) if end else None,
        sample=sample,
        again=again,
        tell=tell,
    )
    if json_:
        show.as_json({"id": record.id, **record.body})
    else:
        show.say(f"replayed {record['start'][:10]} to {record['end'][:10]}: {record['sent']:,} requests, {record['outcomes']:,} outcomes, "
                 f"{record['seconds']:.1f} s in all, {time.perf_counter() - begun:.1f} s now")  # fmt: skip


@click.command(epilog="Example: treadle watch late-arrival --follow")
@click.argument("model", default="")
@click.option("--follow", is_flag=True, help="Go on until stopped by hand.")
@click.option("--every", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds between looks (with --follow).")
@click.option("--metrics", type=click.Path(path_type=Path), help="After each look, write every watched number there for Prometheus (text format).")
@click.option("--json", "json_", is_flag=True, help="Print the open alarms as JSON.")
@click.pass_context
def watch(ctx: click.Context, model: str, follow: bool, every: float, metrics: Path | None, json_: bool) -> None:
    """Judge what the endpoint answered: drift, quality, calibration. Raise alarms, and react to them as the project says.

    Each look first reads the data again where they changed, and brings the feature values the endpoint looks up to what is known now.
    """
    from treadle.core.errors import ProjectError
    from treadle.live.deploy import refresh
    from treadle.monitoring import alarms
    from treadle.monitoring.figures import figures
    from treadle.reactions import step

    ws = show.workspace(ctx)
    declared = ws.model(model)
    if ws.watch_of(declared) is None:
        raise ProjectError(f"The project does not watch model {declared.name!r}.", where=declared.place, hint="Add: project.watch(model)")
    while True:
        written = refresh(ws, declared)
        if written and not json_:
            show.say(f"{written:,} newer feature values in the online store")
        did = step(ws, declared, (lambda line: None) if json_ else show.say)
        if metrics is not None:
            show.write_whole(figures(ws.project.watches, ws.ledger, ws.clock), metrics)
        if not follow:
            break
        time.sleep(every)
    found = [*alarms.open_alarms(declared.name, ws.ledger), *(a for a in alarms.open_data_alarms(ws.ledger) if alarms.concerns(a, declared))]
    if json_:
        show.as_json([{"id": a.id, **a.body} for a in found])
    else:
        if not did:
            show.say("nothing new")
        show.table(["alarm", "kind", "since", "what"], [(a.id, a["kind"], a["raised"][:16], a["sentence"]) for a in found])
