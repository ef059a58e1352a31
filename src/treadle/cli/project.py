"""`treadle init` and `treadle run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from treadle.assemble import Workspace
from treadle.cli import show, told
from treadle.core.clock import parse_time
from treadle.core.masking import personal_columns
from treadle.core.records import Record
from treadle.pipelines.run import Outcome


@click.command(epilog="Example: treadle init --data churn.csv --target churned")
@click.argument("name", required=False)
@click.option("--data", type=click.Path(path_type=Path), help="A file to write the project for: CSV, Parquet, or JSON lines.")
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


@click.command(epilog="Example: treadle run nightly --set parts=a,b")
@click.argument("target", default="", metavar="[MODEL|PIPELINE]")
@click.option("--set", "assigned", multiple=True, metavar="NAME=VALUE", help="Give a parameter of the pipeline a value. Can be given several times.")
@click.option("--as-of", metavar="TIME", help="Use only rows whose truth was known by then (models).")
@click.option("--until", default="", metavar="STEP", help="Stop after this step.")
@click.option("--executor", default="", metavar="ADDRESS", help="Where the steps run, instead of the setting; for example 'processes:'.")
@click.option("--json", "json_", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def run(ctx: click.Context, target: str, assigned: Sequence[str], as_of: str | None, until: str, executor: str, json_: bool) -> int:
    """Run a pipeline; or turn the wheel for a model: take the data's version, compute features, search and train, judge by the gates, register.

    What has not changed since the last run is not done again; the same command after a crash goes on where it stopped. `treadle plan` says before
    what would run and why.
    """
    from treadle.cli.live import following
    from treadle.wheel.start import only, start

    params = show.assignments(assigned)
    moment = parse_time(as_of) if as_of else None
    with show.opened(ctx, executor=executor) as ws:
        name = target or only(ws)
        declared = ws.project.models.get(name)
        if not json_ and (declared is not None or name in ws.project.pipelines):
            with show.unheard():
                show.say(f"{ws.project.name}: {name}")
        if declared is not None and not until and not params:
            from treadle.wheel.turn import already

            made = already(ws, declared, as_of=moment)
            if made is not None:
                return version_made(made, made["run"], json_, first="nothing has changed since this version was made")
        cause = {"kind": "person", "id": "", "text": f"treadle run by {ws.actor}"}
        with following(json_) as ws.watch:
            outcome = start(ws, name, cause=cause, params=params, as_of=moment, until=until)
        return ended(ws, outcome, json_, until)


def ended(ws: Workspace, outcome: Outcome, json_: bool, until: str = "") -> int:
    """Say what came of a run; returns the exit code: 4 for a version that is refused and a run that was rejected."""
    with show.unheard():
        return _ended(ws, outcome, json_, until)
    return 4 if outcome.run["status"] == "rejected" else 0


def _ended(ws: Workspace, outcome: Outcome, json_: bool, until: str) -> int:
    run = outcome.run
    if run.get("model") and not until and "register" in outcome.stored:
        from treadle.registry import versions

        return version_made(versions.get(run["model"], outcome["register"]["number"], ws.ledger), run.id, json_)
    from treadle.pipelines import approvals

    personal = personal_columns(ws.project.datasets.values())
    waits = approvals.waiting(ws.ledger, run.id) if run["status"] == "waiting" else []
    if json_:
        show.as_json({
            "run": run.id, "target": run.get("pipeline") or run.get("model"), "status": run["status"], "value": told.as_data(outcome, personal),
            "counts": run["counts"], "seconds": run["seconds"], "cpu": run["cpu"], "error": run.get("error", ""),
            "waiting": [{"step": a["step"], "question": a["question"]} for a in waits],
        })  # fmt: skip
        return 4 if run["status"] == "rejected" else 0
    if until:
        show.say(f"ran up to {until}; run {run.id}")
        return 0
    value = told.in_words(outcome, personal)
    if value and run["status"] == "done":
        show.say(f"returned {value}")
    show.say(f"run {run.id}: {run['status']}; {told.counted(run['counts'])}; {run['seconds']:.1f} s, CPU {run['cpu']:.1f} s")
    for asked in waits:
        show.say(f"  {asked['step']} asks: {asked['question']}")
        shown = told.shows(asked, ws)
        if shown:
            show.say(f"    it shows {shown}")
        show.say(f"    treadle approve {run.id} {asked['step']} --resume      (or --reject --reason TEXT)")
    return 4 if run["status"] == "rejected" else 0


def version_made(made: Record, run: str, json_: bool, first: str = "") -> int:
    """Say which version came of a model's run."""
    if json_:
        show.as_json({
            "run": run, "version": made.id, "status": made["status"], "verdict": made["verdict"], "metrics": made["evaluation"]["metrics"],
        })  # fmt: skip
    else:
        if first:
            show.say(first)
        _verdict(made)
        if not first:
            show.say(f"run {run}")
    return 0 if made["verdict"]["passed"] else 4


def _verdict(made: Record) -> None:
    e = made["evaluation"]
    m = e["metrics"]["model"][e["primary"]]
    interval = f" ({m['low']:.3f} to {m['high']:.3f})" if m["low"] is not None else ""
    shown = "n/a" if m["value"] is None else f"{m['value']:.3f}{interval}"
    show.say(f"version {made['number']}: {made['family']}, {e['primary']} {shown} on {e['rows']:,} rows no search has seen")
    for finding in made["verdict"]["findings"]:
        mark = "waits " if finding.get("waits") else "passed" if finding["passed"] else "FAILED"
        show.say(f"  {mark}  {finding['gate']:<15} {finding['reason']}")
    waits = any(finding.get("waits") for finding in made["verdict"]["findings"])
    may = f"may go to production when others have approved it: treadle approve {made.id}" if waits else "may go to production"
    show.say(f"verdict: {may}" if made["verdict"]["passed"] else "verdict: REFUSED; it cannot be promoted")
