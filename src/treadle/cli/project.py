"""`treadle init` and `treadle run`."""

from __future__ import annotations

from pathlib import Path

import click

from treadle.cli import show
from treadle.core.clock import parse_time


@click.command(epilog="Example: treadle init --data churn.csv --target churned")
@click.argument("name", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="A CSV or Parquet file to write the project for.")
@click.option("--target", help="The column to predict (with --data).")
@click.pass_context
def init(ctx: click.Context, name: str | None, data: Path | None, target: str | None) -> None:
    """Write a new project into the folder NAME (or the one given by -C).

    Without --data it is a small example that runs at once. With --data and --target the file is inspected and the project fits it.
    """
    folder = Path(ctx.obj["folder"]) / name if name else Path(ctx.obj["folder"])
    if data is not None and target is None:
        raise click.UsageError("--data needs --target, the column to predict.")
    if data is None and target is not None:
        raise click.UsageError("--target needs --data, the file that has the column.")
    from treadle.data.write_project import write_blank, write_project

    if data is not None:
        from treadle.data.profile import profile

        found = profile(data, target)
        written = write_project(folder, found, data)
        task = found.target.task if found.target else "none"
        show.say(f"{found.rows:,} rows, {len(found.columns)} columns; target {target!r}: {task}.")
        for column in found.columns:
            if column.left_out:
                show.say(f"  left out: {column.name}: {column.left_out}")
        for warning in found.warnings:
            show.say(f"  note: {warning}")
    else:
        written = write_blank(folder, name or folder.resolve().name)
    for path in written:
        show.say(f"wrote {path}")
    show.say(f"Next: treadle -C {folder} run" if str(folder) != "." else "Next: treadle run")


@click.command(epilog="Example: treadle run late-arrival --as-of 2013-04-01")
@click.argument("model", default="")
@click.option("--as-of", metavar="TIME", help="Use only rows whose truth was known by then.")
@click.option("--until", default="", metavar="STEP", help="Stop after this step.")
@click.option("--plan", is_flag=True, help="Say what would run and why, and run nothing.")
@click.option("--json", "json_", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def run(ctx: click.Context, model: str, as_of: str | None, until: str, plan: bool, json_: bool) -> int:
    """Take the data's version, compute features, search and train, judge by the gates, and register the version.

    What has not changed since the last run is not done again; the same command after a crash goes on where it stopped.
    """
    from treadle.registry import promote, versions
    from treadle.turn import already, build, turn

    ws = show.workspace(ctx, watch=None if json_ else show.step)
    declared = ws.model(model)
    moment = parse_time(as_of) if as_of else None
    deployed = promote.deployment(declared.name, ws.ledger)
    champion = versions.get(declared.name, deployed["champion"], ws.ledger) if deployed else None
    cause = {"kind": "person", "id": "", "text": f"treadle run by {ws.actor}"}
    if plan:
        champion = None if already(ws, declared, as_of=moment) is not None else champion  # a version that stands is not judged again
        steps = ws.runner().plan(
            f"{ws.project.name}.{declared.name}", build(ws, declared, as_of=moment, settings=None, champion=champion, cause=cause)
        )
        if json_:
            show.as_json(steps)
        else:
            show.table(["step", "", "why"], [(s["step"], "reuse" if s["fresh"] else "run", s["reason"]) for s in steps])
        return 0
    if not json_:
        show.say(f"{ws.project.name}: {declared.name}")
    made = None if until else already(ws, declared, as_of=moment)
    if made is not None:
        if json_:
            show.as_json(
                {
                    "run": made["run"],
                    "version": made.id,
                    "status": made["status"],
                    "verdict": made["verdict"],
                    "metrics": made["evaluation"]["metrics"],
                }
            )
        else:
            show.say("nothing has changed since this version was made")
            _verdict(made)
        return 0 if made["verdict"]["passed"] else 4
    outcome = turn(ws, declared, cause=cause, as_of=moment, champion=champion, until=until)
    if until:
        show.say(f"ran up to {until}; run {outcome.run.id}")
        return 0
    made = versions.get(declared.name, outcome["register"]["number"], ws.ledger)
    if json_:
        show.as_json(
            {
                "run": outcome.run.id,
                "version": made.id,
                "status": made["status"],
                "verdict": made["verdict"],
                "metrics": made["evaluation"]["metrics"],
            }
        )
    else:
        _verdict(made)
        show.say(f"run {outcome.run.id}")
    return 0 if made["verdict"]["passed"] else 4


def _verdict(made: object) -> None:
    from treadle.core.records import Record

    assert isinstance(made, Record)
    e = made["evaluation"]
    m = e["metrics"]["model"][e["primary"]]
    interval = f" ({m['low']:.3f} to {m['high']:.3f})" if m["low"] is not None else ""
    shown = "n/a" if m["value"] is None else f"{m['value']:.3f}{interval}"
    show.say(f"version {made['number']}: {made['family']}, {e['primary']} {shown} on {e['rows']:,} rows no search has seen")
    for finding in made["verdict"]["findings"]:
        show.say(f"  {'passed' if finding['passed'] else 'FAILED'}  {finding['gate']:<15} {finding['reason']}")
    show.say("verdict: may go to production" if made["verdict"]["passed"] else "verdict: REFUSED; it cannot be promoted")
