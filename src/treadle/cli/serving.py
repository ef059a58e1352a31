"""`treadle deploy`, `treadle predict`, and what is done to a deployment: `treadle rollout`, `treadle rollback` and `treadle stop`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from treadle.cli import show
from treadle.core.clock import parse_time
from treadle.core.errors import NotFound, UsageError


@click.command(epilog="Example: treadle deploy late-arrival --port 8765")
@click.argument("model", default="")
@click.option("--version", "number", type=int, help="The version; the newest approved one if not given.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=None, help="The port to listen on; a free one if neither this, the project nor the settings say."
)
@click.option("--now", is_flag=True, help="Replace the champion at once instead of going through shadow and canary.")
@click.option("--at", metavar="TIME", help="Fill the online store as of this moment (for a replay).")
@click.option("--json", "json_", is_flag=True, help="Print the endpoint's record as JSON.")
@click.pass_context
def deploy(ctx: click.Context, model: str, number: int | None, port: int | None, now: bool, at: str | None, json_: bool) -> None:
    """Prove that serving equals training, fill the online store, and start the endpoint's process.

    Only a version that passed its gates can be deployed. A second version first runs in shadow beside the champion.
    """
    from treadle.live.deploy import deploy as start

    ws = show.workspace(ctx)
    record = start(
        ws,
        ws.model(model),
        number=number,
        now=now,
        port=port or 0,
        at=parse_time(at) if at else None,
        tell=(lambda line: None) if json_ else show.say,
    )
    if json_:
        show.as_json({"model": record.id, **record.body})
    else:
        show.say(f"POST {record['url']}/predict    (fields: GET {record['url']}/signature)")


@click.command(epilog='Example: treadle predict --row \'{"carrier": "UA", "origin": "EWR", "dest": "SFO", "distance": 2565}\'')
@click.argument("model", default="")
@click.option("--row", help="One row as a JSON object.")
@click.option("--file", type=click.Path(path_type=Path), help="A file with one JSON object, or a list of them; '-' for standard input.")
@click.option("--sample", is_flag=True, help="Take a row of the data set.")
@click.pass_context
def predict(ctx: click.Context, model: str, row: str | None, file: Path | None, sample: bool) -> None:
    """Ask the running endpoint for a prediction and print its answer as JSON."""
    from treadle.live.deploy import connect, running_endpoint

    ws = show.workspace(ctx)
    declared = ws.model(model)
    if sum(map(bool, (row, file, sample))) != 1:
        raise click.UsageError("Give one of --row, --file and --sample.")
    running = running_endpoint(ws, declared.name)
    if running is None:
        raise NotFound(f"No endpoint of {declared.name!r} runs.", hint=f"Start it with: treadle deploy {declared.name}")
    endpoint = connect(ws, running["url"])
    if sample:
        rows: Any = _sample(ws, declared.name, endpoint)
        from treadle.core.masking import masked_row, personal_columns

        print(f"row: {json.dumps(masked_row(rows, personal_columns(ws.project.datasets.values())))}", file=sys.stderr)
    else:
        text = row if row is not None else sys.stdin.read() if str(file) == "-" else _read(Path(str(file)))
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise UsageError(f"The row is not JSON: {error}.", hint='Write for example --row \'{"carrier": "UA"}\'.') from None
    show.as_json(endpoint.predict_many(rows) if isinstance(rows, list) else endpoint.predict(rows))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None


def _sample(ws: Any, model: str, endpoint: Any) -> dict[str, Any]:
    """The first row of the data set whose moment the online store is at, or simply the last row."""
    import polars as pl

    from treadle.data import versions
    from treadle.features.parity import request_of

    declared = ws.model(model)
    version = versions.newest(declared.rows.name, ws.ledger)
    if version is None:
        raise NotFound(f"The data set {declared.rows.name!r} has no version yet.", hint="Run: treadle run")
    rows = ws.tables.scan(version.address)
    moment = declared.rows.event_time
    newest = [t for v in declared.views if (t := ws.online.newest(v.name)) is not None]
    if moment and newest:
        rows = rows.filter(pl.col(moment).cast(pl.Int64) >= max(newest))
    taken = rows.head(1).collect()
    fields = [f["name"] for f in endpoint.signature()["fields"]]
    return request_of(
        taken.row(0, named=True) if taken.height else ws.tables.scan(version.address).tail(1).collect().row(0, named=True), fields
    )


@click.command(epilog='Example: treadle rollback late-arrival --reason "it refuses every night flight"')
@click.argument("model", default="")
@click.option("--reason", required=True, help="Why; it is recorded with your name.")
@click.option("--to", "number", type=int, help="The version that is to answer; the one before if not given.")
@click.option("--json", "json_", is_flag=True, help="Print the deployment as JSON.")
@click.pass_context
def rollback(ctx: click.Context, model: str, reason: str, number: int | None, json_: bool) -> None:
    """Take out the version that was brought in last: a challenger, or else the champion, whose place the one before it takes.

    It is in effect within seconds, also when the endpoint hangs. The version that went is not deployed again.
    """
    from treadle.live.switch import rollback as back

    ws = show.workspace(ctx)
    done = back(ws, ws.model(model), reason, to=number, tell=(lambda line: None) if json_ else show.say)
    switched(done, json_)


@click.command(epilog='Example: treadle stop late-arrival --kill --reason "wrong prices reach customers"')
@click.argument("model", default="", metavar="[MODEL|RUN]")
@click.option("--kill", is_flag=True, help="The kill switch: predictions are refused within seconds, until treadle resume.")
@click.option("--reason", default="", help="Why; it is recorded with your name. The kill switch needs one.")
@click.pass_context
def stop(ctx: click.Context, model: str, kill: bool, reason: str) -> None:
    """Ask the endpoint's process to finish what it answers, write its log, and leave.

    With --kill the process stays and refuses predictions (503), whatever is deployed, until a person says otherwise.
    With the id of a run, or `last`, stop that run; what had finished is kept.
    """
    ws = show.workspace(ctx)
    if model and model not in ws.project.models and (model == "last" or ws.ledger.get("run", model) is not None):
        from treadle.pipelines.lookup import find_run
        from treadle.pipelines.stopping import stop as stop_run

        run = find_run(model, ws.ledger)
        now = stop_run(run, ws.ledger, ws.clock, by=ws.actor, reason=reason)
        show.say(f"run {run.id} is told to stop" if now == "stopping" else f"run {run.id} is stopped")
        show.say(f"Go on with: treadle resume {run.id}")
        return
    declared = ws.model(model)
    if kill:
        from treadle.live.switch import stop as kill_switch

        done = kill_switch(ws, declared, reason)
        says = done.record["stopped"]
        show.say(f"{declared.name} is stopped by {says['by']}: {says['reason']}")
        switched(done, False)
        show.say(f"Go on with: treadle resume {declared.name} --reason TEXT")
        return
    from treadle.live.deploy import stop as end

    pid = end(ws, declared.name)
    show.say(f"the endpoint of {declared.name} (process {pid}) has stopped")


def switched(done: Any, json_: bool) -> None:
    """Print what a switch did, and how soon."""
    if json_:
        show.as_json({"model": done.record.id, **done.record.body, "seconds": round(done.seconds, 3), "how": done.how})
    else:
        show.say(f"in effect after {done.seconds:.2f} s: {done.how}")


@click.command(epilog="Example: treadle rollout late-arrival")
@click.argument("model", default="")
@click.option("--json", "json_", is_flag=True, help="Print it as JSON.")
@click.pass_context
def rollout(ctx: click.Context, model: str, json_: bool) -> None:
    """Say how a challenger, or a new champion on trial, stands: its stage, and what the evidence says now. Changes nothing."""
    from treadle.live.deploy import missed, running_endpoint
    from treadle.live.rollout import judged
    from treadle.registry import promote

    ws = show.workspace(ctx)
    declared = ws.model(model)
    now = promote.required(declared.name, ws.ledger)
    not_open = missed(running_endpoint(ws, declared.name))
    decision = None if now["stage"] == "none" else judged(ws, declared, now)
    if json_:
        found = {"action": decision.action, "reason": decision.reason, "evidence": decision.evidence} if decision else None
        show.as_json({"model": declared.name, **now.body, "decision": found, "missed": not_open})
        return
    if now.get("stopped"):
        show.say(f"{declared.name} was stopped by {now['stopped']['by']} on {now['stopped']['at'][:16]}: {now['stopped']['reason']}")
    others = {"trial": f"on trial; version {now.get('beside')} is kept beside it", "none": "alone"}
    beside = others.get(now["stage"]) or f"with version {now['challenger']} in {now['stage']} ({now['share']:.0%} of the requests)"
    show.say(f"version {now['champion']} {'answers' if not not_open else 'should answer'} {beside}, since {now['since'][:16]}")
    for sentence in not_open.values():
        show.say(sentence)
    if decision is not None:
        show.say(f"now: {decision.action}: {decision.reason}")
        for name, value in decision.evidence.items():
            show.say(f"  {name:<12} {value}")
    if now["previous"]:
        show.say(f"to go back to: version {now['previous'][-1]} (treadle rollback {declared.name} --reason TEXT)")
