"""`treadle graph`: a run's graph with its times, or what a run would do, as one page."""

from __future__ import annotations

import re
from pathlib import Path

import click

from treadle.cli import show


@click.command(epilog="Example: treadle graph nightly --out nightly.html")
@click.argument("target", default="", metavar="[RUN|MODEL|PIPELINE]")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A parameter of the pipeline; may be given several times.")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write (default: report-graph-TARGET.html).")
@click.option("--json", "json_", is_flag=True, help="Print what the page shows as JSON instead.")
@click.pass_context
def graph(ctx: click.Context, target: str, given: tuple[str, ...], out: Path | None, json_: bool) -> None:
    """Write one self-contained HTML page of a run: its graph, when each step ran and what it waited for, what the cache saved, logs.

    Given a model or a pipeline, the page shows what a run would do now, and why; nothing is run. Without either it is the newest run.
    """
    from treadle.core.errors import UsageError
    from treadle.pipelines.run import mark_interrupted
    from treadle.report.graph import graph_of
    from treadle.report.page import write_graph

    params = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r} has no value.", hint="Write NAME=VALUE.")
        params[name] = value
    ws = show.workspace(ctx)
    mark_interrupted(ws.ledger, ws.clock)
    if params and ws.ledger.get("run", target) is not None:
        raise UsageError(f"{target} is a run: its parameters are what they were.", hint="Give --set with the name of a pipeline.")
    collected = graph_of(ws, target, params)
    if json_:
        show.as_json(collected)
        return
    name = collected["run"]["id"] if collected["run"] else collected["target"]["name"]
    path = out or ws.folder / f"report-graph-{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}.html"
    show.say(f"graph: {write_graph(collected, path)}")
